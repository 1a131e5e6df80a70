"""The policies allow the flows in the tables of docs/deployment.md, and no others.

Judged is every pair of pods that differ in a label which a policy or a table knows; on every port that one of
them or a container knows, and on a policy's neighbours. What no policy mentions makes no difference.
"""

import copy
import ipaddress
import re
import shutil
from itertools import product, takewhile
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml

ROOT = Path(__file__).parents[3]
DOCUMENT = ROOT / "docs" / "deployment.md"
COMPONENTS = sorted(path.name for path in (ROOT / "kustomize" / "components").iterdir())
NAMESPACE = "kubernetes.io/metadata.name"
INSTANCE = "app.kubernetes.io/instance"

# Whom the tables mean: labels of the namespace, and of the pod.
WHO = {
    "clients of staging": ({"forest-clients": "staging"}, {"forest-client": "true"}),
    "clients of prod": ({"forest-clients": "prod"}, {"forest-client": "true"}),
    "monitoring": ({NAMESPACE: "monitoring"}, {}),
    "cluster DNS": ({NAMESPACE: "kube-system"}, {"k8s-app": "kube-dns"}),
    "gateway": ({NAMESPACE: "gateway"}, {}),
    "ingress controller": ({NAMESPACE: "ingress-nginx"}, {}),
}
CALLERS = ipaddress.ip_network(re.search("Callers' networks are `(.+?)`", DOCUMENT.read_text())[1])
PROTOCOLS = ("TCP", "UDP", "SCTP")

# The judge is built once: four minutes on a small machine.
pytestmark = pytest.mark.timeout(900)


class Peer(NamedTuple):
    """A pod, or an address outside, which has no labels."""

    address: str
    namespace: dict
    pod: dict

    def is_of(self, namespace, pod):
        return namespace.items() <= self.namespace.items() and pod.items() <= self.pod.items()

    def as_json(self):
        if not self.namespace:
            return {"IP": self.address}
        name = self.namespace[NAMESPACE]
        inside = {"Namespace": name, "NamespaceLabels": self.namespace, "PodLabels": self.pod}
        return {"IP": self.address, "Internal": inside}

    def __str__(self):
        if not self.namespace:
            return self.address
        return f"a pod {self.pod} in {self.namespace}"


class Port(NamedTuple):
    """A port, and what the models' containers call it."""

    number: int
    name: str
    protocol: str

    def __str__(self):
        return f"{self.number}/{self.protocol}"

    def is_of(self, cell):
        port, protocol = cell.split("/")
        return protocol == self.protocol and port in (self.name, str(self.number))


class World:
    """All the peers and ports that the policies of some manifests, or the tables, can tell apart."""

    def __init__(self, objects):
        self.policies = [each for each in objects if each["kind"] == "NetworkPolicy"]
        self.who = {name: [labels] for name, labels in WHO.items()}
        self._names = {}
        for each in objects:
            if each["kind"] == "Deployment":
                self._add_model(each)
        if "metrics" not in self._names.values():
            self._names[9090] = "metrics"
        self._own = {
            each["metadata"]["name"]: {NAMESPACE: each["metadata"]["name"], **each["metadata"]["labels"]}
            for each in objects
            if each["kind"] == "Namespace"
        }
        self.peers = [*self._pods(), *self._outside()]
        self.ports = self._ports()
        everybody = range(len(self.peers))
        own = [index for index in everybody if self.peers[index].namespace.get(NAMESPACE) in self._own]
        # A pair of one and the same is two pods that are alike.
        self.pairs = {*product(own, everybody), *product(everybody, own)}

    def _add_model(self, deployment):
        namespace = deployment["metadata"]["namespace"]
        template = deployment["spec"]["template"]
        labels = {NAMESPACE: namespace}, template["metadata"]["labels"]
        environment = namespace.removeprefix("forest-")
        self.who.setdefault(f"models in {environment}", []).append(labels)
        model = labels[1][INSTANCE]
        self.who[f"{model} in {environment}"] = [labels]
        for container in template["spec"]["containers"]:
            self._names |= {port["containerPort"]: port["name"] for port in container["ports"]}

    def _pods(self):
        namespaces, pods = {NAMESPACE: {"elsewhere"}}, {}
        for namespace, pod in [*self._selectors(), *(each for who in self.who.values() for each in who)]:
            for known, labels in ((namespaces, namespace), (pods, pod)):
                for key, value in labels.items():
                    known.setdefault(key, set()).add(value)
        foreign = [
            labels
            for labels in _combinations(namespaces)
            if labels.get(NAMESPACE, "") not in {"", *self._own}
        ]
        pairs = product([*foreign, *self._own.values()], _combinations(pods))
        for number, (namespace, pod) in enumerate(pairs, 1):
            yield Peer(str(ipaddress.ip_address("10.0.0.0") + number), namespace, pod)

    def _selectors(self):
        for policy in self.policies:
            yield from (({}, labels) for labels in _values(policy["spec"]["podSelector"]))
            for peer in _peers(policy):
                yield from ((labels, {}) for labels in _values(peer.get("namespaceSelector", {})))
                yield from (({}, labels) for labels in _values(peer.get("podSelector", {})))

    def _outside(self):
        """Return the addresses at the borders of each network, and one far away."""
        yield Peer("203.0.113.7", {}, {})
        yield Peer("2001:db8::7", {}, {})
        blocks = [
            peer["ipBlock"]["cidr"]
            for policy in self.policies
            for peer in _peers(policy)
            if "ipBlock" in peer
        ]
        for network in {CALLERS, *map(ipaddress.ip_network, blocks)}:
            for address in (network[0] - 1, network[0], network[-1], network[-1] + 1):
                yield Peer(str(address), {}, {})

    def _ports(self):
        ports = [
            port for policy in self.policies for rule in _rules(policy) for port in rule.get("ports", [])
        ]
        known = {port[end] for port in ports for end in ("port", "endPort") if isinstance(port.get(end), int)}
        numbers = {number + by for number in known for by in (-1, 0, 1)} | set(self._names)
        return [
            Port(number, self._names.get(number, ""), protocol)
            for number, protocol in product(sorted(numbers), PROTOCOLS)
        ]

    def _all(self, who):
        for index, peer in enumerate(self.peers):
            if who == "callers' networks":
                if not peer.namespace and ipaddress.ip_address(peer.address) in CALLERS:
                    yield index
            elif any(peer.is_of(*labels) for labels in self.who[who]):
                yield index

    def flows(self, rows):
        """Return what rows of the tables mean, by index."""
        found = set()
        for source, target, cell in rows:
            ends = product(self._all(source), self._all(target))
            ports = [index for index, port in enumerate(self.ports) if port.is_of(cell)]
            flows = {(*pair, index) for pair in self.pairs.intersection(ends) for index in ports}
            assert flows, f"nobody here is what a table calls {source!r}, {target!r} or {cell!r}"
            found |= flows
        return found

    def tell(self, flows):
        """Return flows as people read them."""
        return {
            (str(self.peers[source]), str(self.peers[target]), str(self.ports[port]))
            for source, target, port in flows
        }


