"""The report says what the run's times and its callers' logs say."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.image import imread

from tests.cluster import report
from tests.cluster.accounting import Release
from tests.cluster.caller.call_log import Begin, Call, End
from tests.cluster.cycles import Caller, Cycle, Run

OLD, NEW, BAD = (Release(version, f"sha256:{version}") for version in ("1.0.0", "1.1.0", "1.2.0"))
_START = 1760000000.0


def _cycle(kind: str, release: Release, pushed: float, *marks: float) -> Cycle:
    return Cycle(kind, "prod", release, pushed, *(pushed + mark for mark in marks))


RUN = Run(
    "2 cores",
    {"prod": Caller("prod.log", OLD)},
    [
        _cycle("promotion", NEW, _START + 5, 1, 2, 4, 10, 20),
        _cycle("bad release", BAD, _START + 30, 1, 2),
        _cycle("plain revert", NEW, _START + 35, 1, 2, 4, 5, 6),
        _cycle("promotion", OLD, _START + 45, 1, 2, 6, 20, 21),
        _cycle("promotion", NEW, _START + 70, 1, 2, 5, 12, 20),
    ],
)


def _write(folder: Path, *, run: Run = RUN, failing: int | None = None) -> Path:
    """Write a run, and a log of ten calls a second, each answered by what had been ready last."""
    calls = []
    for number in range(1, 1001):
        sent = _START + number / 10
        ready = [cycle.release for cycle in run.cycles if (cycle.first_ready or sent) < sent]
        release = [OLD, *ready][-1]
        if number == failing:
            calls.append(Call(number, sent, 0.01, "UNAVAILABLE", details="gone"))
        else:
            calls.append(Call(number, sent, 0.01, "OK", release.version, release.digest))
    begin = Begin(_START, "dns:///name:50051", rate=10.0, deadline=1.0, retries=False)
    lines = [begin, *calls, End(_START + 101, 1000)]
    (folder / "prod.log").write_text("".join(f"{line}\n" for line in lines))
    run.write(folder / "run.json")
    return folder / "run.json"


def test_what_is_written_is_what_is_read(tmp_path: Path) -> None:
    assert Run.read(_write(tmp_path)) == RUN


def test_stages_lie_between_marks_and_their_shares_make_the_whole() -> None:
    promotions = [RUN.cycles[0], RUN.cycles[3], RUN.cycles[4]]
    stages = report.stages(promotions)
    assert [stage.mark for stage in stages] == ["noticed", "synced", "first_ready", "served", "gone"]
    assert [stage.seconds for stage in stages] == [
        [1, 1, 1],
        [1, 1, 1],
        [2, 4, 3],
        [6, 14, 7],
        [10, 1, 8],
    ]
    # 42 seconds in all.
    assert [stage.share for stage in stages] == pytest.approx([3 / 42, 3 / 42, 9 / 42, 27 / 42, None])


def test_a_sync_that_ends_after_the_pods_are_ready_stands_there() -> None:
    late = [_cycle("promotion", NEW, 0.0, 1, 9, 4, 7, 20), _cycle("promotion", NEW, 0.0, 1, 6, 4, 7, 20)]
    stages = report.stages(late)
    assert [stage.mark for stage in stages] == ["noticed", "first_ready", "served", "synced", "gone"]
    assert [stage.seconds for stage in stages] == [[1, 1], [3, 3], [3, 3], [2, -1], [11, 14]]
    assert sum(stage.share for stage in stages if stage.share) == pytest.approx(1)
    assert [stage.share is None for stage in stages] == [False, False, False, True, True]


def test_the_table_has_median_worst_and_share_and_every_call(tmp_path: Path) -> None:
    run = Run.read(_write(tmp_path))
    lines = report.table(run, run.accounts(tmp_path)).splitlines()
    assert lines[0] == "Measured on: 2 cores."
    promotion = lines.index("**promotion in prod**: 3 cycles")
    assert lines[promotion + 2 : promotion + 10] == [
        "| stage, from the push on | median, s | worst, s | share |",
        "|---|---:|---:|---:|",
        "| until noticed by Argo CD | 1.0 | 1.0 | 7% |",
        "| until synced | 1.0 | 1.0 | 7% |",
        "| until first new pod ready | 3.0 | 4.0 | 21% |",
        "| until all pods serve it | 7.0 | 14.0 | 64% |",
        "| **push to all pods serving it** | 12.0 | 20.0 | 100% |",
        "| until last old pod gone | 8.0 | 10.0 |  |",
    ]
    assert "**plain revert in prod**: 1 cycle" in lines
    assert "**bad release in prod**: 1 cycle, of which 1 never came to be served" in lines
    assert lines[-1] == "| prod | 1,000 | 1,000 | 0 | 0 | 0 | 1.0.0: 330, 1.1.0: 670 | 0.100 | 0.010 |"


def test_the_table_hides_no_failure_and_no_answer_that_git_did_not_say(tmp_path: Path) -> None:
    # The first promotion's old pods are said to be gone before the first new one was ready.
    early = replace(RUN, cycles=[replace(RUN.cycles[0], gone=_START + 8), *RUN.cycles[1:]])
    path = _write(tmp_path, run=early, failing=50)
    lines = path.with_name("prod.log").read_text().splitlines(keepends=True)
    path.with_name("prod.log").write_text("".join(line for line in lines if not line.startswith("70 ")))
    run = Run.read(path)
    table = report.table(run, run.accounts(tmp_path))
    assert "| prod | 1,000 | 998 | 1 UNAVAILABLE | 1 | 10 |" in table
    path.with_name("prod.log").write_text("".join(lines[:-1]))
    assert "| the log has no end |" in report.table(run, run.accounts(tmp_path))


def test_the_typical_cycle_is_the_median() -> None:
    promotions = [RUN.cycles[0], RUN.cycles[3], RUN.cycles[4]]
    assert report.typical(promotions) is RUN.cycles[4]
    assert report.typical(promotions[:2]) is RUN.cycles[0]


def _reds(path: Path) -> int:
    picture = imread(path)[..., :3]
    return int((np.abs(picture - to_rgb("#c0261d")).max(axis=-1) < 0.02).sum())


def test_a_timeline_for_each_kind_that_was_served_shows_failures_in_red(tmp_path: Path) -> None:
    written = report.write(_write(tmp_path), tmp_path / "report")
    assert [path.name for path in written] == ["cycles.md", "promotion-prod.png", "plain-revert-prod.png"]
    assert [_reds(path) for path in written[1:]] == [0, 0]
    # Call 800 falls into the third promotion, which is the typical one.
    written = report.write(_write(tmp_path, failing=800), tmp_path / "report")
    assert _reds(written[1]) > 50
    assert _reds(written[2]) == 0
