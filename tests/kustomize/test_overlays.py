"""The promises of the manifests, field by field, from what each overlay renders to."""

import re

import pytest

from server import config
from server.health import LIVENESS, READINESS, STARTUP

SHA256 = r"sha256:[0-9a-f]{64}"
SELECTOR = "app.kubernetes.io/name", "app.kubernetes.io/instance"
FIGURES = {"staging": (2, 4, 60), "prod": (3, 10, 300)}


@pytest.fixture
def deployment(manifests):
    return manifests.one("Deployment")["spec"]


@pytest.fixture
def pod(deployment):
    return deployment["template"]["spec"]


@pytest.fixture
def server(pod):
    (container,) = pod["containers"]
    return container


@pytest.fixture
def settings(manifests):
    """The server's settings, as it will read them: it refuses what it does not know."""
    return config.read([], manifests.one("ConfigMap")["data"])


def test_an_overlay_has_these_objects_and_no_others(manifests, overlay):
    prefix = overlay.model + "-forest"
    objects = {(each["kind"], each["metadata"]["name"]) for each in manifests.objects}
    (config_map,) = {name for kind, name in objects if kind == "ConfigMap"}
    assert re.fullmatch(prefix + r"-[a-z0-9]{10}", config_map)
    assert objects >= {
        ("ConfigMap", config_map),
        ("Deployment", prefix),
        ("HorizontalPodAutoscaler", prefix),
        ("NetworkPolicy", prefix),
        ("PodDisruptionBudget", prefix),
        ("Service", prefix),
        ("Service", prefix + "-headless"),
        ("ServiceAccount", prefix),
    }
    for each in manifests.objects:
        assert each["metadata"]["namespace"] == "forest-" + overlay.environment
        assert each["metadata"]["name"].startswith(prefix), "a component listed after its model has no prefix"
        assert each["kind"] != "Secret", "Secrets are referred to, never kept here"


def test_the_autoscaler_alone_says_how_many(manifests, deployment, overlay):
    assert "replicas" not in deployment
    autoscaler = manifests.one("HorizontalPodAutoscaler")["spec"]
    assert autoscaler["scaleTargetRef"] == {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "name": manifests.one("Deployment")["metadata"]["name"],
    }
    least, most, window = FIGURES[overlay.environment]
    assert (autoscaler["minReplicas"], autoscaler["maxReplicas"]) == (least, most)
    targets = [
        (
            each["resource"]["name"],
            each["resource"]["target"]["type"],
            each["resource"]["target"]["averageUtilization"],
        )
        for each in autoscaler["metrics"]
    ]
    assert targets == [("memory", "Utilization", 80), ("cpu", "Utilization", 70)], "the controller's order"
    assert autoscaler["behavior"] == {
        "scaleUp": {
            "stabilizationWindowSeconds": 0,
            "policies": [{"type": "Percent", "value": 100, "periodSeconds": 15}],
        },
        "scaleDown": {"stabilizationWindowSeconds": window},
    }


def test_idle_memory_is_well_under_the_autoscalers_target(server):
    # tests/integration/test_resident_size.py holds the server under 113 MB, the size of its libraries alone.
    assert server["resources"] == {
        "requests": {"cpu": "100m", "memory": "256Mi"},
        "limits": {"cpu": "500m", "memory": "512Mi"},
    }
    assert 113e6 / (256 * 2**20) < 0.8 * 0.6


def test_a_rollout_takes_no_pod_away_and_ends_in_time(deployment, server):
    assert deployment["strategy"]["type"] == "RollingUpdate"
    assert deployment["strategy"]["rollingUpdate"]["maxUnavailable"] == 0
    assert deployment["progressDeadlineSeconds"] == 120
    assert deployment["revisionHistoryLimit"] == 10
    startup = server["startupProbe"]
    assert startup["periodSeconds"] * startup["failureThreshold"] < deployment["progressDeadlineSeconds"]


