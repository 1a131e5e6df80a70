"""A run's report: how long each stage took, what became of every call, and a timeline of one cycle of a kind.

python -m tests.cluster.report build/cluster/run.json docs/cluster
"""

import argparse
import math
import statistics
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from tests.cluster.accounting import Account, Release, account, counts
from tests.cluster.cycles import Cycle, Run

_MARKS = {
    "noticed": "noticed by Argo CD",
    "synced": "synced",
    "first_ready": "first new pod ready",
    "served": "all pods serve it",
    "gone": "last old pod gone",
}
_NEW, _OLD, _OTHER, _FAILED, _INK = "#5fa583", "#cfd6d2", "#b98a1c", "#c0261d", "#22302a"
_WIDTHS = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0)


@dataclass(frozen=True, slots=True)
class Stage:
    """What lies between a mark and the one before it.

    Attributes
    ----------
    mark : str
        The field of `Cycle` that ends it.
    seconds : list of float
        How long it took, in each cycle.
    share : float or None
        Its part in the time from push to all pods; None if it comes after that.
    """

    mark: str
    seconds: list[float]
    share: float | None


def stages(cycles: list[Cycle]) -> list[Stage]:
    """Return what the time of cycles went into.

    Marks stand in the order of their medians: a sync that prunes in the end, for one, is over only when the
    new pods are ready.

    Parameters
    ----------
    cycles
        Those that came to be served, and at least one.
    """
    times = {mark: [getattr(cycle, mark) - cycle.pushed for cycle in cycles] for mark in _MARKS}
    marks = sorted(_MARKS, key=lambda mark: statistics.median(times[mark]))
    total = sum(times["served"])
    found = []
    before = [0.0] * len(cycles)
    for place, mark in enumerate(marks):
        seconds = [after - start for after, start in zip(times[mark], before, strict=True)]
        counted = place <= marks.index("served")
        found.append(Stage(mark, seconds, sum(seconds) / total if counted else None))
        before = times[mark]
    return found


def table(run: Run, accounts: dict[str, Account]) -> str:
    """Return the report in Markdown: a table of the stages for each kind of cycle, and one of the calls."""
    lines = [f"Measured on: {run.machine}.", ""]
    for (kind, environment), cycles in _kinds(run.cycles).items():
        complete = [cycle for cycle in cycles if _is_complete(cycle)]
        lines += [f"**{kind} in {environment}**: {_cycles(len(cycles))}", ""]
        if len(complete) < len(cycles):
            lines[-2] += f", of which {len(cycles) - len(complete)} never came to be served"
        if complete:
            lines += [*_stage_lines(complete), ""]
    lines += [
        "| calls to | sent | answered | failed | lost | by a release that Git did not say | by version "
        "| longest gap, s | slowest, s |",
        "|---|---:|---:|---:|---:|---:|---|---:|---:|",
        *(_call_line(environment, each) for environment, each in accounts.items()),
    ]
    return "\n".join(lines) + "\n"


def _kinds(cycles: Iterable[Cycle]) -> dict[tuple[str, str], list[Cycle]]:
    kinds: dict[tuple[str, str], list[Cycle]] = {}
    for cycle in cycles:
        # What was done by hand is no commit's way.
        if cycle.noticed is not None:
            kinds.setdefault((cycle.kind, cycle.environment), []).append(cycle)
    return kinds


def _is_complete(cycle: Cycle) -> bool:
    return all(getattr(cycle, mark) is not None for mark in _MARKS)


def _cycles(number: int) -> str:
    return f"{number} cycle" if number == 1 else f"{number} cycles"


def _stage_lines(cycles: list[Cycle]) -> list[str]:
    lines = ["| stage, from the push on | median, s | worst, s | share |", "|---|---:|---:|---:|"]
    for stage in stages(cycles):
        share = "" if stage.share is None else f"{stage.share:.0%}"
        lines.append(_stage_line(f"until {_MARKS[stage.mark]}", stage.seconds, share))
        if stage.mark == "served":
            total = [cycle.served - cycle.pushed for cycle in cycles if cycle.served is not None]
            lines.append(_stage_line("**push to all pods serving it**", total, "100%"))
    return lines


