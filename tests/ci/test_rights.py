"""Who may approve what in Git, and sync what in Argo CD: the examples, as those who read them do."""

import csv
import os
import re
import subprocess
from fnmatch import fnmatchcase
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
_POLICY = ROOT / "argocd/examples/argocd-rbac-cm.yaml"

# subject, action, resource, object, allowed
_RIGHTS = [
    ("forest-operators", "sync", "applications", "forest-prod/prod-fraud", True),
    ("forest-operators", "sync", "applications", "forest-staging/staging-fraud", True),
    ("forest-operators", "get", "applications", "forest-prod/prod-fraud", True),
    ("forest-operators", "get", "logs", "forest-prod/prod-fraud", True),
    ("forest-operators", "override", "applications", "forest-prod/prod-fraud", False),
    ("forest-operators", "update", "applications", "forest-prod/prod-fraud", False),
    ("forest-operators", "delete", "applications", "forest-prod/prod-fraud", False),
    ("forest-operators", "create", "exec", "forest-prod/prod-fraud", False),
    ("forest-operators", "sync", "applications", "forest/forest", False),
    ("forest-operators", "sync", "applications", "other/prod-fraud", False),
    ("forest-developers", "get", "applications", "forest-prod/prod-fraud", True),
    ("forest-developers", "sync", "applications", "forest-staging/staging-fraud", True),
    ("forest-developers", "sync", "applications", "forest-prod/prod-fraud", False),
    ("forest-developers", "get", "logs", "forest-prod/prod-fraud", False),
    ("forest-developers", "override", "applications", "forest-staging/staging-fraud", False),
    ("forest-ci", "get", "applications", "forest-staging/staging-fraud", True),
    ("forest-ci", "get", "applications", "forest-prod/prod-fraud", True),
    ("forest-ci", "sync", "applications", "forest-staging/staging-fraud", False),
    ("forest-ci", "sync", "applications", "forest-prod/prod-fraud", False),
    ("somebody", "get", "applications", "forest-staging/staging-fraud", False),
]
_IDS = ["-".join((subject, action, resource, place)) for subject, action, resource, place, _ in _RIGHTS]


@pytest.fixture(scope="module")
def policy() -> list[list[str]]:
    """Return the policy's lines, read as Argo CD does."""
    document = yaml.safe_load(_POLICY.read_text())
    lines = [line for line in document["data"]["policy.csv"].splitlines() if line and line[0] != "#"]
    return [[field.strip() for field in line] for line in csv.reader(lines)]


def test_every_line_has_argo_cds_form(policy: list[list[str]]) -> None:
    for kind, *rest in policy:
        if kind == "g":
            assert len(rest) == 2
            assert rest[1] in {line[1] for line in policy if line[0] == "p"}
        else:
            assert kind == "p"
            subject, resource, action, place, effect = rest
            assert subject.startswith("role:")
            assert resource in ("applications", "logs")
            assert action in ("get", "sync")
            assert re.fullmatch(r"forest-(staging|prod)/\*", place)
            assert effect == "allow"


@pytest.mark.parametrize("right", _RIGHTS, ids=_IDS)
def test_who_may_do_what(policy: list[list[str]], right: tuple[str, str, str, str, bool]) -> None:
    subject, action, resource, place, allowed = right
    # All lines allow, so it is enough to look for one.
    roles, more = {subject}, {subject}
    while more:
        more = {line[2] for line in policy if line[0] == "g" and line[1] in more} - roles
        roles |= more
    found = any(
        role in roles and (kind, given) == (resource, action) and fnmatchcase(place, pattern)
        for line, role, kind, given, pattern in ((each[0], *each[1:5]) for each in policy if each[0] == "p")
    )
    assert found == allowed


def _argocd() -> Path | None:
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "forest-serving"
    found = [path for path in cache.glob("cluster/argocd-*/**/argocd") if path.is_file()]
    return found[0] if found else None


def test_argo_cd_itself_says_the_same(tmp_path: Path) -> None:
    argocd = _argocd()
    if argocd is None:
        pytest.skip("no argocd is here: the proof on a cluster builds one")
    # It wants a cluster's address, and asks nothing of it.
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(
        'clusters: [{name: none, cluster: {server: "http://127.0.0.1:9"}}]\n'
        "contexts: [{name: none, context: {cluster: none, user: none}}]\n"
        "current-context: none\n"
    )
    environment = os.environ | {"ARGOCD_BINARY_NAME": "argocd", "HOME": str(tmp_path)}
    environment |= {"KUBECONFIG": str(kubeconfig)}

    def rbac(*words: str) -> str:
        command = [argocd, "admin", "settings", "rbac", *words, "--policy-file", _POLICY]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        return (done.stdout or done.stderr).strip()

    assert rbac("validate") == "Policy is valid."
    for subject, action, resource, place, allowed in _RIGHTS:
        assert rbac("can", subject, action, resource, place) == ("Yes" if allowed else "No"), (subject, place)


def test_the_example_is_not_applied_by_the_root_application() -> None:
    listed = yaml.safe_load((ROOT / "argocd/kustomization.yaml").read_text())
    assert not any("example" in path for path in listed["resources"])
    # The projects that it speaks of are there.
    projects = {path.stem for path in (ROOT / "argocd/projects").glob("*.yaml")}
    assert {"staging", "prod"} <= projects


def _owners(path: str) -> str:
    """Return the owners of a file: those of the last line that matches, as GitHub reads it."""
    found = ""
    for line in (ROOT / ".github/CODEOWNERS").read_text().splitlines():
        if not line or line.startswith("#"):
            continue
        pattern, owners = line.split(maxsplit=1)
        if pattern == "*":
            expression = ".*"
        else:
            expression = re.escape(pattern.removeprefix("/")).replace(r"\*", "[^/]*")
            expression += ".*" if pattern.endswith("/") else ""
        if re.fullmatch(expression, path):
            found = owners.strip()
    return found


@pytest.mark.parametrize(
    ("path", "team"),
    [
        ("kustomize/overlays/prod/fraud/release/kustomization.yaml", "production"),
        ("kustomize/overlays/prod/credit/release/kustomization.yaml", "production"),
        ("kustomize/overlays/prod/fraud/kustomization.yaml", "platform"),
        ("kustomize/envs/prod/kustomization.yaml", "platform"),
        ("kustomize/namespaces/prod/quota.yaml", "platform"),
        ("kustomize/overlays/staging/fraud/release/kustomization.yaml", "developers"),
        ("kustomize/models/fraud/kustomization.yaml", "developers"),
        ("argocd/projects/prod.yaml", "platform"),
        (".github/CODEOWNERS", "platform"),
        (".github/workflows/release.yaml", "platform"),
        (".ci/image", "platform"),
        (".grype.yaml", "platform"),
        ("azure-pipelines/steps/setup.yaml", "platform"),
        ("proto/forest/v1/prediction_service.proto", "api"),
        ("server/server.py", "developers"),
    ],
)
def test_who_approves(path: str, team: str) -> None:
    assert _owners(path) == f"@forest-serving/{team}"
    assert (ROOT / path).exists() or "credit" in path


def test_every_line_of_the_owners_means_a_file_that_is_there() -> None:
    for line in (ROOT / ".github/CODEOWNERS").read_text().splitlines():
        if line and not line.startswith(("#", "*")):
            assert [*ROOT.glob(line.split()[0].strip("/"))], line
