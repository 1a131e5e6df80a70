"""The end of the load lowers the replicas, and throughout Argo CD has called the Application Synced."""

from tests.cluster.scaling import Scaling


def test_the_end_of_the_load_lowers_the_replicas(scaling: Scaling) -> None:
    scaling.wait_for(2, seconds=180)
    scaling.end()
    assert {sync for sync, _ in scaling.seen} == {"Synced"}
    assert {health for _, health in scaling.seen} <= {"Healthy", "Progressing"}
