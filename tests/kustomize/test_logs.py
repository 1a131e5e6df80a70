"""The components log-level and traces, as docs/logs.md shows them."""

from pathlib import Path, PurePosixPath

import pytest

from gitops import tree as trees
from gitops.rules import settings
from server import config

ROOT = Path(__file__).parents[2]


@pytest.fixture(params=["staging-fraud", "prod-churn"])
def overlay(request, overlays):
    """Return one model of each environment."""
    return next(each for each in overlays if f"{each.environment}-{each.model}" == request.param)


def _example(name):
    """Return the one example of the document that has a name in it."""
    blocks = (ROOT / "docs" / "logs.md").read_text().split("```yaml\n")[1:]
    (example,) = [block.partition("```")[0] for block in blocks if name in block]
    return example


def test_the_level_of_running_pods_is_changed_by_a_commit(switch_on, manifests, overlay, tree, render):
    before = switch_on("log-level")
    name = overlay.model + "-forest-log-level"
    level = before.one("ConfigMap", name)
    assert level["data"] == {"level": "info"}
    assert "immutable" not in level
    pod = before.one("Deployment")["spec"]["template"]["spec"]
    (server,) = pod["containers"]
    assert pod["volumes"] == [{"name": "log-level", "configMap": {"name": name}}]
    assert server["volumeMounts"] == [{"name": "log-level", "mountPath": "/log-level", "readOnly": True}]
    (own,) = [each for each in before.of("ConfigMap") if each is not level]
    assert own["immutable"] is True
    assert config.read([], own["data"]).log_level_file == Path("/log-level/level")
    assert own["data"].items() > manifests.one("ConfigMap")["data"].items()
    # As docs/logs.md says it.
    file = overlay.folder(tree) / "kustomization.yaml"
    file.write_text(file.read_text() + _example("forest-log-level"))
    after = render(overlay.folder(tree))
    changed = [each for each in after.objects if each not in before.objects]
    assert changed == [level | {"data": {"level": "debug"}}]
    assert len(after.objects) == len(before.objects)


def test_lint_lets_the_level_change_and_no_other_settings(switch_on, overlay):
    objects = switch_on("log-level").objects
    linted = trees.Overlay(*overlay, PurePosixPath(), objects, None)
    for rule in (settings.settings_immutable, settings.settings_named_by_content, settings.settings_present):
        assert list(rule(linted)) == []
    for each in objects:
        if each["kind"] == "ConfigMap":
            each.pop("immutable", None)
            each["metadata"]["name"] = each["metadata"]["name"].replace("level", "levels")
    # The level's is found under another name, and the settings in any case.
    assert len(list(settings.settings_immutable(linted))) == 2


@pytest.mark.parametrize("elsewhere", [False, True])
def test_traces_may_go_where_they_are_sent_and_nowhere_else(switch_on, manifests, overlay, tree, elsewhere):
    if elsewhere:
        file = overlay.folder(tree) / "kustomization.yaml"
        file.write_text(file.read_text() + _example("FOREST_TRACES_ENDPOINT"))
    rendered = switch_on("traces")
    own = rendered.one("ConfigMap")
    assert own["immutable"] is True
    assert own["data"].items() > manifests.one("ConfigMap")["data"].items()
    host, port = config.read([], own["data"]).traces_endpoint.removeprefix("http://").split(":")
    policy = rendered.one("NetworkPolicy", overlay.model + "-forest-traces")["spec"]
    assert policy["podSelector"] == manifests.one("Deployment")["spec"]["selector"]
    assert policy["policyTypes"] == ["Egress"]
    (rule,) = policy["egress"]
    assert rule["ports"] == [{"port": int(port)}]
    ((namespace,),) = [each["namespaceSelector"]["matchExpressions"] for each in rule["to"]]
    assert namespace["values"] == [host.split(".")[1]] == ["observability" if elsewhere else "monitoring"]
    assert rendered.one("NetworkPolicy", overlay.model + "-forest") in manifests.objects
