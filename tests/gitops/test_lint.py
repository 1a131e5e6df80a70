"""Every rule, on a small tree that is right until a line of it is broken; rendered by real kustomize."""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

from gitops.layout import release_file
from gitops.lint import OVERLAY_RULES, TREE_RULES, Finding, lint
from gitops.release import Release
from gitops.repository import Repository
from gitops.rules import life
from gitops.tree import overlay

ROOT = Path(__file__).parents[2]
FIXTURE = Path(__file__).parent / "fixtures" / "kustomize"

DIGEST = f"sha256:{'3' * 64}"
DEPLOYMENT = "base/deployment.yaml"
BASE = "base/kustomization.yaml"
PROD = "overlays/prod/fraud/kustomization.yaml"
RELEASE = "overlays/prod/fraud/release/kustomization.yaml"

# The rule that must speak, the file, what in it becomes what, and words of the message.
BROKEN = [
    (
        "image-pinned",
        DEPLOYMENT,
        "      volumes:",
        "        - name: log-shipper\n          image: busybox:1.36\n      volumes:",
        "runs busybox:1.36, which is not",
    ),
    (
        "image-pinned",
        RELEASE,
        '    newTag: "1.0.0-0.1.0"',
        '    newTag: "latest"',
        "forest/fraud:latest@sha256",
    ),
    (
        "image-released",
        DEPLOYMENT,
        "image: forest",
        "image: florest",
        "runs florest: the base's image must be",
    ),
    (
        "image-released",
        "models/fraud/kustomization.yaml",
        "namePrefix: fraud-",
        "namePrefix: fraud-\nimages:\n  - name: forest\n    newName: registry.example/mine",
        "runs registry.example/mine",
    ),
    ("image-released", PROD, "  - release\n", "", "must list `release` among its components"),
    ("container-known", DEPLOYMENT, "name: server", "name: serve", "container server has no image"),
    (
        "bundle-expected",
        PROD,
        "  - release\n",
        "  - release\n"
        "patches:\n  - target: {kind: Deployment}\n    patch: |-\n      - op: replace\n"
        "        path: /spec/template/spec/containers/0/env/0/value\n        value: sha256:00\n",
        "no other patch may set it",
    ),
    (
        "bundle-expected",
        BASE,
        "FOREST_STOP_GRACE=10",
        "FOREST_BUNDLE_DIGEST=sha256:0",
        "only a release says that",
    ),
    ("bundle-not-swapped", BASE, "FOREST_STOP_GRACE=10", "FOREST_MODELS=/mnt", "take FOREST_MODELS out"),
    (
        "bundle-not-swapped",
        DEPLOYMENT,
        "image: forest\n",
        "image: forest\n          args: [--watch]\n",
        "--watch follows a folder",
    ),
    (
        "bundle-not-swapped",
        DEPLOYMENT,
        "mountPath: /var/log/forest",
        "mountPath: /models/fraud",
        "over the image's",
    ),
    (
        "bundle-not-swapped",
        DEPLOYMENT,
        "mountPath: /var/log/forest",
        "mountPath: /",
        "over the image's bundle",
    ),
    (
        "settings-immutable",
        PROD,
        "components:",
        "configMapGenerator:\n  - name: forest\n    behavior: merge\n"
        "    literals: [FOREST_LOG_LEVEL=debug]\ncomponents:",
        "is not immutable",
    ),
    (
        "settings-named-by-content",
        BASE,
        "immutable: true",
        "immutable: true\n      disableNameSuffixHash: true",
        "has no hash in its name",
    ),
    (
        "settings-present",
        DEPLOYMENT,
        "                name: forest\n",
        "                name: forrest\n",
        "asks for ConfigMap forrest",
    ),
    (
        "selector-finds-pods",
        "base/service.yaml",
        "  selector: {}",
        "  selector: {app: forest}",
        "Service fraud-forest selects",
    ),
    (
        "selector-unchanged",
        "models/fraud/kustomization.yaml",
        "instance: fraud",
        "instance: fraud-v2",
        "did select app.kubernetes.io/instance=fraud",
    ),
    (
        "replicas-left-to-the-autoscaler",
        DEPLOYMENT,
        "spec:\n  progress",
        "spec:\n  replicas: 2\n  progress",
        "take `replicas` out",
    ),
    ("requests-present", DEPLOYMENT, "              cpu: 100m\n", "", "add resources.requests.cpu"),
    ("metrics-in-order", "base/hpa.yaml", "name: memory", "name: cpu", "write memory, then CPU"),
    (
        "grace-adds-up",
        DEPLOYMENT,
        "PeriodSeconds: 80",
        "PeriodSeconds: 75",
        "75 is below 80 (preStop 5 + leave 45 + drain 15 + stop 10 + 5)",
    ),
    ("grace-adds-up", DEPLOYMENT, "      terminationGracePeriodSeconds: 80\n", "", "30 is below 80"),
    # The server's own default is not to leave, and to drain for longer.
    (
        "grace-adds-up",
        BASE,
        "      - FOREST_LEAVE_TIMEOUT=45\n      - FOREST_DRAIN_TIMEOUT=15\n",
        "      - FOREST_LEAVE_TIMEOUT=21\n",
        "86 (preStop 5 + leave 21 + drain 45",
    ),
    ("grace-adds-up", BASE, "LEAVE_TIMEOUT=45", "LEAVE_TIMEOUT=long", "times is not a number"),
    ("grace-adds-up", BASE, "FOREST_STOP_GRACE=10", "FOREST_STOP_GRACE=30", "stop 30 + 5)"),
    (
        "grace-adds-up",
        BASE,
        "FOREST_DRAIN_TIMEOUT=15",
        "FOREST_DRAIN_TIMEOUT=10",
        "the server would not start",
    ),
    (
        "hook-without-a-shell",
        DEPLOYMENT,
        "sleep:\n                seconds: 5",
        "exec:\n                command: [sleep]",
        "no preStop.sleep.seconds",
    ),
    (
        "probes-numeric",
        DEPLOYMENT,
        "port: 50052\n          readiness",
        "port: health\n          readiness",
        "startupProbe has the gRPC port health",
    ),
    (
        "probes-numeric",
        DEPLOYMENT,
        "          livenessProbe: *probe\n",
        "",
        "livenessProbe has the gRPC port None",
    ),
    ("rollout-ends", DEPLOYMENT, "  progressDeadlineSeconds: 120\n", "", "progressDeadlineSeconds is 600"),
    (
        "rollout-ends",
        DEPLOYMENT,
        "failureThreshold: 60",
        "failureThreshold: 200",
        "the startup probe waits 200 s",
    ),
    (
        "peers-not-rewritten",
        "base/networkpolicy.yaml",
        'matchExpressions:\n              - {key: forest-client, operator: In, values: ["true"]}',
        'matchLabels: {forest-client: "true"}',
        "choose peers by matchExpressions",
    ),
    ("pod-restricted", DEPLOYMENT, "drop: [ALL]", "drop: [NET_RAW]", "lacks capabilities: {drop: [ALL]}"),
    ("pod-restricted", DEPLOYMENT, "runAsNonRoot: true", "runAsNonRoot: false", "lacks runAsNonRoot: true"),
    ("pod-restricted", DEPLOYMENT, "runAsUser: 65532", "runAsUser: 0", "lacks runAsUser that is not 0"),
    ("pod-restricted", DEPLOYMENT, "type: RuntimeDefault", "type: Unconfined", "lacks seccompProfile"),
    (
        "pod-restricted",
        DEPLOYMENT,
        "allowPrivilegeEscalation: false",
        "privileged: true",
        "lacks privileged left",
    ),
    ("pod-restricted", DEPLOYMENT, "emptyDir: {}", "hostPath: {path: /var/log}", "volume log is hostPath"),
    (
        "pod-restricted",
        DEPLOYMENT,
        "containerPort: 50051",
        "containerPort: 50051\n              hostPort: 50051",
        "lacks ports without hostPort",
    ),
    (
        "pod-restricted",
        DEPLOYMENT,
        "      securityContext:\n        runAs",
        "      hostNetwork: true\n      securityContext:\n        runAs",
        "hostNetwork is forbidden",
    ),
    ("namespace-restricted", "namespaces/prod/namespace.yaml", "restricted", "baseline", "lacks the label"),
    (
        "namespace-restricted",
        "envs/prod/kustomization.yaml",
        "forest-prod",
        "forest",
        "is in namespace forest,",
    ),
    (
        "service-links-off",
        DEPLOYMENT,
        "enableServiceLinks: false",
        "enableServiceLinks: true",
        "Service called",
    ),
    ("token-not-mounted", DEPLOYMENT, "      automountServiceAccountToken: false\n", "", "needs no token"),
    (
        "nothing-of-the-moment",
        DEPLOYMENT,
        "team: payments",
        "revision: 6174660ab5cde6174660ab5cde6174660ab5cde0",
        "a commit or a date",
    ),
    ("nothing-of-the-moment", BASE, "FOREST_STOP_GRACE=10", "BUILT=2026-01-31", "a commit or a date"),
    (
        "release-file-stable",
        RELEASE,
        "  - name: forest\n",
        "  -   name: forest\n",
        "not as forest-gitops writes it",
    ),
    (
        "environment-whole",
        "overlays/prod/kustomization.yaml",
        "  - fraud\n",
        "",
        "list `fraud` among its resources",
    ),
    (
        "environment-whole",
        "overlays/prod/kustomization.yaml",
        "resources:",
        "nameSuffix: -x\nresources:",
        "does not render",
    ),
    (
        "nothing-remote",
        BASE,
        "  - service.yaml\n",
        "  - service.yaml\n  - https://example.invalid/crd.yaml\n",
        "which is fetched at each rendering",
    ),
    ("nothing-remote", BASE, "labels:", "helmCharts: []\nlabels:", "runs a program that fetches"),
    (
        "nothing-of-the-machine",
        "base/extra.env",
        "FOREST_LOG_LEVEL=info",
        "  HOME",
        "base/extra.env names HOME without a value",
    ),
    ("builds", BASE, "service.yaml", "services.yaml", "does not build"),
    (
        "schema-valid",
        DEPLOYMENT,
        "progressDeadlineSeconds: 120",
        "progressDeadlineSecond: 120",
        "('progressDeadlineSecond' was unexpected)",
    ),
    (
        "schema-valid",
        "base/service.yaml",
        "port: 50051",
        'port: "50051"',
        "Service fraud-forest: spec.ports.0.port: '50051' is not of type 'integer', says the schema of",
    ),
    (
        "schema-valid",
        "base/hpa.yaml",
        "autoscaling/v2",
        "autoscaling/v2beta2",
        "has no HorizontalPodAutoscaler in",
    ),
    (
        "schema-valid",
        "namespaces/prod/namespace.yaml",
        "metadata:",
        "specs: {}\nmetadata:",
        "kustomize/overlays/prod: Namespace forest-prod: the object: Additional properties",
    ),
    (
        "budget-lets-nodes-drain",
        "base/pdb.yaml",
        "maxUnavailable: 1",
        "minAvailable: 1",
        "does not say maxUnavailable: 1",
    ),
    (
        "budget-lets-nodes-drain",
        "base/pdb.yaml",
        "  unhealthyPodEvictionPolicy: AlwaysAllow\n",
        "",
        "lacks unhealthyPodEvictionPolicy",
    ),
    ("budget-lets-nodes-drain", BASE, "  - pdb.yaml\n", "", "there is no PodDisruptionBudget"),
    (
        "pods-spread-by-release",
        DEPLOYMENT,
        "          matchLabelKeys: [pod-template-hash]\n",
        "",
        "over kubernetes.io/hostname counts pods of other releases",
    ),
    (
        "pods-spread-by-release",
        DEPLOYMENT,
        "topologySpreadConstraints:",
        "tolerations:",
        "has no topologySpread",
    ),
    (
        "references-found",
        "base/hpa.yaml",
        "kind: Deployment\n    name: forest",
        "kind: Deployment\n    name: florest",
        "names Deployment florest, which is not rendered",
    ),
    (
        "references-found",
        "base/service.yaml",
        "apiVersion: v1",
        "apiVersion: gateway.networking.k8s.io/v1\nkind: GRPCRoute\nmetadata:\n  name: forest\n"
        "spec:\n  rules:\n    - backendRefs:\n        - {name: forest, port: 50051}\n---\napiVersion: v1",
        "GRPCRoute fraud-forest names Service forest, which is not rendered",
    ),
    (
        "references-found",
        DEPLOYMENT,
        "enableServiceLinks: false",
        "enableServiceLinks: false\n      serviceAccountName: forest",
        "names ServiceAccount forest",
    ),
    (
        "references-found",
        "base/service.yaml",
        "apiVersion: v1",
        "apiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata:\n  name: forest\nspec:\n  rules:\n"
        "    - http:\n        paths:\n          - path: /\n            pathType: Prefix\n"
        "            backend: {service: {name: other, port: {number: 1}}}\n---\napiVersion: v1",
        "Ingress fraud-forest names Service other",
    ),
    (
        "secrets-by-reference",
        BASE,
        "configMapGenerator:",
        "secretGenerator:\n  - name: key\n    literals: [password=x]\nconfigMapGenerator:",
        "is in Git: take it out, change what it held",
    ),
]


