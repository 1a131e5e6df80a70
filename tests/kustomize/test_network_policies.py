"""The policies allow the flows in the tables of docs/deployment.md, and no others: over all pairs of pods."""

from itertools import product, takewhile
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[2]
DOCUMENT = ROOT / "docs" / "deployment.md"


class Pod(NamedTuple):
    """A pod, as a policy sees it; `who` is what the tables call it."""

    who: str
    namespace: str
    namespace_labels: dict
    labels: dict


PORTS = [
    (50051, "TCP"),
    (50052, "TCP"),
    ("metrics", "TCP"),
    (53, "UDP"),
    (53, "TCP"),
    (50051, "UDP"),
    (443, "TCP"),
]


def _pod(who, namespace, labels=None, **namespace_labels):
    names = {"kubernetes.io/metadata.name": namespace}
    names |= {key.replace("_", "-"): value for key, value in namespace_labels.items()}
    return Pod(who, namespace, names, labels or {})


CLIENT = {"forest-client": "true"}
OTHERS = [
    _pod("clients of staging", "shop-staging", CLIENT, forest_clients="staging"),
    _pod("clients of prod", "shop", CLIENT, forest_clients="prod"),
    _pod("monitoring", "monitoring"),
    _pod("cluster DNS", "kube-system", {"k8s-app": "kube-dns"}),
    _pod("gateway", "gateway"),
    _pod("ingress controller", "ingress-nginx"),
    # None of these is in a table.
    _pod("an unlabelled pod in a client's namespace", "shop", forest_clients="prod"),
    _pod("a labelled pod in another namespace", "lunch", CLIENT),
    _pod("a pod labelled otherwise", "shop", {"forest-client": "false"}, forest_clients="prod"),
    _pod("another pod of kube-system", "kube-system", {"k8s-app": "metrics-server"}),
    _pod("what calls itself DNS elsewhere", "lunch", {"k8s-app": "kube-dns"}),
    _pod("a stray pod beside the models in prod", "forest-prod"),
    _pod("a labelled stray pod beside the models in staging", "forest-staging", CLIENT),
]
OUTSIDE = ("callers' networks", "192.0.2.7"), ("the internet", "203.0.113.7")


def _selects(selector, labels):
    for key, value in selector.get("matchLabels", {}).items():
        if labels.get(key) != value:
            return False
    for each in selector.get("matchExpressions", []):
        assert each["operator"] == "In", "an operator that is not understood here"
        if labels.get(each["key"]) not in each["values"]:
            return False
    return True


def _is_peer(peer, pod, namespace):
    """Tell whether a rule's peer is this pod; the rule is of a policy in `namespace`."""
    if "ipBlock" in peer:
        return False
    if "namespaceSelector" in peer:
        there = _selects(peer["namespaceSelector"], pod.namespace_labels)
    else:
        there = pod.namespace == namespace
    return there and _selects(peer.get("podSelector", {}), pod.labels)


def _has_port(rule, port):
    ports = rule.get("ports", [])
    return not ports or port in [(each["port"], each.get("protocol", "TCP")) for each in ports]


def _direction_allows(policies, direction, pod, port, is_peer):
    """Tell whether one end allows a flow: no policy selects it, or a rule names both."""
    selecting = [
        each
        for each in policies
        if each["metadata"]["namespace"] == pod.namespace
        and direction in each["spec"]["policyTypes"]
        and _selects(each["spec"]["podSelector"], pod.labels)
    ]
    peers = {"Ingress": "from", "Egress": "to"}[direction]
    return not selecting or any(
        _has_port(rule, port) and any(is_peer(peer, each["metadata"]["namespace"]) for peer in rule[peers])
        for each in selecting
        for rule in each["spec"].get(direction.lower(), [])
    )


def _allows(policies, source, target, port):
    return _direction_allows(
        policies, "Egress", source, port, lambda peer, namespace: _is_peer(peer, target, namespace)
    ) and _direction_allows(
        policies, "Ingress", target, port, lambda peer, namespace: _is_peer(peer, source, namespace)
    )


def _policies(objects):
    return [each for each in objects if each["kind"] == "NetworkPolicy"]


