import math

import pytest
from forest_client.summary import Latencies


def test_percentiles_are_right_to_one_percent():
    latencies = Latencies()
    for milliseconds in range(1, 1001):
        latencies.add(milliseconds / 1000)
    assert latencies.percentile(50) == pytest.approx(0.5, rel=0.01)
    assert latencies.percentile(99) == pytest.approx(0.99, rel=0.01)


def test_memory_does_not_grow_with_the_calls():
    latencies = Latencies()
    for index in range(200_000):
        latencies.add(1e-4 * (1 + index % 9973))
    assert len(vars(latencies)["_counts"]) < 500


def test_no_call():
    assert math.isnan(Latencies().percentile(50))