_ALONE = {rule.__name__.replace("_", "-"): rule for rule in OVERLAY_RULES}


@pytest.fixture
def tree(tmp_path: Path, release_of: Callable[..., Release], needs_kustomize: None) -> Path:
    """Return a repository whose tree is right."""
    shutil.copytree(FIXTURE, tmp_path / "tree" / "kustomize")
    for environment in ("staging", "prod"):
        file = tmp_path / "tree" / release_file(environment, "fraud")
        file.parent.mkdir()
        file.write_bytes(release_of().to_bytes())
    git(tmp_path / "tree", "init", "-q", "-b", "main")
    commit(tmp_path / "tree")
    return tmp_path / "tree"


def git(folder: Path, *arguments: str) -> None:
    subprocess.run(["git", *arguments], cwd=folder, check=True, capture_output=True)


def commit(folder: Path) -> None:
    git(folder, "add", "--all")
    git(folder, "commit", "-q", "-m", "A change")


def found(tree: Path) -> tuple[Finding, ...]:
    return lint(Repository(tree), "main").findings


def test_the_tree_is_right_before_it_is_broken(tree: Path) -> None:
    assert found(tree) == ()


@pytest.mark.parametrize("case", BROKEN, ids=[f"{number}-{case[0]}" for number, case in enumerate(BROKEN)])
def test_what_is_broken_is_told_by_its_rule(case: tuple[str, str, str, str, str], tree: Path) -> None:
    rule, file, before, after, words = case
    place = tree / "kustomize" / file
    text = place.read_text()
    assert before in text
    place.write_text(text.replace(before, after, 1))
    if rule in _ALONE:
        # One overlay is enough.
        told = list(_ALONE[rule](overlay(tree, PurePosixPath("kustomize/overlays/prod/fraud"))))
    else:
        told = [str(finding) for finding in found(tree) if finding.rule == rule]
        # It says where.
        assert all("kustomize/" in message or "(prod)" in message for message in told)
    assert any(words in message for message in told), told


