"""Each optional part, switched on in each overlay."""

import copy
from pathlib import Path

import pytest

from model_export.__main__ import _parser

INSTANCE = "app.kubernetes.io/instance"
COMPONENTS = [
    *("gateway", "ingress", "nodeport", "loadbalancer", "metrics"),
    *("log-level", "log-volume", "registry-credentials", "traces"),
]


@pytest.fixture
def added(manifests, switch_on):
    """Return a function that tells which objects a component adds, by kind; the others must stay."""

    def run(name):
        after = switch_on(name).objects
        assert all(each in after for each in manifests.objects)
        return {each["kind"]: each for each in after if each not in manifests.objects}

    return run


def test_every_component_is_tested(tree):
    folders = {each.name for each in (tree / "kustomize" / "components").iterdir()}
    # drift-report has a file of its own.
    assert folders == {
        *COMPONENTS,
        *("audit", "drift-report", "external-secrets", "model-volume", "tls", "training"),
    }


@pytest.mark.parametrize("name", ["gateway", "ingress", "nodeport", "loadbalancer"])
def test_a_way_in_is_named_labelled_and_admitted(added, manifests, overlay, name):
    objects = added(name)
    pods = manifests.one("Deployment")["spec"]["selector"]
    assert len(objects) == 2
    for each in objects.values():
        assert each["metadata"]["namespace"] == "forest-" + overlay.environment
        assert each["metadata"]["name"].startswith(overlay.model + "-forest")
        assert each["metadata"]["labels"] == pods["matchLabels"]
    policy = objects["NetworkPolicy"]["spec"]
    assert policy["podSelector"] == pods
    assert policy["policyTypes"] == ["Ingress"]
    ((rule),) = policy["ingress"]
    assert rule["ports"] == [{"port": 50051}]
    assert len(rule["from"]) == 1


def test_gateway_routes_to_the_models_service(added, manifests, overlay):
    route = added("gateway")["GRPCRoute"]["spec"]
    service = overlay.model + "-forest"
    assert manifests.one("Service", service)
    assert route["rules"] == [{"backendRefs": [{"name": service, "port": 50051}]}]


def test_ingress_speaks_grpc_to_the_models_service(added, overlay):
    ingress = added("ingress")["Ingress"]
    assert ingress["metadata"]["annotations"] == {"nginx.ingress.kubernetes.io/backend-protocol": "GRPC"}
    ((path,),) = [rule["http"]["paths"] for rule in ingress["spec"]["rules"]]
    assert path["backend"] == {"service": {"name": overlay.model + "-forest", "port": {"name": "grpc"}}}
    (tls,) = ingress["spec"]["tls"]
    assert tls == {"hosts": [ingress["spec"]["rules"][0]["host"]], "secretName": "forest-ingress-tls"}


@pytest.mark.parametrize(("name", "kind"), [("nodeport", "NodePort"), ("loadbalancer", "LoadBalancer")])
def test_outside_callers_keep_their_address_and_nobody_is_let_in_unnamed(added, manifests, name, kind):
    objects = added(name)
    service = objects["Service"]["spec"]
    assert service["type"] == kind
    assert service["externalTrafficPolicy"] == "Local"
    assert service["selector"] == manifests.one("Deployment")["spec"]["selector"]["matchLabels"]
    # Addresses for documentation: no caller has one.
    assert objects["NetworkPolicy"]["spec"]["ingress"][0]["from"] == [{"ipBlock": {"cidr": "192.0.2.0/24"}}]
    assert service.get("loadBalancerSourceRanges", ["192.0.2.0/24"]) == ["192.0.2.0/24"]


def test_host_names_are_the_overlays(switch_on, tree, overlay, render):
    switch_on("gateway", "ingress")
    file = overlay.folder(tree) / "kustomization.yaml"
    file.write_text(
        file.read_text()
        + """\
patches:
  - target: {kind: GRPCRoute}
    patch: |-
      - {op: replace, path: /spec/hostnames/0, value: model.example.org}
  - target: {kind: Ingress}
    patch: |-
      - {op: replace, path: /spec/rules/0/host, value: model.example.org}
      - {op: replace, path: /spec/tls/0/hosts/0, value: model.example.org}
"""
    )
    rendered = render(overlay.folder(tree))
    assert rendered.one("GRPCRoute")["spec"]["hostnames"] == ["model.example.org"]
    assert rendered.text.count("model.example.org") == 3
    assert "forest.example.com" not in rendered.text


