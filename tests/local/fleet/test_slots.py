import numpy as np

from pipeline.local.fleet.slots import CONSTANT, learn_reading, numbers_of


def test_a_reading_is_found_by_the_number_that_it_follows_and_the_factor():
    content = {
        "type": "network_update",
        "payload": {
            "activeNodes": 24, "totalNodes": 25, "networkHealth": "healthy", "avgLatency": 20,
        },
        "timestamp": 1_767_604_530_000,
    }  # fmt: skip
    learned = learn_reading("/api/v11/live/stream", content)
    numbers = list(numbers_of(content))
    assert numbers == [24, 25, 20, 1_767_604_530_000]
    read = {
        (number, factor, constant)
        for number, factor, constant in zip(*(each.tolist() for each in learned), strict=True)
    }
    # Nodes as they are, milliseconds as seconds, and a word that means 1.
    assert read == {(0, 1.0, 24.0), (1, 1.0, 25.0), (2, 0.001, 0.02), (CONSTANT, 1.0, 1.0)}


def test_numbers_are_found_in_lists_and_among_words_and_truths():
    content = {"a": [1, {"b": 2.5, "c": "3", "d": True, "e": None}], "f": np.array([4.0, 5.0])}
    one, two, many = numbers_of(content)
    assert (one, two) == (1, 2.5)
    assert many.tolist() == [4.0, 5.0]
