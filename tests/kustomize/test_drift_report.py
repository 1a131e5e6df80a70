"""The component drift-report, as docs/drift.md shows it."""

import subprocess
from pathlib import Path

import pytest

from gitops.lint import lint
from gitops.repository import Repository
from gitops.rules import schema
from model_export.drift.__main__ import _parser

ROOT = Path(__file__).parents[2]
INSTANCE = "app.kubernetes.io/instance"


@pytest.fixture(params=["staging-fraud", "prod-churn"])
def overlay(request, overlays):
    """Return one model of each environment."""
    return next(each for each in overlays if f"{each.environment}-{each.model}" == request.param)


@pytest.fixture
def reported(tree, overlay, render):
    """Return an overlay as docs/drift.md has it."""
    document = (ROOT / "docs" / "drift.md").read_text()
    text = document.partition("```yaml\n")[2].partition("```")[0]
    assert text.startswith("# kustomize/overlays/staging/fraud/kustomization.yaml\n")
    text = text.replace("envs/staging", "envs/" + overlay.environment)
    folder = overlay.folder(tree)
    (folder / "kustomization.yaml").write_text(text.replace("models/fraud", "models/" + overlay.model))
    return render(folder)


@pytest.fixture
def pod(reported):
    """Return its Job's pod template."""
    return reported.one("CronJob")["spec"]["jobTemplate"]["spec"]["template"]


def test_nothing_that_serves_is_changed(reported, manifests, overlay):
    added = [each for each in reported.objects if each not in manifests.objects]
    assert all(each in reported.objects for each in manifests.objects)
    name = f"{overlay.model}-forest-drift-report"
    assert [(each["kind"], each["metadata"]["name"]) for each in added] == [
        ("CronJob", name),
        ("NetworkPolicy", name),
    ]
    assert {each["metadata"]["namespace"] for each in added} == {"forest-" + overlay.environment}


def test_it_compares_with_the_releases_own_bundle(reported, pod, overlay):
    (bundle,), (drift,) = pod["spec"]["initContainers"], pod["spec"]["containers"]
    (server,) = reported.one("Deployment")["spec"]["template"]["spec"]["containers"]
    assert bundle["image"] == server["image"]
    (model,) = drift["env"]
    assert model["valueFrom"] == {"fieldRef": {"fieldPath": f"metadata.labels['{INSTANCE}']"}}
    assert pod["metadata"]["labels"][INSTANCE] == overlay.model
    assert drift["command"] == ["python3", "-m", "model_export.drift"]
    options = _parser().parse_args([each.replace("$(MODEL)", overlay.model) for each in drift["args"]])
    assert (options.bundle, options.format, options.ignore) == (overlay.model, ["html", "json"], ["Time"])
    mounts = {
        each["mountPath"]: (each["name"], each.get("readOnly", False)) for each in drift["volumeMounts"]
    }
    assert mounts == {
        "/bundle": ("bundle", True),
        "/rows": ("rows", True),
        "/reports": ("reports", False),
        "/tmp": ("tmp", False),
    }
    (copied,) = bundle["volumeMounts"]
    assert copied == {"name": "bundle", "mountPath": "/bundle"}
    assert options.models.is_relative_to("/bundle")
    assert f'"{options.models}"' in bundle["command"][-1]
    assert (str(options.file), str(options.output)) == (f"/rows/{overlay.model}", f"/reports/{overlay.model}")


def test_rows_may_be_those_of_the_audit_log(reported, pod, overlay, tree, render):
    folder = overlay.folder(tree)
    file = folder / "kustomization.yaml"
    own = "  - ../../../components/drift-report\n"
    added = own + own.replace("report\n", "report/audit\n") + own.replace("drift-report", "audit")
    file.write_text(file.read_text().replace(own, added))
    rendered = render(folder)
    spec = rendered.one("CronJob")["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    (drift,) = spec["containers"]
    options = _parser().parse_args([each.replace("$(MODEL)", overlay.model) for each in drift["args"]])
    assert (options.audit, options.hours, options.output) == (True, 24, Path("/reports") / overlay.model)
    claims = {each["name"]: each.get("persistentVolumeClaim") for each in spec["volumes"]}
    assert claims["rows"] == {"claimName": "forest-audit", "readOnly": True}
    server = rendered.one("Deployment")["spec"]["template"]["spec"]
    (volume,) = server["volumes"]
    assert volume["persistentVolumeClaim"] == {"claimName": "forest-audit"}
    # Of the group that files are of, and no other user's.
    assert server["securityContext"]["runAsGroup"] == spec["securityContext"]["runAsGroup"]
    folders = {each["name"]: each["value"] for each in server["containers"][0]["env"] if "value" in each}
    assert folders["FOREST_AUDIT_FOLDER"].removeprefix("/audit/") == str(options.file.name).replace(
        overlay.model, "$(MODEL)"
    )


def test_it_is_restricted_and_calls_nobody(reported, pod, overlay):
    spec = pod["spec"]
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert (spec["automountServiceAccountToken"], spec["enableServiceLinks"]) == (False, False)
    for container in (*spec["initContainers"], *spec["containers"]):
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert container["resources"].keys() == {"requests", "limits"}
    policy = reported.one("NetworkPolicy", f"{overlay.model}-forest-drift-report")["spec"]
    labels = pod["metadata"]["labels"]
    assert policy == {"podSelector": {"matchLabels": labels}, "policyTypes": ["Ingress", "Egress"]}
    others = [each for each in reported.of("NetworkPolicy") if each["spec"] != policy]
    selectors = [each["spec"]["podSelector"]["matchLabels"] for each in others]
    selectors += [each["spec"]["selector"] for each in reported.of("Service")]
    selectors += [each["spec"]["selector"]["matchLabels"] for each in reported.of("PodDisruptionBudget")]
    assert len(selectors) >= 4
    assert not [each for each in selectors if each.items() <= labels.items()], "it is no server"


def test_a_job_is_made_once_a_night_and_comes_to_an_end(reported):
    cron_job = reported.one("CronJob")["spec"]
    job = cron_job["jobTemplate"]["spec"]
    assert (cron_job["schedule"], cron_job["timeZone"]) == ("30 3 * * *", "Etc/UTC")
    assert cron_job["concurrencyPolicy"] == "Forbid"
    assert (job["backoffLimit"], job["activeDeadlineSeconds"]) == (0, 3600)
    assert job["template"]["spec"]["restartPolicy"] == "Never"


@pytest.mark.parametrize("version", [schema.KUBERNETES, "1.34"])
def test_it_is_valid(reported, version):
    kubernetes_validate = pytest.importorskip(
        "kubernetes_validate", reason="kubernetes-validate is not installed: nothing to validate with"
    )
    for each in reported.objects:
        kubernetes_validate.validate(each, version, strict=True)


@pytest.mark.parametrize("overlay", ["staging-fraud"], indirect=True)
def test_lint_has_nothing_against_it(reported, tree):
    for arguments in (
        ("init", "-q", "-b", "main"),
        ("add", "-A"),
        ("-c", "user.name=n", "-c", "user.email=e@example.com", "commit", "-q", "-m", "m"),
    ):
        subprocess.run(["git", *arguments], cwd=tree, check=True)
    assert lint(Repository(tree), None).findings == ()