def _rules(policy):
    return [rule for kind in ("ingress", "egress") for rule in policy["spec"].get(kind, [])]


def _peers(policy):
    return [peer for rule in _rules(policy) for kind in ("from", "to") for peer in rule.get(kind, [])]


def _values(selector):
    """Return each label that a selector knows."""
    assert selector.keys() <= {"matchLabels", "matchExpressions"}
    yield from ({key: value} for key, value in selector.get("matchLabels", {}).items())
    for each in selector.get("matchExpressions", []):
        # For others these pods are too few; and cyclonus 0.5.6 lets NotIn select no pod without the label.
        assert each["operator"] == "In", each
        yield from ({each["key"]: value} for value in each["values"])


def _combinations(known):
    """Return every set of labels: each key absent, or with each of its values."""
    choices = [[(key, value) for value in (None, *sorted(values))] for key, values in sorted(known.items())]
    return [{key: value for key, value in chosen if value is not None} for chosen in product(*choices)]


def _table(*heads):
    """Return the rows of the document's table with these heads."""
    lines = DOCUMENT.read_text().splitlines()
    start = lines.index("| " + " | ".join(heads) + " |") + 2
    rows = takewhile(lambda line: line.startswith("|"), lines[start:])
    return {tuple(cell.strip() for cell in row.strip("|").split("|")) for row in rows}


def _rows(tree):
    """Return what the tables promise to a tree: a component's flows go to the models that have it."""
    rows = _table("from", "to", "port")
    for file in tree.glob("kustomize/overlays/*/*/kustomization.yaml"):
        model = f"{file.parts[-2]} in {file.parts[-3]}"
        components = {Path(path).name for path in yaml.safe_load(file.read_text())["components"]}
        rows |= {
            tuple(cell.replace("the overlay's model", model) for cell in (source, target, port))
            for name, source, target, port in _table("component", "from", "to", "port")
            if name in components
        }
    return rows


@pytest.fixture
def judged(judge):
    """Return a function that compares what is allowed with rows of the tables: too much, and too little."""

    def run(objects, rows):
        world = World(objects)
        allowed = judge(
            policies=world.policies,
            peers=[peer.as_json() for peer in world.peers],
            ports=[port._asdict() for port in world.ports],
            pairs=list(world.pairs),
        )
        expected = world.flows(rows)
        return world.tell(allowed - expected), world.tell(expected - allowed)

    return run


def _replace(folder, old, new):
    file = folder / "kustomization.yaml"
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))


