"""The model card's plots: SVG, the same bytes for the same model."""

import io
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from model_export.calibration import Bin
from model_export.tally import Tally

if TYPE_CHECKING:
    from matplotlib.axes import Axes

POSITIVE, NEGATIVE, INK, FAINT = "#b4431f", "#2f6b4f", "#22302a", "#b9c3bd"
_GOLD = "#b98a1c"
_STYLE: Any = {
    "svg.hashsalt": "forest",
    "font.size": 9.5,
    "text.color": INK,
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e6ebe8",
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
}
_SIZE = (4.9, 3.4)
_POINTS = 1_500


@contextmanager
def drawing() -> Iterator[None]:
    """Make matplotlib ready for the functions below, and have it write nothing that stays.

    It keeps a list of fonts in a folder: here in one that is removed in the end. Settings that it finds are
    not used.
    """
    before = os.environ.get("MPLCONFIGDIR")
    with tempfile.TemporaryDirectory(prefix="forest-export-") as folder:
        os.environ["MPLCONFIGDIR"] = folder
        try:
            import matplotlib as mpl  # noqa: PLC0415

            with mpl.rc_context():
                mpl.rcdefaults()
                mpl.rcParams.update(_STYLE)
                yield
        finally:
            del os.environ["MPLCONFIGDIR"]
            if before is not None:
                os.environ["MPLCONFIGDIR"] = before


def precision_recall(tally: Tally, threshold: float) -> bytes:
    """Draw precision against recall, and the threshold's point."""
    with canvas("Recall", "Precision") as (axes, svg):
        precision, recall = tally.precision(), tally.recall()
        axes.step([0, *recall], [precision[0], *precision], where="pre", color=POSITIVE)
        share = tally.positives.sum() / (tally.positives.sum() + tally.negatives.sum())
        axes.axhline(share, color=FAINT, linestyle="--", linewidth=1.2, label="chance")
        _mark(axes, tally, threshold, recall, precision)
        axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.04))
        axes.legend(loc="lower left")
    return svg.getvalue()


def receiver_operating(tally: Tally, threshold: float) -> bytes:
    """Draw recall against the false positive rate, and the threshold's point."""
    with canvas("False positive rate", "True positive rate (recall)") as (axes, svg):
        rate, recall = tally.false_positives() / tally.negatives.sum(), tally.recall()
        axes.plot([0, *rate], [0, *recall], color=NEGATIVE)
        axes.plot([0, 1], [0, 1], color=FAINT, linestyle="--", linewidth=1.2, label="chance")
        _mark(axes, tally, threshold, rate, recall)
        axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.04))
        axes.legend(loc="lower right")
    return svg.getvalue()


def threshold_choice(tally: Tally, threshold: float) -> bytes:
    """Draw F1, precision and recall against the threshold."""
    with canvas("Threshold", "On rows out of bag") as (axes, svg):
        for name, values, color, width in (
            ("precision", tally.precision(), NEGATIVE, 1.2),
            ("recall", tally.recall(), _GOLD, 1.2),
            ("F1", tally.f1(), POSITIVE, 2.2),
        ):
            axes.step(tally.scores, values, where="post", color=color, linewidth=width, label=name)
        axes.axvline(threshold, color=INK, linewidth=1.2, linestyle=":", label=f"chosen: {threshold:.4f}")
        axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.04))
        axes.legend(loc="lower center", ncols=2)
    return svg.getvalue()


def scores(tally: Tally, threshold: float, labels: tuple[str, ...]) -> bytes:
    """Draw how many rows of either label have which score, on a logarithmic scale."""
    with canvas("Probability", "Rows of the test part") as (axes, svg):
        edges = np.linspace(0, 1, 41)
        for name, counts, color in (
            (labels[0], tally.negatives, NEGATIVE),
            (labels[1], tally.positives, POSITIVE),
        ):
            axes.hist(
                tally.scores,
                edges.tolist(),
                weights=counts,
                color=color,
                alpha=0.65,
                label=name,
                edgecolor="white",
            )
        axes.axvline(threshold, color=INK, linewidth=1.2, linestyle=":", label="threshold")
        axes.set_yscale("log", nonpositive="clip")
        axes.set(xlim=(-0.02, 1.02), ylim=(0.6, None))
        axes.legend(loc="upper right")
    return svg.getvalue()