def _stage_line(name: str, seconds: list[float], share: str) -> str:
    return f"| {name} | {statistics.median(seconds):.1f} | {max(seconds):.1f} | {share} |"


def _call_line(environment: str, found: Account) -> str:
    failed = ", ".join(f"{count:,} {status}" for status, count in found.failed.items())
    lost = f"{len(found.lost):,}" if found.closed else "the log has no end"
    cells = (
        environment,
        f"{found.sent:,}",
        f"{found.answered:,}",
        failed or "0",
        lost,
        f"{len(found.wrong):,}",
        ", ".join(f"{release.version}: {count:,}" for release, count in found.answers.items()),
        f"{found.longest_gap.seconds:.3f}" if found.longest_gap else "",
        f"{found.slowest.seconds:.3f}" if found.slowest else "",
    )
    return f"| {' | '.join(cells)} |"


def typical(cycles: list[Cycle]) -> Cycle:
    """Return the cycle whose time from push to all pods is the median, or next below it."""
    ordered = sorted(cycles, key=lambda cycle: (cycle.served or math.inf) - cycle.pushed)
    return ordered[(len(ordered) - 1) // 2]


def plot(run: Run, folder: Path, cycle: Cycle, path: Path) -> None:
    """Draw a cycle's stages, and below them which version answered how many calls, over time.

    Parameters
    ----------
    run
        What the cycle is of.
    folder
        Where the callers' logs are.
    cycle
        One that came to be served.
    path
        The PNG file to write.
    """
    marks = {mark: getattr(cycle, mark) - cycle.pushed for mark in _MARKS}
    span = max(marks.values())
    margin = max(1.0, 0.06 * span)
    width = next((each for each in _WIDTHS if (span + 2 * margin) / each <= 120), _WIDTHS[-1])
    first = -math.ceil(margin / width)
    bins = math.ceil((span + margin) / width) - first
    begin = cycle.pushed + first * width
    log = run.log(cycle.environment, folder).between(begin, begin + bins * width)

    figure = Figure((9.5, 5.4), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[2, 3])
    _draw_stages(above, marks)
    found = account(log, run.said(cycle.environment))
    counted = counts(log.calls, begin, width, bins)
    _draw_calls(below, counted, first=first * width, width=width, new=cycle.release)
    for axes, order in ((above, 0), (below, 3)):
        axes.spines[["top", "right"]].set_visible(False)
        for seconds in (0.0, *marks.values()):
            axes.axvline(seconds, color=_INK, linewidth=0.8, linestyle=":", zorder=order)
    below.set(xlim=(first * width, (first + bins) * width), xlabel="seconds since the push")
    figure.suptitle(_title(run, cycle), fontsize=11, x=0.01, ha="left", color=_INK)
    _say_failures(below, found)
    figure.savefig(path, dpi=110)


def _draw_stages(axes: Any, marks: dict[str, float]) -> None:
    """Draw a bar for each stage, one below the other, with its name and how long it took."""
    ordered = sorted(marks, key=lambda mark: marks[mark])
    ends = [0.0, *(marks[mark] for mark in ordered)]
    for place, (mark, (start, end)) in enumerate(zip(ordered, pairwise(ends), strict=True)):
        counted = end <= marks["served"]
        axes.barh(place, end - start, left=start, height=0.6, color=_NEW if counted else _OLD)
        taken = f" (+{end - start:.1f})" if place else ""
        if end < 0.6 * ends[-1]:
            where, offset, side = end, 5, "left"
        else:
            # There is no room on its right: in the bar, or on its left.
            where, offset, side = (end if end - start > 0.35 * ends[-1] else start), -5, "right"
        axes.annotate(
            f"{_MARKS[mark]}  {end:.1f} s{taken}",
            (where, place),
            xytext=(offset, 0),
            textcoords="offset points",
            ha=side,
            va="center",
            fontsize=9,
            color=_INK,
            bbox={"facecolor": _OLD if where == end and side == "right" else "white", "lw": 0, "pad": 1.5},
        )
    axes.set_ylim(len(ordered) - 0.4, -0.6)
    axes.yaxis.set_visible(False)
    axes.spines["left"].set_visible(False)


def _draw_calls(
    axes: Any, counted: dict[Release | None, list[int]], *, first: float, width: float, new: Release
) -> None:
    """Draw calls a second as stacked bars: what is old below, then the cycle's release, then failures."""
    bins = max(map(len, counted.values()), default=0)
    places = [first + (number + 0.5) * width for number in range(bins)]
    bottom = [0.0] * bins
    others = [release for release in counted if release not in (new, None)]
    colors = dict(zip(others, (_OLD, *[_OTHER] * len(others)), strict=False))
    for release in (*others, new, None):
        if release not in counted:
            continue
        rates = [count / width for count in counted[release]]
        label = f"answers by {release.version}" if release else "failed"
        color = colors.get(release, _NEW) if release else _FAILED
        axes.bar(places, rates, width, bottom=bottom, color=color, label=label)
        bottom = [below + rate for below, rate in zip(bottom, rates, strict=True)]
        if release is None:
            # A failure among many answers would be too thin to be seen.
            failing = [
                (place, 1.04 * top) for place, top, rate in zip(places, bottom, rates, strict=True) if rate
            ]
            axes.plot(*zip(*failing, strict=True), "v", color=_FAILED, markersize=7, zorder=4)
    axes.set_ylabel("calls a second")
    axes.set_ylim(0, max(bottom, default=0) * 1.25 or 1)
    legend = axes.legend(
        loc="upper left", ncols=4, fontsize=9, framealpha=1, edgecolor="white", borderpad=0.2
    )
    legend.set_zorder(5)


def _say_failures(axes: Any, found: Account) -> None:
    failed, lost, wrong = sum(found.failed.values()), len(found.lost), len(found.wrong)
    text = (
        f"{found.sent:,} calls; failed: {failed or 'none'}, lost: {lost or 'none'}, "
        f"by a version that Git did not say: {wrong or 'none'}"
    )
    axes.annotate(
        text,
        (1, 1),
        xytext=(0, 3),
        xycoords="axes fraction",
        textcoords="offset points",
        ha="right",
        va="bottom",
        fontsize=9,
        color=_FAILED if failed or lost or wrong else _INK,
    )


def _title(run: Run, cycle: Cycle) -> str:
    place = run.cycles.index(cycle)
    earlier = [each.release for each in run.cycles[:place] if each.environment == cycle.environment]
    before = [run.callers[cycle.environment].release, *earlier][-1]
    seconds = (cycle.served or math.nan) - cycle.pushed
    return (
        f"{cycle.kind} in {cycle.environment}: {before.version} to {cycle.release.version}, "
        f"served by all pods {seconds:.1f} s after the push"
    )


def write(path: Path, folder: Path) -> list[Path]:
    """Write a run's report.

    Parameters
    ----------
    path
        The run's JSON file, with the callers' logs beside it.
    folder
        Where ``cycles.md`` goes, and ``<kind>-<environment>.png`` for each kind of cycle: the one whose time
        is the median.

    Returns
    -------
    list of Path
        The files written.
    """
    run = Run.read(path)
    folder.mkdir(parents=True, exist_ok=True)
    written = [folder / "cycles.md"]
    written[0].write_text(table(run, run.accounts(path.parent)))
    for (kind, environment), cycles in _kinds(run.cycles).items():
        if complete := [cycle for cycle in cycles if _is_complete(cycle)]:
            written.append(folder / f"{kind.replace(' ', '-')}-{environment}.png")
            plot(run, path.parent, typical(complete), written[-1])
    return written


def main() -> None:
    """Write the report of a run, and say where it is."""
    parser = argparse.ArgumentParser(description="Write a run's report: a table and timelines.")
    parser.add_argument("run", type=Path, metavar="RUN.json", help="what the run wrote")
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="where the report goes")
    arguments = parser.parse_args()
    for path in write(arguments.run, arguments.folder):
        print(path)


if __name__ == "__main__":
    main()