def test_a_branch_from_before_there_was_a_tree_is_no_hindrance(tree: Path) -> None:
    git(tree, "switch", "-q", "--orphan", "before")
    git(tree, "commit", "-q", "--allow-empty", "-m", "Before")
    git(tree, "switch", "-q", "main")
    git(tree, "merge", "-q", "--allow-unrelated-histories", "-m", "Join", "before")
    assert lint(Repository(tree), "before").findings == ()


def test_a_file_outside_git_is_told(tree: Path) -> None:
    (tree / ".gitignore").write_text("local.yaml\n")
    shutil.move(tree / "kustomize/base/service.yaml", tree / "kustomize/base/local.yaml")
    kustomization = tree / "kustomize" / BASE
    kustomization.write_text(kustomization.read_text().replace("service.yaml", "local.yaml"))
    told = [finding for finding in found(tree) if finding.rule == "nothing-outside-git"]
    assert len(told) == 2
    assert "commit what it needs" in told[0].message


def test_a_release_that_staging_never_held_is_told(tree: Path, release_of: Callable[..., Release]) -> None:
    file = tree / release_file("prod", "fraud")
    file.write_bytes(release_of("1.1.0").to_bytes())
    assert [finding.rule for finding in found(tree)] == ["promoted-from-staging"]
    # Once it was there, it may be in prod, whatever staging holds now.
    staging = tree / release_file("staging", "fraud")
    staging.write_bytes(release_of("1.1.0").to_bytes())
    commit(tree)
    staging.write_bytes(release_of("1.2.0").to_bytes())
    commit(tree)
    assert found(tree) == ()


