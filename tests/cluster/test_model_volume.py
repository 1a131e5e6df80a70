"""Models on a volume, followed while the server runs: for environments whose release pins no bundle."""

import io
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from gitops.layout import STAGING
from tests.cluster.clients import ask
from tests.cluster.kubernetes import until
from tests.cluster.system import System, namespace
from tests.cluster.volume import claim

_NAME = "volume"
_OVERLAY = f"""\
apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
resources:
  - ../../../base
components:
  - ../../../components/model-volume
  - ../../../envs/{STAGING}
  - ../../../models/{_NAME}
"""
_MODEL = f"""\
apiVersion: kustomize.config.k8s.io/v1alpha1
kind: Component
namePrefix: {_NAME}-
labels:
  - pairs:
      app.kubernetes.io/instance: {_NAME}
    includeSelectors: true
"""
_UNPACK = "import sys, tarfile; tarfile.open(fileobj=sys.stdin.buffer, mode='r|').extractall('/models')"


@pytest.fixture
def volume(system: System) -> Iterator[None]:
    """Make the claim that the component names, a pod that may write there, and the overlay."""
    where = namespace(STAGING)
    image = system.images["1.0.0"].release
    system.kubernetes.apply(
        claim(system.kubernetes, "forest-models"), _writer(image.reference), namespace=where
    )
    system.kubernetes.run(
        "wait", "--for=condition=Ready", "pod/writer", f"--namespace={where}", "--timeout=60s"
    )
    yield
    if system.argocd.exists(f"{STAGING}-{_NAME}"):
        system.argocd.ask("DELETE", f"v1/applications/{STAGING}-{_NAME}?cascade=true")
    system.kubernetes.run("delete", "pod", "writer", f"--namespace={where}", "--wait=true")


def test_a_new_version_takes_over_and_a_bad_one_does_not(
    system: System, volume: None, bundles: dict[str, Path]
) -> None:
    where = namespace(STAGING)
    _put(system, bundles["1.0.0"])
    kustomize = system.clone.folder / "kustomize"
    image = system.images["1.0.0"].release
    for folder, text in (
        (kustomize / "models" / _NAME, _MODEL),
        (
            kustomize / "overlays" / STAGING / _NAME,
            f"{_OVERLAY}images:\n  - name: forest\n    newName: {image.image}\n"
            f'    newTag: "{image.tag}"\n    digest: {image.digest}\n',
        ),
    ):
        folder.mkdir()
        (folder / "kustomization.yaml").write_text(text)
    commit = system.clone.commit("Let a model on a volume run in staging")
    # As a webhook would: by itself a set looks into Git every three minutes.
    system.kubernetes.run(
        "annotate", "applicationset", STAGING, "--namespace=argocd", "--overwrite",
        "argocd.argoproj.io/application-set-refresh=true",
    )  # fmt: skip
    until("there is an Application", lambda: system.argocd.exists(f"{STAGING}-{_NAME}"))
    system.argocd.wait(f"{STAGING}-{_NAME}", revision=commit)
    client = next(client for client in system.clients if client.environment == STAGING)
    target = f"{_NAME}-forest.{where}:50051"
    assert ask(client, target)[0] == "1.0.0"
    pods = _pods(system)

    _put(system, bundles["1.1.0"])
    until("1.1.0 serves", lambda: ask(client, target)[0] == "1.1.0")

    _put(system, bundles["1.2.0"], spoilt=True)
    until(
        "every pod has refused 1.2.0",
        lambda: all("1.2.0" in system.kubernetes.run("logs", pod, f"--namespace={where}") for pod in pods),
    )
    assert ask(client, target)[0] == "1.1.0"
    # The same pods all the while, ready all the while.
    assert _pods(system) == pods


def _pods(system: System) -> set[str]:
    selector = f"app.kubernetes.io/instance={_NAME}"
    found = system.kubernetes.find("pods", namespace(STAGING), selector)
    assert all(
        status["ready"] and not status["restartCount"]
        for pod in found
        for status in pod["status"]["containerStatuses"]
    )
    return {pod["metadata"]["name"] for pod in found}


def _put(system: System, bundle: Path, *, spoilt: bool = False) -> None:
    """Put a bundle on the volume, in a moment."""
    archive = io.BytesIO()
    place = f"{bundle.parent.name}/{bundle.name}"
    with tarfile.open(fileobj=archive, mode="w") as tar:
        tar.add(bundle, place)
        if spoilt:
            graph = tarfile.TarInfo(f"{place}/model.onnx")
            graph.size = 5
            tar.addfile(graph, io.BytesIO(b"spoilt"[:5]))
    system.kubernetes.run(
        "exec", "--stdin", f"--namespace={namespace(STAGING)}", "writer", "--", "python3", "-c", _UNPACK,
        standard_input=archive.getvalue(),
    )  # fmt: skip


def _writer(image: str) -> dict:
    context = {"runAsNonRoot": True, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"}}
    container = {
        "name": "writer",
        "image": image,
        "command": ["python3", "-c", "import signal; signal.pause()"],
        "resources": {
            "requests": {"cpu": "10m", "memory": "32Mi"},
            "limits": {"cpu": "500m", "memory": "64Mi"},
        },
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
        "volumeMounts": [{"name": "models", "mountPath": "/models"}],
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "writer"},
        "spec": {
            "securityContext": context,
            "terminationGracePeriodSeconds": 1,
            "containers": [container],
            "volumes": [{"name": "models", "persistentVolumeClaim": {"claimName": "forest-models"}}],
        },
    }
