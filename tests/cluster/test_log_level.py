"""A commit changes the log's level, and makes no pod anew."""

from gitops.layout import PROD
from tests.cluster.level import CONFIG, Level
from tests.cluster.system import System, application, namespace


def test_it_changes_a_config_map_of_the_same_name_and_no_pod(system: System, level: Level) -> None:
    system.argocd.wait(application(PROD))
    assert system.kubernetes.get("configmap", CONFIG, namespace(PROD))["data"] == {"level": "debug"}
    assert system.replica_set(PROD) == level.replica_set