def reliability(bins: list[Bin]) -> bytes:
    """Draw the observed share of positive rows against the mean probability."""
    with canvas("Mean probability", "Observed share") as (axes, svg):
        axes.plot([0, 1], [0, 1], color=FAINT, linestyle="--", linewidth=1.2, label="perfect")
        predicted = [item.predicted for item in bins]
        axes.vlines(
            predicted, [item.low for item in bins], [item.high for item in bins], color=POSITIVE, alpha=0.5
        )
        axes.plot(predicted, [item.observed for item in bins], "o", color=POSITIVE, label="95 % interval")
        axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.04))
        axes.legend(loc="upper left")
    return svg.getvalue()


def agreement(
    values: NDArray[np.float64],
    true: NDArray[np.float64],
    low: NDArray[np.float64],
    high: NDArray[np.float64],
) -> bytes:
    """Draw the true values against the forest's, with the intervals' ends; of many rows only some."""
    order = np.argsort(values, kind="stable")[:: max(len(values) // _POINTS, 1)]
    with canvas("The forest's value", "True value") as (axes, svg):
        axes.plot(values[order], true[order], ".", color=NEGATIVE, markersize=2.5, alpha=0.5)
        ends = float(min(values.min(), true.min())), float(max(values.max(), true.max()))
        axes.plot(ends, ends, color=INK, linewidth=1.2, label="right")
        for end, label in ((low, "interval"), (high, None)):
            axes.plot(values[order], end[order], ":", color=POSITIVE, linewidth=1.2, label=label)
        axes.legend(loc="upper left")
    return svg.getvalue()


def residuals(errors: NDArray[np.float64], coverage: float) -> bytes:
    """Draw the mean of each twentieth of the errors, and the quantiles that hold a share of them."""
    with canvas("Part of the test rows, in order", "True value less the forest's") as (axes, svg):
        parts = np.array_split(errors, min(20, len(errors)))
        place = (np.arange(len(parts)) + 0.5) / len(parts)
        tail = (1 - coverage) / 2
        low, high = np.array([np.quantile(part, (tail, 1 - tail)) for part in parts]).T
        axes.fill_between(place, low, high, color=NEGATIVE, alpha=0.2, linewidth=0)
        axes.plot(place, [float(part.mean()) for part in parts], "o-", color=NEGATIVE, markersize=4)
        axes.axhline(0, color=INK, linewidth=1.2)
        axes.set(xlim=(0, 1))
    return svg.getvalue()


def importances(names: list[str], values: NDArray[np.float64]) -> bytes:
    """Draw the features' importances, the greatest on top."""
    order = np.argsort(values, kind="stable")
    with canvas("Mean decrease in impurity", "", (10.1, 0.9 + 0.19 * len(names))) as (axes, svg):
        axes.barh([names[index] for index in order], values[order], color=NEGATIVE, height=0.7)
        axes.grid(visible=False, axis="y")
        axes.margins(y=0.01)
        axes.tick_params(axis="y", length=0)
    return svg.getvalue()


@contextmanager
def canvas(x: str, y: str, size: tuple[float, float] = _SIZE) -> Iterator[tuple["Axes", io.BytesIO]]:
    """Give axes to draw on, and a file that has the SVG afterwards."""
    from matplotlib.figure import Figure  # noqa: PLC0415

    figure = Figure(size, layout="constrained")
    axes = figure.add_subplot(xlabel=x, ylabel=y)
    svg = io.BytesIO()
    yield axes, svg
    figure.savefig(svg, format="svg", metadata={"Date": None, "Creator": None})


def _mark(axes: "Axes", tally: Tally, threshold: float, x: NDArray[Any], y: NDArray[Any]) -> None:
    called = int((tally.scores >= threshold).sum())
    if called:
        point = x[called - 1], y[called - 1]
        axes.plot(*point, "o", color=INK, markersize=6, label=f"threshold {threshold:.4f}", clip_on=False)