@pytest.fixture
def environments(tree, add_model, render):
    """Return a function that renders both environments with two models; fraud in prod gets a component."""

    def run(component=None):
        overlays = tree / "kustomize" / "overlays"
        for other in {file.parent for file in overlays.glob("*/*/kustomization.yaml")}:
            if other.name != "fraud":
                shutil.rmtree(other)
                _replace(other.parent, f"  - {other.name}\n", "")
        add_model("another")
        if component:
            line = f"components:\n  - ../../../components/{component}\n"
            _replace(overlays / "prod" / "fraud", "components:\n", line)
        return [each for name in ("staging", "prod") for each in render(overlays / name).objects]

    return run


def test_the_tree_allows_exactly_the_flows_in_the_tables(rendered, judged):
    objects = [
        each for name in ("staging", "prod") for each in rendered(f"kustomize/overlays/{name}").objects
    ]
    assert judged(objects, _rows(ROOT)) == (set(), set())


@pytest.mark.parametrize("component", [None, *(name for name in COMPONENTS if name != "external-secrets")])
def test_a_component_adds_its_flow_to_its_model_alone(environments, tree, judged, component):
    added = [row for row in _table("component", "from", "to", "port") if row[0] == component]
    assert len(added) == (component in {"gateway", "ingress", "nodeport", "loadbalancer", "traces"})
    objects = environments(component)
    assert judged(objects, _rows(tree)) == (set(), set())


# What is done to the policy of fraud in prod, or to its namespace's; and what is found, too much or little.
FAULTS = {
    "clients without the pod's label": (
        "much",
        lambda fraud, _: _clients(fraud)["from"][0].pop("podSelector"),
    ),
    "clients of its own namespace": (
        "little",
        lambda fraud, _: _clients(fraud)["from"][0].pop("namespaceSelector"),
    ),
    "two peers instead of one": ("much", lambda fraud, _: _split(_clients(fraud))),
    "anybody": ("much", lambda fraud, _: _clients(fraud).pop("from")),
    "every port": ("much", lambda fraud, _: _clients(fraud).pop("ports")),
    "the health port, too": ("much", lambda fraud, _: _clients(fraud)["ports"][0].update(endPort=50052)),
    "another port": ("both", lambda fraud, _: _clients(fraud)["ports"][0].update(port=50053)),
    "UDP, too": (
        "much",
        lambda fraud, _: _clients(fraud)["ports"].append({"port": 50051, "protocol": "UDP"}),
    ),
    "clients of staging, too": ("much", lambda fraud, _: _admitted(fraud).append("staging")),
    "clients of staging instead": ("both", lambda fraud, _: _admitted(fraud).__setitem__(0, "staging")),
    "a port's wrong name": ("little", lambda fraud, _: fraud["ingress"][1]["ports"][0].update(port="metric")),
    "a neighbour's address": ("much", lambda fraud, _: _admit(fraud, "192.0.2.0/23")),
    "the pods' own network": ("much", lambda fraud, _: _admit(fraud, "10.0.0.0/8")),
    "whatever is near DNS": ("much", lambda fraud, _: fraud["egress"][0]["to"][0].pop("podSelector")),
    "DNS by UDP alone": ("little", lambda fraud, _: fraud["egress"][0]["ports"].pop(1)),
    "egress to everywhere": ("much", lambda fraud, _: fraud["egress"].append({})),
    "no egress": ("little", lambda fraud, _: fraud.update(policyTypes=["Ingress"])),
    "a policy of nobody": (
        "little",
        lambda fraud, _: fraud["podSelector"]["matchLabels"].update(name="typo"),
    ),
    "stray pods' egress": ("much", lambda _, deny: deny.update(policyTypes=["Ingress"])),
    "stray pods' ingress": ("much", lambda _, deny: deny.update(policyTypes=["Egress"])),
}


def _clients(fraud):
    return fraud["ingress"][0]


def _admitted(fraud):
    return _clients(fraud)["from"][0]["namespaceSelector"]["matchExpressions"][0]["values"]


def _split(rule):
    """Make two peers of one, which is a dash too many."""
    rule["from"] = [{key: value} for key, value in rule["from"][0].items()]


def _admit(fraud, network):
    fraud["ingress"].append({"from": [{"ipBlock": {"cidr": network}}], "ports": [{"port": 50051}]})


def test_each_fault_is_found(environments, judged):
    prod = [each for each in environments() if "forest-prod" in each["metadata"].values()]
    rows = {row for row in _table("from", "to", "port") if "prod" in row[0] + row[1]}
    found = {}
    for name, (_, make) in FAULTS.items():
        broken = copy.deepcopy(prod)
        policies = {
            each["metadata"]["name"]: each["spec"] for each in broken if each["kind"] == "NetworkPolicy"
        }
        make(policies["fraud-forest"], policies["default-deny"])
        too_much, too_little = judged(broken, rows)
        found[name] = "both" if too_much and too_little else "much" if too_much else too_little and "little"
    assert found == {name: finding for name, (finding, _) in FAULTS.items()}
