"""Spans of staging's calls come to the collector in the namespace `monitoring`."""

from gitops.layout import STAGING
from tests.cluster.clone import MODEL
from tests.cluster.kubernetes import until
from tests.cluster.observers import collected
from tests.cluster.system import System

_PREDICT = "forest.v1.PredictionService/Predict"


def test_every_pod_sends_its_calls_with_their_phases(system: System) -> None:
    pods = {pod.name for pod in system.pods[STAGING].serving()}

    def traced() -> bool:
        spans = collected(system.kubernetes)
        phases: dict[str, set[str]] = {}
        for span in spans:
            phases.setdefault(span["parent"], set()).add(span["name"])
        complete = {
            pod
            for span in spans
            if span["name"] == _PREDICT and span["attributes"]["forest.model"] == MODEL
            if phases.get(span["span"], set()) == {"wait", "decode", "run", "encode"}
            for pod in pods
            if span["instance"].startswith(pod)
        }
        return complete == pods

    # One call in a hundred is traced.
    until("every pod has sent a call", traced, pause=1)