def test_probes_ask_the_health_port_by_number(server, settings):
    services = {"startupProbe": STARTUP, "readinessProbe": READINESS, "livenessProbe": LIVENESS}
    for probe, service in services.items():
        assert server[probe]["grpc"] == {"port": settings.health_port, "service": service}


def test_ports_are_the_servers(manifests, server, settings):
    assert {each["name"]: each["containerPort"] for each in server["ports"]} == {
        "grpc": settings.port,
        "health": settings.health_port,
    }
    assert settings.host == "[::]", "every address of the pod"
    for service in manifests.of("Service"):
        (port,) = service["spec"]["ports"]
        assert (port["name"], port["port"], port["targetPort"]) == ("grpc", settings.port, "grpc")
    name = manifests.one("Deployment")["metadata"]["name"]
    assert manifests.one("Service", name + "-headless")["spec"]["clusterIP"] == "None"
    assert "clusterIP" not in manifests.one("Service", name)["spec"]


def test_grace_periods_add_up(pod, server, settings):
    stop = server["lifecycle"]["preStop"]
    assert list(stop) == ["sleep"], "the image has no shell"
    spent = stop["sleep"]["seconds"] + settings.leave_timeout + settings.drain_timeout + settings.stop_grace
    assert pod["terminationGracePeriodSeconds"] >= spent + 5
    aged_out = settings.max_connection_age * 1.1
    assert aged_out < settings.drain_timeout
    # Many clients look into DNS when a connection ends, but not within 30 s of the last time.
    assert settings.leave_timeout >= aged_out + 30


