"""Production's audit log: pods write to a volume that they share, and one that is killed loses nothing."""

import re

import pytest

from gitops.layout import PROD
from tests.cluster.audit import Audit
from tests.cluster.system import System, namespace

_USER = 65532


def test_every_pod_writes_to_a_file_of_its_own_as_the_user_that_it_is(system: System) -> None:
    found = Audit(system).look()
    assert found["user"] == [_USER, _USER]
    # There is nowhere else that it could write.
    assert found["read_only"]
    open_ = {name: rest for name, rest in found["files"].items() if name.endswith(".open")}
    assert all(rest == [_USER, _USER, 0o640] for rest in open_.values())
    for pod in system.pods[PROD].serving():
        assert [name for name in open_ if pod.name in name], pod.name


def test_a_killed_process_leaves_whole_records_behind(system: System) -> None:
    restarted = [
        pod["metadata"]["name"]
        for pod in system.kubernetes.find("pods", namespace(PROD))
        for status in pod["status"]["containerStatuses"]
        if status["restartCount"]
    ]
    if not restarted:
        pytest.skip("no process was killed: FOREST_CLUSTER_NODE names no command for it")
    audit = Audit(system)
    files = audit.look()["files"]
    for pod in restarted:
        # The process that came after it has closed its file.
        assert sorted(name.rpartition(".jsonl")[2] for name in files if pod in name) == ["", ".open"]
    assert re.fullmatch(r"\d+ files, 0 lines that are no record", audit.verify())
