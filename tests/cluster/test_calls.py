"""What clients saw of all that came before: every call that was sent is accounted for."""

from gitops.layout import PROD
from tests.cluster.accounting import account
from tests.cluster.system import System


def test_every_call_was_answered_by_a_release_that_git_named(system: System) -> None:
    """Zero failures, but for the calls in flight on a process that was killed."""
    logs = {client.log.stem: client.end() for client in system.clients}
    run = system.run()
    found = {client: account(log, run.said(client.environment)) for client, log in logs.items()}
    for client, result in found.items():
        print(f"{client.log.stem}: {result}")
    for client, result in found.items():
        assert result.closed, client.log.stem
        assert result.lost == (), client.log.stem
        assert result.wrong == (), client.log.stem
        failed = [call for call in logs[client].calls if not call.answered]
        if client.environment != PROD or client.retries:
            assert failed == [], client.log.stem
        in_flight = [
            call
            for call in failed
            for begun, ended in system.crashes
            if call.sent <= ended and call.over >= begun
        ]
        assert failed == in_flight, client.log.stem
