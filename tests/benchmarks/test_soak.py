"""What counts as growth."""

from benchmarks.soak import Sample, growth


def _samples(*mebibytes: float) -> list[Sample]:
    return [Sample(float(number), size, "by position") for number, size in enumerate(mebibytes)]


def test_flat_memory_is_no_growth() -> None:
    assert growth(_samples(*[80.0, 90.0] * 60)) == 0


def test_a_warm_up_does_not_count() -> None:
    assert growth(_samples(*[float(size) for size in range(30)], *[30.0] * 90)) == 0


def test_one_peak_does_not_count() -> None:
    sizes = [80.0] * 120
    sizes[110] = 300.0
    assert growth(_samples(*sizes)) == 0


def test_steady_growth_is_found() -> None:
    grown = growth(_samples(*[80 + number / 10 for number in range(120)]))
    assert 5 < grown < 7