def test_log_volume_is_bounded_and_the_root_stays_read_only(switch_on, manifests):
    pod = switch_on("log-volume").one("Deployment")["spec"]["template"]["spec"]
    (server,) = pod["containers"]
    assert pod.pop("volumes") == [{"name": "log", "emptyDir": {"sizeLimit": "256Mi"}}]
    assert server.pop("volumeMounts") == [{"name": "log", "mountPath": "/var/log/forest"}]
    assert pod == manifests.one("Deployment")["spec"]["template"]["spec"]


def test_metrics_are_a_port_that_prometheus_finds_and_the_policy_admits(switch_on, manifests):
    from server.config import Config
    from server.exporter import PATH

    rendered = switch_on("metrics")
    template = rendered.one("Deployment")["spec"]["template"]
    before = manifests.one("Deployment")["spec"]["template"]
    port = Config().metrics_port
    assert template["metadata"].pop("annotations") == {
        "prometheus.io/scrape": "true",
        "prometheus.io/port": str(port),
        "prometheus.io/path": PATH,
    }
    (server,) = template["spec"]["containers"]
    assert server["ports"] == [
        {"name": "metrics", "containerPort": port},
        *before["spec"]["containers"][0]["ports"],
    ]
    del server["ports"][0]
    assert template == before
    # An older server, to which a release may go back, would not start with a setting of metrics.
    assert rendered.of("ConfigMap") == manifests.of("ConfigMap")
    (policy,) = rendered.of("NetworkPolicy")
    assert [{"port": "metrics"}] in [rule["ports"] for rule in policy["spec"]["ingress"]]


def test_the_audit_log_outlives_its_pod_and_each_model_has_its_own_folder(switch_on, manifests, overlay):
    from server import config

    rendered = switch_on("audit")
    pod = rendered.one("Deployment")["spec"]["template"]["spec"]
    (server,) = pod["containers"]
    assert pod.pop("volumes") == [{"name": "audit", "persistentVolumeClaim": {"claimName": "forest-audit"}}]
    assert server.pop("volumeMounts") == [{"name": "audit", "mountPath": "/audit"}]
    digest, model, folder = server["env"]
    server["env"] = [digest]
    assert model["valueFrom"] == {"fieldRef": {"fieldPath": f"metadata.labels['{INSTANCE}']"}}
    labels = rendered.one("Deployment")["spec"]["template"]["metadata"]["labels"]
    context = pod["securityContext"]
    assert context.pop("fsGroup") == context["runAsGroup"]
    assert context.pop("fsGroupChangePolicy") == "OnRootMismatch"
    before = copy.deepcopy(manifests.one("Deployment")["spec"]["template"]["spec"])
    assert server.pop("envFrom") != before["containers"][0].pop("envFrom"), "new settings have a new name"
    assert pod == before
    # As the kubelet puts it together.
    settings = rendered.one("ConfigMap")
    assert settings["immutable"] is True
    value = folder["value"].replace("$(MODEL)", labels[INSTANCE])
    read = config.read([], settings["data"] | {folder["name"]: value})
    assert (read.audit, str(read.audit_folder)) == ("strict", f"/audit/{overlay.model}")


def test_the_audit_log_goes_with_tls(switch_on):
    pod = switch_on("audit", "tls", "log-volume").one("Deployment")["spec"]["template"]["spec"]
    assert {each["name"] for each in pod["volumes"]} == {"audit", "tls", "log"}
    assert pod["securityContext"]["fsGroup"] == 65532


def test_registry_credentials_are_a_reference(switch_on, manifests):
    rendered = switch_on("registry-credentials")
    account = rendered.one("ServiceAccount")
    assert account.pop("imagePullSecrets") == [{"name": "forest-registry"}]
    assert account == manifests.one("ServiceAccount")
    assert rendered.one("Deployment") == manifests.one("Deployment"), "no new pods for it"