def test_a_release_in_history_that_names_no_image_is_told(
    tree: Path, release_of: Callable[..., Release]
) -> None:
    file = tree / release_file("staging", "fraud")
    file.write_text("# by hand\n" + file.read_text())
    commit(tree)
    file.write_bytes(release_of("1.1.0").to_bytes())
    commit(tree)
    (finding,) = found(tree)
    assert finding.rule == "history-readable"
    assert "would bring that back" in finding.message


def test_an_object_that_no_rule_can_read_does_not_pass(tree: Path) -> None:
    place = tree / "kustomize" / DEPLOYMENT
    place.write_text(place.read_text().replace("resources:\n", "resources: []\n          unread:\n"))
    told = found(tree)
    assert {finding.rule for finding in told} == {"schema-valid", "requests-present"}
    assert any("not formed as its kind is" in finding.message for finding in told)


def test_the_kinds_of_others_are_left_to_the_cluster(tree: Path) -> None:
    place = tree / "kustomize" / "base/service.yaml"
    route = (
        "apiVersion: gateway.networking.k8s.io/v1\nkind: GRPCRoute\nmetadata:\n  name: forest\n"
        "spec:\n  rules:\n    - backendRefs:\n        - {name: fraud-forest, port: 50051}\n---\n"
    )
    place.write_text(route + place.read_text())
    assert found(tree) == ()
    place.write_text(
        place.read_text().replace("gateway.networking.k8s.io/v1", "gateway.networking.k8s.io/v2")
    )
    assert {finding.rule for finding in found(tree)} == {"schema-valid"}