def _models(objects, model=None):
    for each in objects:
        labels = each["metadata"].get("labels", {})
        if each["kind"] == "Deployment" and model in (None, labels["app.kubernetes.io/instance"]):
            namespace = each["metadata"]["namespace"]
            pod = each["spec"]["template"]["metadata"]["labels"]
            yield _pod("models in " + namespace.removeprefix("forest-"), namespace, pod)


def _flows(objects, model):
    """Return every flow between two pods, one of which is the model's or a stray one beside it."""
    policies = _policies(objects)
    pods = [*_models(objects, model), *OTHERS]
    return {
        (source.who, target.who, f"{port[0]}/{port[1]}")
        for source, target, port in product(pods, pods, PORTS)
        if source is not target
        and any(pod.namespace.startswith("forest-") for pod in (source, target))
        and _allows(policies, source, target, port)
    }


def _table(*heads):
    """Return the rows of the document's table with these heads."""
    lines = DOCUMENT.read_text().splitlines()
    start = lines.index("| " + " | ".join(heads) + " |") + 2
    rows = takewhile(lambda line: line.startswith("|"), lines[start:])
    return {tuple(cell.strip() for cell in row.strip("|").split("|")) for row in rows}


@pytest.fixture
def environments(tree, add_model, render):
    """Return a function that renders everything, with a second model, and components for prod's fraud."""

    def run(*components):
        add_model("churn")
        overlay = tree / "kustomize" / "overlays" / "prod" / "fraud" / "kustomization.yaml"
        lines = "".join(f"  - ../../../components/{name}\n" for name in components)
        overlay.write_text(overlay.read_text().replace("components:\n", "components:\n" + lines))
        overlays = tree / "kustomize" / "overlays"
        return [each for name in ("staging", "prod") for each in render(overlays / name).objects]

    return run


@pytest.mark.parametrize("model", ["fraud", "churn"])
def test_exactly_the_flows_in_the_table(environments, model):
    expected = _table("from", "to", "port")
    assert len(expected) == 8
    assert _flows(environments(), model) == expected


def test_models_cannot_reach_each_other(environments):
    objects = environments()
    policies = _policies(objects)
    models = list(_models(objects))
    assert len(models) == 4
    for source, target, port in product(models, models, PORTS):
        assert not _allows(policies, source, target, port)


@pytest.mark.parametrize("component", ["gateway", "ingress"])
def test_a_component_adds_its_flow(environments, component):
    expected = {
        (source, target.replace("the overlay's environment", "prod"), port)
        for name, source, target, port in _table("component", "from", "to", "port")
        if name == component
    }
    assert len(expected) == 1
    objects = environments(component)
    assert _flows(objects, "fraud") == expected | _table("from", "to", "port")
    assert _flows(objects, "churn") == _table("from", "to", "port"), "switched on for fraud only"


@pytest.mark.parametrize("component", [None, "nodeport", "loadbalancer"])
def test_networks_outside_are_let_in_by_their_component_alone(environments, component):
    objects = environments(*filter(None, [component]))
    policies = _policies(objects)
    # The sample's network is a /24: a caller is in it if the first three numbers are its own.
    flows = {
        (component, who, pod.who, f"{port[0]}/{port[1]}")
        for (who, address), pod, port in product(OUTSIDE, _models(objects), PORTS)
        if _direction_allows(
            policies,
            "Ingress",
            pod,
            port,
            lambda peer, _: peer.get("ipBlock") == {"cidr": address.rsplit(".", 1)[0] + ".0/24"},  # noqa: B023
        )
    }
    expected = {row for row in _table("component", "from", "to", "port") if row[0] == component}
    assert len(expected) == (component is not None)
    assert flows == {
        (*row[:2], row[2].replace("the overlay's environment", "prod"), row[3]) for row in expected
    }


def test_each_policy_is_needed(environments):
    """An evaluation that saw nothing would find the tables right, too."""
    objects = environments()
    own = [each for each in objects if each["metadata"]["name"] != "default-deny"]
    stray = {flow for flow in _flows(own, "fraud") if "stray" in flow[0] + flow[1]}
    assert _flows(own, "fraud") - stray == _table("from", "to", "port")
    assert ("a stray pod beside the models in prod", "monitoring", "443/TCP") in stray
    closed = [
        each
        for each in objects
        if each["kind"] != "NetworkPolicy" or each["metadata"]["name"] == "default-deny"
    ]
    assert _flows(closed, "fraud") == set()
