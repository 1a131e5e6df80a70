"""The whole: a cluster, Argo CD, a clone of what it syncs, and what every change of it brought about."""

import json
import math
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from gitops.layout import PROD, STAGING
from gitops.release import Release
from tests.cluster import accounting
from tests.cluster.argocd import ArgoCD
from tests.cluster.clients import Client, ask
from tests.cluster.clone import MODEL, Clone
from tests.cluster.cycles import Caller, Cycle, Run
from tests.cluster.images import Pushed
from tests.cluster.kubernetes import Kubernetes, Object, until
from tests.cluster.observers import Prometheus
from tests.cluster.pods import Pod, Pods

# How many pods are to serve at least, by environment.
LEAST = {STAGING: 2, PROD: 3}


@dataclass(frozen=True, slots=True)
class Change:
    """A commit, and when it had which effect: seconds since 1970.

    Attributes
    ----------
    pushed, all : float
        When the commit was pushed, and when only new pods took calls; `System.cycles` has the rest.
    """

    commit: str
    before: Release
    after: Release
    pushed: float
    all: float


@dataclass
class System:
    """What the tests act on. Both environments run `MODEL`, and nothing else."""

    kubernetes: Kubernetes
    argocd: ArgoCD
    clone: Clone
    images: Mapping[str, Pushed]
    clients: list[Client] = field(default_factory=list)
    prometheus: Prometheus | None = None
    pods: dict[str, Pods] = field(default_factory=dict)
    changes: list[Change] = field(default_factory=list)
    # What was said to run, by commits and by hands, in its order.
    cycles: list[Cycle] = field(default_factory=list)
    _images: dict[accounting.Release, str] = field(default_factory=dict)
    # When a process was killed in prod that served: begin and end.
    crashes: list[tuple[float, float]] = field(default_factory=list)

    def follow(self) -> None:
        """Follow the pods of both environments."""
        for environment in (STAGING, PROD):
            self.say(environment, self.clone.held(environment), "begin")
            self.pods[environment] = Pods(
                self.kubernetes, namespace(environment), f"app.kubernetes.io/instance={MODEL}"
            )

    def release(self, version: str) -> Change:
        """Release a version to staging, and return when it serves."""
        return self.change("release", STAGING, lambda: self.clone.release(self.images[version]))

    def promote(self) -> Change:
        """Promote what staging holds, press Sync, and return when it serves."""
        return self.change("promotion", PROD, self.clone.promote)

    def rollback(self, environment: str, *arguments: str) -> Change:
        """Roll back by ``forest-gitops``, press Sync in prod, and return when the old release serves."""

        def act() -> str:
            self.clone.gitops("rollback", MODEL, f"--env={environment}", *arguments)
            return self.clone.head()

        return self.change("rollback", environment, act)

    def revert(self, environment: str, commit: str) -> Change:
        """Revert a commit by plain git, press Sync in prod, and return when the old release serves."""

        def act() -> str:
            self.clone.git("pull", "--quiet", "--rebase")
            self.clone.git("revert", "--no-edit", commit)
            self.clone.git("push", "--quiet")
            return self.clone.head()

        return self.change("revert", environment, act)

    def bring(self, environment: str, version: str) -> None:
        """See to it that an environment runs a version, by whichever commit that takes."""
        if self.clone.held(environment).version == version:
            return
        done = self.clone.try_gitops(
            "rollback", MODEL, f"--env={environment}", f"--to={version}", "--no-push"
        )
        if done.returncode == 0:
            self.clone.git("reset", "--quiet", "--hard", "@{upstream}")
            self.rollback(environment, f"--to={version}")
        elif environment == STAGING:
            self.release(version)
        else:
            self.bring(STAGING, version)
            self.promote()

    def change(self, kind: str, environment: str, act: Callable[[], str]) -> Change:
        """Push a commit by `act`, follow it until only new pods serve, and note when what came about."""
        before, begun = self.clone.held(environment), time.time()
        commit = act()
        pushed = time.time()
        after = self.clone.held(environment)
        place = self.say(environment, after, kind, begun)
        name = application(environment)
        self.noticed(environment, commit)
        noticed = time.time()
        if environment == PROD:
            self.argocd.sync(name)
        self.synced(environment, commit)
        synced = time.time()
        pods = self.pods[environment]

        def new(pod: Pod) -> bool:
            return pod.image == after.reference

        first = pods.wait(
            f"the first pod of {after.tag}", lambda all_: any(pod.serving and new(pod) for pod in all_)
        )

        def turned(all_: list[Pod]) -> bool:
            serving = [pod for pod in all_ if pod.serving]
            return len(serving) >= LEAST[environment] and all(map(new, serving))

        whole = pods.wait(f"only pods of {after.tag}", turned)
        self.argocd.wait(name, revision=commit)
        change = Change(commit, before, after, pushed, whole)
        self.changes.append(change)
        self.cycles[place] = replace(
            self.cycles[place], pushed=pushed, noticed=noticed, synced=synced, first_ready=first, served=whole
        )
        return change

    def settle(self, environment: str) -> None:
        """Return when the pods that ended are gone: so many more would not fit on a small node."""
        self.pods[environment].wait(
            "pods that end are gone", lambda pods: not any(pod.ending and not pod.gone for pod in pods)
        )

    def say(
        self, environment: str, release: Release, kind: str = "by hand", when: float | None = None
    ) -> int:
        """Note that an environment may answer by a release from now on; return the place in `cycles`."""
        answer = accounting.Release(release.version, release.bundle)
        self._images[answer] = release.reference
        self.cycles.append(Cycle(kind, environment, answer, time.time() if when is None else when))
        return len(self.cycles) - 1

    def run(self) -> Run:
        """Return what was done so far, with when the last pod was gone that each release replaced."""
        ended: dict[str, float] = {}
        cycles: list[Cycle] = []
        for cycle in reversed(self.cycles):
            end = ended.get(cycle.environment, math.inf)
            # Once all pods served it the others were ending, whatever came next.
            last = end if cycle.served is None else cycle.served
            gone = max(
                (
                    pod.gone or math.inf
                    for pod in self.pods[cycle.environment].all()
                    if pod.image != self._images[cycle.release]
                    and pod.made < last
                    and (pod.gone or math.inf) > cycle.pushed
                ),
                default=cycle.pushed,
            )
            done = gone < (end if cycle.served is None else math.inf)
            cycles.insert(0, replace(cycle, gone=gone) if done else cycle)
            ended[cycle.environment] = cycle.pushed
        callers = {
            client.environment: Caller(client.log.name, _first(cycles, client.environment))
            for client in self.clients
            if not client.retries
        }
        return Run(self._machine(), callers, cycles)

    def _machine(self) -> str:
        version = json.loads(self.kubernetes.run("version", "--output=json"))["serverVersion"]["gitVersion"]
        argocd = self.argocd.ask("GET", "version")["Version"].partition("+")[0]
        names = (
            f"{os.cpu_count()} cores",
            f"Kubernetes {version.strip('v')}",
            f"Argo CD {argocd.strip('v')}",
        )
        return ", ".join(names)

    def noticed(self, environment: str, commit: str) -> None:
        """Tell Argo CD that there is something new, as a webhook would; return when it knows the commit."""
        name = application(environment)
        self.argocd.application(name, refresh="normal")
        until(
            f"{name} knows {commit[:12]}",
            lambda: self.argocd.application(name)["status"]["sync"].get("revision") == commit,
            pause=0.1,
        )

    def synced(self, environment: str, commit: str, seconds: float = 60) -> Object:
        """Return the sync operation that has applied a commit."""
        name = application(environment)

        def done() -> Object | None:
            state: Object = self.argocd.application(name)["status"].get("operationState", {})
            revision = state.get("syncResult", {}).get("revision")
            return state if (state.get("phase"), revision) == ("Succeeded", commit) else None

        return until(f"{name} has applied {commit[:12]}", done, seconds, pause=0.1)

    def ask(self, environment: str) -> tuple[str, str]:
        """Return the version and the bundle's digest that answer a client's call through the Service."""
        client = next(client for client in self.clients if client.environment == environment)
        return ask(client, f"{MODEL}-forest.{namespace(environment)}:50051")

    def answered_by(self, environment: str, release: Release) -> None:
        """Return when a call through the Service is answered by a release.

        That may be a moment after its pods alone are ready: kube-proxy is told as they become so.
        """
        until(
            f"{environment} answers by {release.tag}",
            lambda: self.ask(environment) == (release.version, release.bundle),
            seconds=15,
        )

    def replica_sets(self, environment: str) -> set[tuple[str, str]]:
        """Return the name, which ends with its template's hash, and the UID of every ReplicaSet."""
        found = self.kubernetes.find(
            "replicasets", namespace(environment), f"app.kubernetes.io/instance={MODEL}"
        )
        return {(entry["metadata"]["name"], entry["metadata"]["uid"]) for entry in found}

    def replica_set(self, environment: str) -> tuple[str, str]:
        """Return the name and the UID of the ReplicaSet whose pods serve."""
        [template] = {pod.template for pod in self.pods[environment].serving()}
        [found] = [entry for entry in self.replica_sets(environment) if entry[0].endswith(f"-{template}")]
        return found

    def settings(self, environment: str) -> tuple[str, str]:
        """Return the name and the UID of the ConfigMap that the Deployment names."""
        where = namespace(environment)
        deployment = self.kubernetes.get("deployment", f"{MODEL}-forest", where)
        [container] = deployment["spec"]["template"]["spec"]["containers"]
        name = container["envFrom"][0]["configMapRef"]["name"]
        return name, self.kubernetes.get("configmap", name, where)["metadata"]["uid"]

    def image(self, where: str) -> str:
        """Return the image that the Deployment of a namespace names."""
        deployment = self.kubernetes.get("deployment", f"{MODEL}-forest", where)
        return str(deployment["spec"]["template"]["spec"]["containers"][0]["image"])

    def close(self) -> None:
        """Stop following."""
        for client in self.clients:
            client.close()
        for pods in self.pods.values():
            pods.close()


def _first(cycles: list[Cycle], environment: str) -> accounting.Release:
    return next(cycle.release for cycle in cycles if cycle.environment == environment)


def namespace(environment: str) -> str:
    """Return the namespace of an environment."""
    return f"forest-{environment}"


def application(environment: str) -> str:
    """Return the Application of the model in an environment."""
    return f"{environment}-{MODEL}"