def test_an_absent_release_file_is_told(tree: Path) -> None:
    (tree / release_file("prod", "fraud")).unlink()
    rules = {finding.rule for finding in found(tree)}
    assert {"builds", "nothing-outside-git"} & rules
    assert any("never delete one" in str(finding) for finding in found(tree))


def test_a_server_that_follows_a_volume_needs_no_release(tree: Path) -> None:
    folder = tree / "kustomize/overlays/prod/fraud"
    (folder / "release/kustomization.yaml").unlink()
    file = folder / "kustomization.yaml"
    pinned = (
        f"images:\n  - {{name: forest, newName: registry.example/forest, newTag: 0.1.0, digest: {DIGEST}}}\n"
    )
    file.write_text(file.read_text().replace("  - release\n", "") + pinned)
    assert {finding.rule for finding in found(tree)} == {"release-file-stable"}
    settings = tree / "kustomize" / BASE
    settings.write_text(settings.read_text().replace("literals:\n", "literals:\n      - FOREST_WATCH=10\n"))
    # Staging's release still pins a bundle.
    assert {str(finding).split(":")[0] for finding in found(tree)} == {"kustomize/overlays/staging/fraud"}


def test_an_overlay_that_trains_as_the_document_has_it_is_right(
    tmp_path: Path, needs_kustomize: None
) -> None:
    shutil.copytree(ROOT / "kustomize", tmp_path / "kustomize")
    git(tmp_path, "init", "-q", "-b", "main")
    commit(tmp_path)
    document = (ROOT / "docs" / "training.md").read_text()
    text = document.partition("```yaml\n")[2].partition("```")[0]
    first, _, overlay = text.partition("\n")
    place = tmp_path / first.removeprefix("# ")
    place.write_text(overlay)
    shutil.rmtree(place.parent / "release")
    assert found(tmp_path) == ()


CRON_JOB = """\
apiVersion: batch/v1
kind: CronJob
metadata:
  name: training
spec:
  schedule: 0 0 1 1 *
  jobTemplate:
    spec:
      template:
        metadata:
          labels: {app: training}
        spec:
          restartPolicy: Never
          automountServiceAccountToken: false
          enableServiceLinks: false
          securityContext:
            runAsNonRoot: true
            seccompProfile: {type: RuntimeDefault}
          containers:
            - name: export
              image: registry.example/export:0.1.0@DIGEST
              securityContext:
                allowPrivilegeEscalation: false
                readOnlyRootFilesystem: true
                capabilities: {drop: [ALL]}
"""


