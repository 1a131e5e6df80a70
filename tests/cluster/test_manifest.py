"""The caller's pod is one that its namespace and the models' own policy let call."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cluster.caller.manifest import pod

_GOLDEN = Path(__file__).parents[1] / "kustomize/golden"
_IMAGE = "127.0.0.1:5000/caller@sha256:" + "0" * 64


def _objects(text: str) -> dict[str, Any]:
    return {each["kind"]: each for each in yaml.safe_load_all(text)}


@pytest.mark.parametrize("version", ["1.31", "1.34"])
@pytest.mark.parametrize("options", [(), ("--rate=20", "--retries")])
def test_it_is_valid_and_has_what_it_was_given(version: str, options: tuple[str, ...]) -> None:
    kubernetes_validate = pytest.importorskip(
        "kubernetes_validate", reason="kubernetes-validate is not installed: nothing to validate with"
    )
    objects = _objects(pod("staging", _IMAGE, name="retrying", options=options))
    assert set(objects) == {"Namespace", "Pod"}
    for each in objects.values():
        kubernetes_validate.validate(each, version, strict=True)
    assert objects["Pod"]["metadata"]["name"] == "retrying"
    (container,) = objects["Pod"]["spec"]["containers"]
    assert container["image"] == _IMAGE
    assert container["args"] == ["dns:///fraud-forest-headless.forest-staging:50051", *options]


@pytest.mark.parametrize("environment", ["staging", "prod"])
def test_it_calls_the_headless_service_and_the_policy_admits_it(environment: str) -> None:
    golden = list(yaml.safe_load_all((_GOLDEN / f"{environment}-fraud.yaml").read_text()))
    objects = _objects(pod(environment, _IMAGE))
    labels = [objects["Namespace"]["metadata"]["labels"], objects["Pod"]["metadata"]["labels"]]
    assert objects["Pod"]["metadata"]["namespace"] == objects["Namespace"]["metadata"]["name"]

    (target,) = objects["Pod"]["spec"]["containers"][0]["args"]
    host, port = target.removeprefix("dns:///").split(":")
    (service,) = [
        each
        for each in golden
        if each["kind"] == "Service" and f"{each['metadata']['name']}.{each['metadata']['namespace']}" == host
    ]
    assert service["spec"]["clusterIP"] == "None"
    assert [each["port"] for each in service["spec"]["ports"]] == [int(port)]

    (policy,) = [each for each in golden if each["kind"] == "NetworkPolicy"]
    (peer,) = policy["spec"]["ingress"][0]["from"]
    for selector, found in zip((peer["namespaceSelector"], peer["podSelector"]), labels, strict=True):
        assert set(selector) == {"matchExpressions"}
        for expression in selector["matchExpressions"]:
            assert expression["operator"] == "In"
            assert found[expression["key"]] in expression["values"]


def test_it_is_restricted_as_the_servers_pods_are() -> None:
    golden = list(yaml.safe_load_all((_GOLDEN / "staging-fraud.yaml").read_text()))
    (deployment,) = [each for each in golden if each["kind"] == "Deployment"]
    server, caller = deployment["spec"]["template"]["spec"], _objects(pod("staging", _IMAGE))["Pod"]["spec"]
    for field in ("securityContext", "automountServiceAccountToken", "enableServiceLinks"):
        assert caller[field] == server[field]
    assert caller["containers"][0]["securityContext"] == server["containers"][0]["securityContext"]
