"""The table of detectors: the parameters they get, and what they are compiled with."""

from __future__ import annotations

import msgspec
import numpy as np

from pipeline.detect.robust import Robust
from pipeline.detect.table import compile_detector, default_detector
from pipeline.model import STALE
from pipeline.settings import DetectSettings


def test_the_default_detector_warms_up_as_long_as_the_settings_say():
    assert default_detector(DetectSettings(warmup_samples=7)) == Robust(warmup_samples=7)


class Recorder(Robust, frozen=True):
    """Notes what it was asked to score, instead of scoring it."""

    batches: list[dict[str, np.ndarray]] = msgspec.field(default_factory=list)

    def update(self, state, slots, times_ms, offsets, values, keep):
        self.batches.append(
            {
                "rows": state["rows"],
                "slots": slots,
                "times_ms": times_ms,
                "offsets": offsets,
                "values": values.copy(),
                "keep": keep,
                "writeable": np.array(values.flags.writeable),
            }
        )
        return np.zeros(len(values), dtype=np.float32)


def test_compiling_scores_one_missing_value_of_one_series_that_can_and_can_not_be_written_to():
    recorder = Recorder()
    compile_detector(recorder)
    assert [bool(batch["writeable"]) for batch in recorder.batches] == [True, False]
    for batch in recorder.batches:
        assert len(batch["rows"]) == 1
        assert batch["slots"].tolist() == [0]
        assert batch["times_ms"].shape == (1,)
        assert batch["offsets"].tolist() == [0, 1]
        assert batch["keep"].tolist() == [True]
        assert batch["values"].view(np.uint64).tolist() == STALE.view(np.uint64).tolist()


def test_compiling_is_for_the_types_that_the_worker_has():
    recorder = Recorder()
    compile_detector(recorder)
    for batch in recorder.batches:
        types = {name: batch[name].dtype for name in ("slots", "times_ms", "offsets", "keep")}
        assert types == {
            "slots": np.int32,
            "times_ms": np.int64,
            "offsets": np.int64,
            "keep": np.bool_,
        }
