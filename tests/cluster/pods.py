"""What became of every pod of a model, as the API server told it: ready, ending, gone, and when."""

import json
import math
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from tests.cluster.kubernetes import Kubernetes, Object


@dataclass(frozen=True, slots=True)
class Pod:
    """One pod; times are in seconds since 1970, when this process was told.

    Attributes
    ----------
    template : str
        The hash of its template: which ReplicaSet it is of.
    image : str
        As its release names it.
    """

    name: str
    template: str
    image: str
    made: float
    ready: float | None = None
    unready: float | None = None
    ending: float | None = None
    gone: float | None = None

    @property
    def serving(self) -> bool:
        """Whether it takes new calls."""
        return self.ready is not None and self.unready is None and self.ending is None and self.gone is None


@dataclass
class Pods:
    """The pods of one model in one namespace, followed by a thread."""

    kubernetes: Kubernetes
    namespace: str
    selector: str
    _pods: dict[str, Pod] = field(default_factory=dict)
    _changed: threading.Condition = field(default_factory=threading.Condition)
    _process: subprocess.Popen[str] | None = None
    _closed: bool = False

    def __post_init__(self) -> None:
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._thread.start()

    def all(self) -> list[Pod]:
        """Return every pod that there ever was."""
        with self._changed:
            return list(self._pods.values())

    def serving(self) -> list[Pod]:
        """Return the pods that take new calls."""
        return [pod for pod in self.all() if pod.serving]

    def fewest_since(self, when: float) -> int:
        """Return how many pods took calls when there were fewest, from a time until now."""
        pods = self.all()

        def serving(moment: float) -> int:
            ends = [(pod.ready, pod.ending or pod.unready or pod.gone or math.inf) for pod in pods]
            return sum(ready is not None and ready <= moment < end for ready, end in ends)

        moments = [when, *(pod.ending or when for pod in pods), *(pod.unready or when for pod in pods)]
        return min(serving(moment) for moment in moments if moment >= when)

    def wait(self, what: str, reached: Callable[[list[Pod]], bool], seconds: float = 90) -> float:
        """Return the time at which the pods were as wanted."""
        deadline = time.monotonic() + seconds
        with self._changed:
            while not reached(list(self._pods.values())):
                left = deadline - time.monotonic()
                assert left > 0, (
                    f"not in {seconds:g} s: {what}; {[p for p in self._pods.values() if not p.gone]}"
                )
                self._changed.wait(min(left, 1))
            return time.time()

    def wait_for_image(self, image: str) -> float:
        """Return the time at which only pods of an image took new calls, and there were some."""
        return self.wait(
            f"only pods of {image}", lambda pods: {pod.image for pod in pods if pod.serving} == {image}
        )

    def close(self) -> None:
        """Stop following."""
        self._closed = True
        if self._process:
            self._process.terminate()
        self._thread.join(10)

    def _follow(self) -> None:
        # A watch ends when the API server does, or after some time: then it begins anew.
        while not self._closed:
            self._process = self.kubernetes.follow(
                "get", "pods", f"--namespace={self.namespace}", f"--selector={self.selector}",
                "--watch", "--output-watch-events", "--output=json",
            )  # fmt: skip
            assert self._process.stdout is not None
            for line in self._process.stdout:
                event = json.loads(line)
                self._take(event["type"], event["object"])
            self._process.wait()
            if not self._closed:
                time.sleep(0.2)
                self._forget_those_that_went()

    def _forget_those_that_went(self) -> None:
        try:
            there = {
                pod["metadata"]["uid"] for pod in self.kubernetes.find("pods", self.namespace, self.selector)
            }
        except AssertionError:
            return
        with self._changed:
            for uid, pod in self._pods.items():
                if uid not in there and pod.gone is None:
                    self._pods[uid] = replace(pod, gone=time.time())
            self._changed.notify_all()

    def _take(self, kind: str, document: Object) -> None:
        metadata, now = document["metadata"], time.time()
        conditions = document.get("status", {}).get("conditions", [])
        ready = any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)
        with self._changed:
            pod = self._pods.get(metadata["uid"]) or Pod(
                metadata["name"],
                metadata["labels"].get("pod-template-hash", ""),
                document["spec"]["containers"][0]["image"],
                now,
            )
            if ready:
                pod = replace(pod, ready=pod.ready or now, unready=None)
            elif pod.ready and not pod.unready:
                pod = replace(pod, unready=now)
            if metadata.get("deletionTimestamp"):
                pod = replace(pod, ending=pod.ending or now)
            if kind == "DELETED":
                pod = replace(pod, gone=now)
            self._pods[metadata["uid"]] = pod
            self._changed.notify_all()