def test_the_pod_is_restricted(manifests, pod, server):
    assert pod["securityContext"] == {
        "runAsNonRoot": True,
        "runAsUser": 65532,
        "runAsGroup": 65532,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    assert server["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert not {"hostNetwork", "hostPID", "hostIPC", "volumes", "initContainers"} & set(pod)


def test_no_token_and_no_service_links(manifests, pod):
    account = manifests.one("ServiceAccount")
    assert pod["serviceAccountName"] == account["metadata"]["name"]
    assert account["automountServiceAccountToken"] is False
    assert pod["automountServiceAccountToken"] is False
    # They would be FOREST_... variables, which the server refuses, once a Service's name begins with forest.
    assert pod["enableServiceLinks"] is False


def test_settings_are_an_immutable_config_map_by_its_hashed_name(manifests, server):
    settings = manifests.one("ConfigMap")
    assert settings["immutable"] is True
    assert server["envFrom"] == [{"configMapRef": {"name": settings["metadata"]["name"]}}]


def test_a_disruption_takes_one_pod_and_never_waits_for_a_broken_one(manifests, deployment):
    assert manifests.one("PodDisruptionBudget")["spec"] == {
        "maxUnavailable": 1,
        "unhealthyPodEvictionPolicy": "AlwaysAllow",
        "selector": deployment["selector"],
    }


def test_each_replica_set_is_spread_over_nodes_and_zones(pod, deployment):
    constraints = pod["topologySpreadConstraints"]
    assert [each["topologyKey"] for each in constraints] == [
        "kubernetes.io/hostname",
        "topology.kubernetes.io/zone",
    ]
    for each in constraints:
        assert each["matchLabelKeys"] == ["pod-template-hash"]
        assert each["labelSelector"] == deployment["selector"]
        assert each["whenUnsatisfiable"] == "ScheduleAnyway"


def test_selectors_are_the_same_two_labels_everywhere(manifests, deployment, overlay):
    labels = dict(zip(SELECTOR, ("forest", overlay.model), strict=True))
    assert deployment["selector"] == {"matchLabels": labels}
    assert deployment["template"]["metadata"] == {"labels": labels}, "nothing dated, no commit"
    for service in manifests.of("Service"):
        assert service["spec"]["selector"] == labels
    for policy in manifests.of("NetworkPolicy"):
        assert policy["spec"]["podSelector"] == {"matchLabels": labels}


def test_policy_peers_are_not_rewritten_by_labels(manifests):
    for policy in manifests.of("NetworkPolicy"):
        rules = policy["spec"].get("ingress", []) + policy["spec"].get("egress", [])
        peers = [peer for rule in rules for peer in rule.get("from", rule.get("to", []))]
        assert peers
        for peer in peers:
            for selector in ("namespaceSelector", "podSelector"):
                assert "matchLabels" not in peer.get(selector, {})
    assert "ENVIRONMENT" not in manifests.text


def test_both_environments_build_as_a_whole(rendered, overlays):
    for environment in ("staging", "prod"):
        whole = rendered(f"kustomize/overlays/{environment}")
        parts = list(rendered(f"kustomize/namespaces/{environment}").objects)
        for each in overlays:
            if each.environment == environment:
                parts += rendered(f"kustomize/overlays/{environment}/{each.model}").objects
        key = lambda each: (each["kind"], each["metadata"]["name"])  # noqa: E731
        assert sorted(whole.objects, key=key) == sorted(parts, key=key)


@pytest.mark.parametrize("environment", ["staging", "prod"])
def test_namespaces_are_restricted_and_closed(rendered, environment):
    namespaces = rendered(f"kustomize/namespaces/{environment}")
    namespace = namespaces.one("Namespace")["metadata"]
    assert namespace["name"] == f"forest-{environment}"
    assert namespace["labels"] == {"pod-security.kubernetes.io/enforce": "restricted"}
    assert namespace["annotations"] == {"argocd.argoproj.io/sync-options": "Prune=false,Delete=false"}
    assert namespaces.one("NetworkPolicy")["spec"] == {
        "podSelector": {},
        "policyTypes": ["Ingress", "Egress"],
    }


def test_the_quota_has_room_for_four_models_in_the_midst_of_a_rollout(rendered, overlays):
    for environment, (_, most, _) in FIGURES.items():
        pods = 4 * most * 5 // 2
        assert sum(each.environment == environment for each in overlays) <= 4, "the quota is for four models"
        hard = rendered(f"kustomize/namespaces/{environment}").one("ResourceQuota")["spec"]["hard"]
        assert int(hard["pods"]) == pods
        assert int(hard["requests.cpu"]) * 1000 == 100 * pods
        assert int(hard["limits.cpu"]) * 1000 == 500 * pods
        assert int(hard["requests.memory"].removesuffix("Gi")) * 1024 == 256 * pods
        assert int(hard["limits.memory"].removesuffix("Gi")) * 1024 == 512 * pods


def test_a_new_model_is_as_those_that_are_there(tree, add_model, render):
    before = {
        environment: len(render(tree / "kustomize/overlays" / environment).objects) for environment in FIGURES
    }
    add_model("another")
    for environment in FIGURES:
        folder = tree / "kustomize" / "overlays" / environment
        another, fraud = render(folder / "another"), render(folder / "fraud")
        pins = rf"image: \S+|value: {SHA256}"
        assert "fraud" not in another.text
        assert re.sub(pins, "", another.text.replace("another", "fraud")) == re.sub(pins, "", fraud.text)
        assert len(render(folder).objects) == before[environment] + len(another.objects)


def test_a_models_own_settings_keep_its_config_map_immutable(tree, render, overlay):
    model = tree / "kustomize" / "models" / overlay.model / "kustomization.yaml"
    before = render(overlay.folder(tree)).one("ConfigMap")
    model.write_text(
        model.read_text()
        + """\
configMapGenerator:
  - name: forest
    behavior: merge
    literals:
      - FOREST_MAX_MESSAGE_BYTES=8388608
    options:
      immutable: true
"""
    )
    rendered = render(overlay.folder(tree))
    after = rendered.one("ConfigMap")
    assert after["immutable"] is True
    assert after["data"] == {**before["data"], "FOREST_MAX_MESSAGE_BYTES": "8388608"}
    assert after["metadata"]["name"] != before["metadata"]["name"]
    (server,) = rendered.one("Deployment")["spec"]["template"]["spec"]["containers"]
    assert server["envFrom"] == [{"configMapRef": {"name": after["metadata"]["name"]}}]