@pytest.mark.parametrize(
    ("before", "after", "rule"),
    [
        ("@DIGEST", "", "image-pinned"),
        ("image: registry.example/export:0.1.0@DIGEST", "env: []", "container-known"),
        ("readOnlyRootFilesystem: true", "runAsUser: 0", "pod-restricted"),
        ("enableServiceLinks: false", "hostname: training", "service-links-off"),
        ("automountServiceAccountToken: false", "serviceAccountName: forest", "token-not-mounted"),
        (
            "restartPolicy: Never",
            "serviceAccountName: absent\n          restartPolicy: Never",
            "references-found",
        ),
        ("image:", "envFrom: [{configMapRef: {name: absent}}]\n              image:", "settings-present"),
        ("restartPolicy: Never", "restartsPolicy: Never", "schema-valid"),
    ],
)
def test_a_job_is_judged_as_a_server_is(tree: Path, before: str, after: str, rule: str) -> None:
    (tree / "kustomize/base/training.yaml").write_text(CRON_JOB.replace("DIGEST", DIGEST))
    kustomization = tree / "kustomize" / BASE
    kustomization.write_text(
        kustomization.read_text().replace("resources:\n", "resources:\n  - training.yaml\n")
    )
    assert found(tree) == ()
    assert before in CRON_JOB
    (tree / "kustomize/base/training.yaml").write_text(
        CRON_JOB.replace(before, after, 1).replace("DIGEST", DIGEST)
    )
    told = found(tree)
    assert rule in {finding.rule for finding in told}
    assert all("CronJob" in finding.message for finding in told)


def test_what_runs_beside_the_models_is_judged_too(tree: Path) -> None:
    folder = tree / "kustomize/apps/tool"
    folder.mkdir(parents=True)
    (folder / "kustomization.yaml").write_text("namespace: tool\nresources: [namespace.yaml, tool.yaml]\n")
    space = (tree / "kustomize/namespaces/prod/namespace.yaml").read_text()
    (folder / "namespace.yaml").write_text(space)
    job = CRON_JOB.replace("@DIGEST", "")
    (folder / "tool.yaml").write_text(job)
    # A tag is enough there.
    assert found(tree) == ()
    (folder / "tool.yaml").write_text(job.replace("runAsNonRoot: true", "runAsUser: 0"))
    (folder / "namespace.yaml").write_text(space.replace("restricted", "baseline"))
    assert {finding.rule for finding in found(tree)} == {"pod-restricted", "namespace-restricted"}
    (folder / "namespace.yaml").unlink()
    assert {finding.rule for finding in found(tree)} == {"builds"}


def test_a_file_beside_the_release_is_told(tree: Path) -> None:
    (tree / release_file("prod", "fraud")).with_name("notes.yaml").write_text("{}\n")
    (finding,) = found(tree)
    assert "also holds notes.yaml" in finding.message


def test_every_rule_has_a_fixture_that_breaks_it() -> None:
    elsewhere = {"nothing-outside-git", "promoted-from-staging", "history-readable"}
    rules = {rule.__name__.replace("_", "-") for rule in (*OVERLAY_RULES, *TREE_RULES)}
    assert {case[0] for case in BROKEN} | elsewhere == rules | {"builds"}


def test_the_command_counts_and_fails(tree: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    from gitops.__main__ import main

    monkeypatch.chdir(tree)
    assert main(["lint", "--against", "main"]) == 0
    assert capsys.readouterr().out == "2 overlays, 35 rules: nothing found\n"
    (tree / "kustomize/overlays/prod/kustomization.yaml").write_text("resources: [absent]\n")
    (tree / "kustomize" / DEPLOYMENT).write_text(
        (tree / "kustomize" / DEPLOYMENT).read_text().replace("enableServiceLinks: false", "")
    )
    assert main(["lint", "--against", "main"]) == 1
    said = capsys.readouterr().out.splitlines()
    assert said[-1] == "2 overlays, 35 rules: 3 found"
    assert said[0].startswith("kustomize/overlays/prod does not build")
    assert said[0].endswith("[builds]")
    assert said[1].startswith(
        "kustomize/overlays/prod/fraud: Deployment fraud-forest: set enableServiceLinks"
    )
    assert said[2].endswith("[service-links-off]")


def test_the_servers_defaults_are_the_servers() -> None:
    from server.config import Config

    defaults = Config()
    for variable, value in life.DEFAULTS.items():
        assert getattr(defaults, variable.removeprefix("FOREST_").lower()) == value


def test_the_house_keeps_its_rules(needs_kustomize: None) -> None:
    report = lint(Repository(ROOT), "HEAD")
    assert report.findings == ()
    assert report.overlays >= 2