@pytest.mark.parametrize("environment", ["staging", "prod"])
def test_external_secrets_make_what_registry_credentials_refer_to(tree, render, environment):
    folder = tree / "kustomize" / "namespaces" / environment
    file = folder / "kustomization.yaml"
    file.write_text(file.read_text() + "components:\n  - ../../components/external-secrets\n")
    secret = render(folder).one("ExternalSecret")
    assert secret["metadata"] == {"name": "forest-registry", "namespace": "forest-" + environment}
    assert secret["spec"]["target"]["template"]["type"] == "kubernetes.io/dockerconfigjson"
    assert [each["secretKey"] for each in secret["spec"]["data"]] == [".dockerconfigjson"]


def test_all_together(switch_on, overlay):
    names = [(each["kind"], each["metadata"]["name"]) for each in switch_on(*COMPONENTS).objects]
    assert len(names) == len(set(names))
    assert {name.split("-")[0] for _, name in names} == {overlay.model}


def test_model_volume_is_read_only_and_followed(switch_on, manifests, overlay, tree):
    file = overlay.folder(tree) / "kustomization.yaml"
    image = "images:\n  - {name: forest, newName: registry.example/forest, newTag: 0.1.0}\n"
    file.write_text(file.read_text().replace("  - release\n", "") + image)
    rendered = switch_on("model-volume")
    pod = rendered.one("Deployment")["spec"]["template"]["spec"]
    claim = {"claimName": "forest-models", "readOnly": True}
    assert pod["volumes"] == [{"name": "models", "persistentVolumeClaim": claim}]
    (server,) = pod["containers"]
    assert server["volumeMounts"] == [{"name": "models", "mountPath": "/models", "readOnly": True}]
    assert "env" not in server
    settings = rendered.one("ConfigMap")
    assert settings["data"] == manifests.one("ConfigMap")["data"] | {"FOREST_WATCH": "10"}
    assert settings["immutable"] is True


@pytest.fixture
def with_tls(tree, render, overlay):
    """Return a function that switches TLS on in an overlay, and renders it."""

    def run():
        file = overlay.folder(tree) / "kustomization.yaml"
        first, last = "components:\n", "  - release\n"
        text = file.read_text().replace(first, first + "  - ../../../components/tls\n")
        file.write_text(text.replace(last, "  - ../../../components/tls/host-names\n" + last))
        return render(overlay.folder(tree))

    return run


def test_tls_has_a_certificate_for_every_name_that_clients_use(with_tls, manifests, overlay):
    rendered = with_tls()
    certificate = rendered.one("Certificate")
    assert certificate["metadata"] == {
        "name": overlay.model + "-forest-tls",
        "namespace": "forest-" + overlay.environment,
        "labels": manifests.one("Deployment")["spec"]["selector"]["matchLabels"],
    }
    services = [each["metadata"] for each in manifests.of("Service")]
    assert certificate["spec"]["dnsNames"] == [
        f"{each['name']}.{each['namespace']}{domain}"
        for each in sorted(services, key=lambda each: each["name"])
        for domain in ("", ".svc", ".svc.cluster.local")
    ]
    assert "NAMESPACE" not in rendered.text
    assert certificate["spec"]["privateKey"]["algorithm"] in {"ECDSA", "RSA"}, "gRPC takes no other"


def test_tls_mounts_the_certificates_own_secret_where_the_settings_say(with_tls, manifests, overlay):
    from server import config

    rendered = with_tls()
    pod = rendered.one("Deployment")["spec"]["template"]["spec"]
    name = overlay.model + "-forest-tls"
    assert rendered.one("Certificate")["spec"]["secretName"] == name
    assert pod["volumes"] == [{"name": "tls", "secret": {"secretName": name, "defaultMode": 0o440}}]
    assert pod["securityContext"]["fsGroup"] == pod["securityContext"]["runAsGroup"]
    (server,) = pod["containers"]
    assert server["volumeMounts"] == [{"name": "tls", "mountPath": "/tls", "readOnly": True}]
    settings = rendered.one("ConfigMap")
    assert settings["immutable"] is True
    read = config.read([], settings["data"])
    assert [str(read.tls_certificate), str(read.tls_key)] == ["/tls/tls.crt", "/tls/tls.key"]
    assert settings["data"].items() > manifests.one("ConfigMap")["data"].items()
    # Probes go on as they are: health stays plaintext.
    (before,) = manifests.one("Deployment")["spec"]["template"]["spec"]["containers"]
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert server[probe] == before[probe]
    for service in rendered.of("Service"):
        assert [port["appProtocol"] for port in service["spec"]["ports"]] == ["https"]


