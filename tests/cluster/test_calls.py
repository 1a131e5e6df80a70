"""What clients saw of all that came before: every call that was sent is accounted for."""

import shutil
from collections import Counter
from pathlib import Path

from gitops.layout import PROD
from tests.cluster import report
from tests.cluster.accounting import account
from tests.cluster.audit import Audit
from tests.cluster.cycles import Run
from tests.cluster.system import System

_ROOT = Path(__file__).parents[2]
_REPORT = _ROOT / "build" / "cluster"


def test_every_call_was_answered_by_a_release_that_git_named(system: System) -> None:
    """Zero failures, but for the calls in flight on a process that was killed."""
    logs = [(client, client.end()) for client in system.clients]
    run = system.run()
    for file in report.write(_kept(system, run), _REPORT):
        print(file.relative_to(_ROOT))
    found = [(client, log, account(log, run.said(client.environment))) for client, log in logs]
    for client, _, result in found:
        print(f"{client.log.stem}: {result}")
    for client, log, result in found:
        assert result.closed, client.log.stem
        assert result.lost == (), client.log.stem
        assert result.wrong == (), client.log.stem
        failed = [call for call in log.calls if not call.answered]
        # Whoever makes calls again has none that fails.
        crashes = system.crashes if client.environment == PROD and not client.retries else []
        in_flight = [
            call for call in failed for begun, ended in crashes if call.sent <= ended and call.over >= begun
        ]
        assert failed == in_flight, client.log.stem


def test_every_answer_of_production_is_on_record(system: System) -> None:
    """No kill, drain or rollback costs the strict audit log a record of what was answered."""
    calls = [
        call
        for client in system.clients
        if client.environment == PROD
        for call in client.so_far().calls
        if call.answered
    ]
    answers = Counter((str(call.number), call.version, call.digest) for call in calls)
    audit = Audit(system)
    missing = answers - Counter(audit.decided(since=min(call.sent for call in calls)))
    assert not missing
    print(f"{answers.total()} answers on record; {audit.verify()}")


def _kept(system: System, run: Run) -> Path:
    """Keep what the report is made from, beside it."""
    _REPORT.mkdir(parents=True, exist_ok=True)
    for client in system.clients:
        shutil.copy(client.log, _REPORT)
    run.write(_REPORT / "run.json")
    return _REPORT / "run.json"
