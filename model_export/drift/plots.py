"""The report's plots: SVG."""

import numpy as np

from model_bundle import drift
from model_export.drift.report import Compared
from model_export.plots import FAINT, INK, NEGATIVE, POSITIVE, canvas

_LONGEST = 22


def indices(compared: tuple[Compared, ...]) -> bytes:
    """Draw each population stability index, with what chance alone reaches."""
    shown = compared[::-1]
    names = [_short(each.name) for each in shown]
    values = np.array([each.judgement.index for each in shown])
    by_chance = np.array([each.judgement.chance for each in shown])
    with canvas("Population stability index", "", (10.1, 1.2 + 0.2 * len(names))) as (axes, svg):
        colors = [_color(each) for each in shown]
        axes.barh(names, values, color=colors, height=0.7)
        known = np.isfinite(by_chance)
        axes.plot(
            by_chance[known], np.flatnonzero(known), "|", color=INK, markersize=9, label="chance reaches"
        )
        for limit, style in ((drift.MODERATE, ":"), (drift.GREAT, "--")):
            axes.axvline(limit, color=INK, linestyle=style, linewidth=1.2, label=f"{limit:g}")
        # One that is far off must not make the others invisible.
        axes.set_xscale("symlog", linthresh=drift.GREAT, linscale=2)
        axes.set_xlim(0, max(1.0, 1.15 * float(values.max())))
        ticks = [0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.5, 1, 2, 5, 10, 20]
        axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        axes.set_xticks([], minor=True)
        axes.set_xlim(0, max(1.0, 1.15 * float(values.max())))
        axes.grid(visible=False, axis="y")
        axes.margins(y=0.01)
        axes.tick_params(axis="y", length=0)
        axes.legend(loc="lower right", frameon=True, edgecolor="none")
    return svg.getvalue()


def shares(compared: Compared) -> bytes:
    """Draw the shares of the reference's bins, in the reference and in the rows."""
    before, now = compared.histogram.counts, compared.counts
    used = (before > 0) | (now > 0)
    names = [_short(name) for name, there in zip(compared.histogram.bins(), used, strict=True) if there]
    places = np.arange(len(names))
    with canvas("", "Share of rows") as (axes, svg):
        for counts, color, label, offset in (
            (before, FAINT, "reference", -0.2),
            (now, _color(compared), "rows", 0.2),
        ):
            axes.bar(places + offset, counts[used] / max(counts.sum(), 1), 0.4, color=color, label=label)
        # Of many bins every other is named, and the last.
        step = 1 + len(names) // 13
        kept = [*range(0, len(names) - step, step), len(names) - 1]
        axes.set_xticks(
            kept,
            [names[place] for place in kept],
            rotation=40,
            ha="right",
            rotation_mode="anchor",
            fontsize=7.5,
        )
        axes.grid(visible=False, axis="x")
        axes.legend(loc="best")
    return svg.getvalue()


def _color(compared: Compared) -> str:
    return {"great": POSITIVE, "moderate": "#b98a1c"}.get(compared.judgement.level, NEGATIVE)


def _short(name: str) -> str:
    return name if len(name) <= _LONGEST else name[: _LONGEST - 1] + "…"
