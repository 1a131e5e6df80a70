"""Medians as bars, with each round as a dot."""

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

_OURS, _ECHO, _OTHERS = "#1b6e4b", "#b9c4be", "#7fa893"


def draw(rounds: Mapping[str, Sequence[float]], path: Path, unit: str) -> None:
    """Write a plot of what was measured, from the top down.

    Parameters
    ----------
    rounds
        Each subject's figures by its name.
    path
        The PNG file.
    unit
        What the figures are.
    """
    import matplotlib as mpl  # noqa: PLC0415

    mpl.use("agg")
    from matplotlib import pyplot  # noqa: PLC0415

    figure, axes = pyplot.subplots(figsize=(9, 0.36 * len(rounds) + 1.2), layout="constrained")
    greatest = max(max(figures) for figures in rounds.values())
    for place, (name, figures) in enumerate(rounds.items()):
        median = statistics.median(figures)
        color = _OURS if name.startswith("forest") else _ECHO if "echo" in name else _OTHERS
        axes.barh(place, median, color=color, height=0.7)
        axes.plot(figures, [place] * len(figures), "o", color="black", markersize=2.5, alpha=0.6)
        axes.text(max(figures) + greatest / 100, place, f"{median:,.0f}", va="center", fontsize=9)
    axes.set_yticks(range(len(rounds)), list(rounds), fontsize=9)
    axes.invert_yaxis()
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.set_xlabel(unit)
    axes.set_xlim(0, greatest * 1.12)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
