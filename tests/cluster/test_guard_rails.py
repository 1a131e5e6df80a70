"""What nobody can do, whatever is in Git."""

import json
from pathlib import Path

import pytest

from gitops.layout import PROD, STAGING
from tests.cluster.argocd import RefusedError
from tests.cluster.clone import MODEL
from tests.cluster.kubernetes import Object, until
from tests.cluster.setting import Setting
from tests.cluster.system import System, namespace

_TRIAL = "kustomize/trial"
_CLUSTER_ROLE = """\
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata:
  name: forest-trial
rules: []
"""


def _pod(**requests: str) -> Object:
    """Return a pod that Pod Security admits."""
    context = {"runAsNonRoot": True, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"}}
    container = {
        "name": "trial",
        "image": "trial",
        "resources": {"requests": requests, "limits": requests},
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "trial"},
        "spec": {"securityContext": context, "containers": [container]},
    }


def _refusal(system: System, environment: str, pod: Object) -> str:
    done = system.kubernetes.try_run(
        "create", f"--namespace={namespace(environment)}", "--dry-run=server", "--filename=-",
        standard_input=json.dumps(pod).encode(),
    )  # fmt: skip
    return done.stderr.decode()


@pytest.mark.parametrize("environment", [STAGING, PROD])
def test_pod_security_refuses_a_pod_that_runs_as_root(system: System, environment: str) -> None:
    pod = _pod(cpu="10m", memory="16Mi")
    assert _refusal(system, environment, pod) == ""
    pod["spec"]["securityContext"]["runAsUser"] = 0
    assert 'violates PodSecurity "restricted' in _refusal(system, environment, pod)


@pytest.mark.parametrize(("environment", "cpu"), [(STAGING, "5"), (PROD, "11")])
def test_the_quota_holds(system: System, environment: str, cpu: str) -> None:
    assert "exceeded quota: forest" in _refusal(system, environment, _pod(cpu=cpu, memory="16Mi"))
    assert "must specify" in _refusal(system, environment, _pod())


@pytest.mark.parametrize("environment", [STAGING, PROD])
def test_the_service_account_can_do_nothing(system: System, environment: str) -> None:
    where = namespace(environment)
    pod = system.pods[environment].serving()[0].name
    account = system.kubernetes.get("pod", pod, where)["spec"]["serviceAccountName"]
    assert account == f"{MODEL}-forest"
    asked = json.dumps(
        {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectRulesReview",
            "spec": {"namespace": where},
        }
    )
    answer = json.loads(
        system.kubernetes.run(
            "create", f"--as=system:serviceaccount:{where}:{account}",
            "--as-group=system:authenticated", "--as-group=system:serviceaccounts",
            "--filename=-", "--output=json", "--validate=false", standard_input=asked.encode(),
        )
    )  # fmt: skip
    # What every account may: ask what it is, and what it may.
    reviews = {"selfsubjectaccessreviews", "selfsubjectrulesreviews", "selfsubjectreviews"}
    assert {name for rule in answer["status"]["resourceRules"] for name in rule["resources"]} <= reviews
    # And nobody in the pod has its token.
    found = system.kubernetes.run(
        "exec", f"--namespace={where}", pod, "--", "python3", "-c",
        "import os; print(os.path.exists('/var/run/secrets'))",
    )  # fmt: skip
    assert found.strip() == "False"


def test_the_project_refuses_a_cluster_role(system: System) -> None:
    folder = system.clone.folder / _TRIAL
    folder.mkdir()
    (folder / "kustomization.yaml").write_text("resources: [role.yaml]\n")
    (folder / "role.yaml").write_text(_CLUSTER_ROLE)
    system.clone.commit("Try a ClusterRole")
    try:
        url = system.argocd.application("forest")["spec"]["source"]["repoURL"]
        system.argocd.ask("POST", "v1/applications", _application(url, _TRIAL))
        system.argocd.sync("trial")

        def failed() -> str:
            state = system.argocd.application("trial")["status"].get("operationState", {})
            if state.get("phase") != "Failed":
                return ""
            return json.dumps(state)

        assert "is not permitted in project" in until("the sync of a ClusterRole fails", failed)
        assert not system.kubernetes.run("get", "clusterrole", "forest-trial", "--ignore-not-found")
    finally:
        system.argocd.ask("DELETE", "v1/applications/trial?cascade=false")
        for file in (*folder.iterdir(), folder):
            file.rmdir() if file == folder else file.unlink()
        system.clone.commit("Remove the ClusterRole")


def test_the_project_refuses_a_foreign_repository(system: System, setting: Setting, tmp_path: Path) -> None:
    foreign = tmp_path / "foreign.git"
    system.clone.git("clone", "--quiet", "--bare", setting.repository, str(foreign))
    # Argo CD looks whether it can read it before it looks whether it may.
    refusal = "not permitted in project"
    if not setting.repository_in_cluster.startswith("file:"):
        refusal += "|not accessible"
    path = f"kustomize/overlays/{STAGING}/{MODEL}"
    with pytest.raises(RefusedError, match=refusal):
        system.argocd.ask("POST", "v1/applications", _application(f"file://{foreign}", path))


def test_the_project_refuses_another_namespace(system: System) -> None:
    url = system.argocd.application("forest")["spec"]["source"]["repoURL"]
    application = _application(url, f"kustomize/overlays/{STAGING}/{MODEL}")
    application["spec"]["destination"]["namespace"] = namespace(PROD)
    with pytest.raises(RefusedError, match="do not match any of the allowed destinations"):
        system.argocd.ask("POST", "v1/applications", application)


def _application(url: str, path: str) -> Object:
    return {
        "metadata": {"name": "trial"},
        "spec": {
            "project": "forest-staging",
            "source": {"repoURL": url, "path": path, "targetRevision": "main"},
            "destination": {"server": "https://kubernetes.default.svc", "namespace": namespace(STAGING)},
        },
    }
