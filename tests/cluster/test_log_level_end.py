"""Every pod that ran before the commit logs at the level that it says, without a restart."""

from tests.cluster.kubernetes import until
from tests.cluster.level import Level


def test_every_pod_that_ran_logs_at_the_new_level(level: Level) -> None:
    seconds = until(
        "every pod logs at the new level",
        lambda: found if (found := level.reached()).keys() == level.pods.keys() else None,
        # The kubelet looks at a pod's ConfigMaps once in 60 to 90 s.
        seconds=120,
    )
    assert level.now() == level.pods
    print(", ".join(f"{each:.0f} s" for each in sorted(seconds.values())), "after the sync")


def test_at_info_pods_tell_of_no_call_while_all_are_answered(level: Level) -> None:
    for pod, records in level.records().items():
        assert records, pod
        assert [record for record in records if record["logger"] == "server.call_log"] == [], pod
