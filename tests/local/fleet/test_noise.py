import numpy as np
import pytest

from pipeline.local.fleet.noise import Jitter, Waves, hashed, hashed_one, streams


def test_hash_is_splitmix64():
    # The first output of SplitMix64 seeded with 0, as its authors publish it: e220a8397b1dcdaf.
    published = 0xE220A8397B1DCDAF
    assert hashed_one(0, 0, 0) != 0.0
    state = published  # `_start` of seed 0, cell 0 is that output; stream 0 mixes it once more
    state = (state ^ (state >> 30)) * 0xBF58476D1CE4E5B9 & (2**64 - 1)
    state = (state ^ (state >> 27)) * 0x94D049BB133111EB & (2**64 - 1)
    state ^= state >> 31
    assert hashed_one(0, 0, 0) == (state >> 11) / 2**52 - 1.0


def test_array_and_single_hash_agree_and_streams_differ():
    many = hashed(7, streams(3, 50), 1234)
    assert many[0] == hashed_one(7, 3, 1234)
    assert len(set(many.tolist())) == 50
    assert many.min() >= -1.0
    assert many.max() < 1.0


def test_another_seed_or_cell_gives_other_numbers():
    base = hashed(7, streams(3, 5), 10)
    assert not np.any(base == hashed(8, streams(3, 5), 10))
    assert not np.any(base == hashed(7, streams(3, 5), 11))


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_jitter_rate_is_the_slope_of_its_integral(seed):
    jitter = Jitter(seed, streams(1, 4))
    for at in (0.2, 5.5, 1e6 + 0.25):
        slope = (jitter.integral(at + 0.1) - jitter.integral(at)) / 0.1
        np.testing.assert_allclose(slope, jitter.rate(at), atol=1e-6)
        assert np.all(np.abs(jitter.rate(at)) <= 1.0)


def test_jitter_integral_is_continuous_at_whole_seconds():
    jitter = Jitter(1, streams(1, 4))
    np.testing.assert_allclose(jitter.integral(7 - 1e-9), jitter.integral(7.0), atol=1e-7)


def test_waves_stay_within_one_and_their_integral_fits():
    waves = Waves(5, streams(1, 6), 60.0, 7200.0)
    times = np.arange(0.0, 20_000.0, 10.0)
    values = np.array([waves.value(at) for at in times])
    assert np.abs(values).max() <= 1.0
    assert values.std(axis=0).min() > 0.1
    trapezoids = (values[1:] + values[:-1]).sum(axis=0) * 5.0
    np.testing.assert_allclose(waves.integral(float(times[-1])), trapezoids, rtol=0.02, atol=5.0)
    np.testing.assert_array_equal(waves.integral(0.0), np.zeros(6))