def test_argo_cd_may_apply_what_tls_adds(with_tls, overlay, rendered):
    project = rendered("argocd").one("AppProject", "forest-" + overlay.environment)
    allowed = {(each["group"], each["kind"]) for each in project["spec"]["namespaceResourceWhitelist"]}
    for each in with_tls().objects:
        group = each["apiVersion"].rpartition("/")[0]
        assert (group, each["kind"]) in allowed


@pytest.fixture
def trained(tree, overlay, switch_on):
    """Return an overlay as docs/training.md has it: its server follows what its training writes."""
    document = (Path(__file__).parents[2] / "docs" / "training.md").read_text()
    (example,) = [block for block in document.split("```yaml\n")[1:] if "components/training" in block]
    text = example.partition("```")[0]
    assert text.startswith("# kustomize/overlays/staging/fraud/kustomization.yaml\n")
    text = text.replace("envs/staging", "envs/" + overlay.environment)
    (overlay.folder(tree) / "kustomization.yaml").write_text(
        text.replace("models/fraud", "models/" + overlay.model)
    )
    return switch_on()


def test_training_writes_what_the_server_follows_and_reads_what_is_trained_on(trained, overlay):
    pod = trained.one("CronJob")["spec"]["jobTemplate"]["spec"]["template"]
    (export,) = pod["spec"]["containers"]
    # The model is the pod's own label, so that one component does for all.
    (model,) = export["env"]
    assert model["valueFrom"] == {"fieldRef": {"fieldPath": f"metadata.labels['{INSTANCE}']"}}
    assert pod["metadata"]["labels"] == {INSTANCE: overlay.model, "app.kubernetes.io/name": "forest-training"}
    options = _parser().parse_args([overlay.model if each == "$(MODEL)" else each for each in export["args"]])
    assert (options.model, str(options.out), options.version) == (overlay.model, "/models", "1.1.0")
    claims = {each["name"]: each.get("persistentVolumeClaim") for each in pod["spec"]["volumes"]}
    mounts = {
        each["mountPath"]: (each["name"], each.get("readOnly", False)) for each in export["volumeMounts"]
    }
    assert mounts == {"/models": ("models", False), "/data": ("data", True), "/tmp": ("tmp", False)}
    assert options.data.is_relative_to("/data")
    (served,) = trained.one("Deployment")["spec"]["template"]["spec"]["volumes"]
    assert claims["models"]["claimName"] == served["persistentVolumeClaim"]["claimName"]
    assert served["persistentVolumeClaim"]["readOnly"]
    # Another user than the server's writes, and the server's group may read.
    server = trained.one("Deployment")["spec"]["template"]["spec"]["securityContext"]
    context = pod["spec"]["securityContext"]
    assert context["runAsUser"] not in (0, server["runAsUser"])
    assert context["fsGroup"] == context["runAsGroup"] == server["runAsGroup"]


def test_training_runs_when_a_person_says_so_once_and_comes_to_an_end(trained):
    cron_job = trained.one("CronJob")
    assert cron_job["spec"]["suspend"] is True
    assert "hook" not in str(cron_job["metadata"]), "a sync trains nothing"
    job = cron_job["spec"]["jobTemplate"]["spec"]
    assert (job["backoffLimit"], job["activeDeadlineSeconds"]) == (0, 3600)
    assert job["ttlSecondsAfterFinished"] == 86400
    assert job["template"]["spec"]["restartPolicy"] == "Never"


def test_training_is_restricted_and_calls_nobody(trained, overlay):
    spec = trained.one("CronJob")["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    (export,) = spec["containers"]
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert (spec["automountServiceAccountToken"], spec["enableServiceLinks"]) == (False, False)
    assert export["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert export["resources"].keys() == {"requests", "limits"}
    policy = trained.one("NetworkPolicy", f"{overlay.model}-forest-training")["spec"]
    pod = trained.one("CronJob")["spec"]["jobTemplate"]["spec"]["template"]["metadata"]["labels"]
    assert policy == {"podSelector": {"matchLabels": pod}, "policyTypes": ["Ingress", "Egress"]}
    for kind in ("Service", "PodDisruptionBudget"):
        for each in trained.of(kind):
            selector = each["spec"]["selector"]
            assert not selector.get("matchLabels", selector).items() <= pod.items(), "no call goes to it"
