"""How dashboards and rules come to Grafana, to Prometheus and to people."""

import json
import subprocess
from pathlib import Path

import pytest
import yaml

from gitops.rules import schema
from kustomize.monitoring import dashboards as made

MONITORING = Path(__file__).parents[3] / "kustomize" / "monitoring"


@pytest.fixture
def delivered(rendered):
    return rendered("kustomize/monitoring")


def test_what_is_made_is_as_it_would_be_made_now():
    kept = {path: path.read_text() for path in (MONITORING / "grafana" / "dashboards").glob("*")}
    for path, text in made.files().items():
        assert path.read_text() == text, f"{path.name}: run `make monitoring`"
        kept.pop(path, None)
    assert not kept, "no dashboard that is not made there"


def test_these_objects_and_no_others(delivered, dashboards):
    assert sorted((each["kind"], each["metadata"]["name"]) for each in delivered.objects) == [
        *(("ConfigMap", f"forest-dashboard-{name}") for name in dashboards),
        ("PodMonitor", "forest"),
        ("PrometheusRule", "forest"),
    ]
    assert {each["metadata"]["namespace"] for each in delivered.objects} == {"monitoring"}


def test_grafanas_sidecar_finds_each_dashboard_whole(delivered, dashboards):
    for config in delivered.of("ConfigMap"):
        assert config["metadata"]["labels"]["grafana_dashboard"] == "1"
        ((file, text),) = config["data"].items()
        assert json.loads(text) == dashboards[file.removesuffix(".json")]
        # `kubectl apply` keeps a copy of an object in an annotation, which may have 256 KiB.
        assert len(text) < 200_000


@pytest.mark.parametrize("version", [schema.KUBERNETES, "1.34"])
def test_kubernetes_own_objects_are_valid(delivered, version):
    validate = pytest.importorskip("kubernetes_validate", reason="kubernetes-validate is not installed")
    for config in delivered.of("ConfigMap"):
        validate.validate(config, version, strict=True)


def test_the_operator_reads_the_rules_that_prometheus_reads(delivered):
    groups = delivered.one("PrometheusRule")["spec"]["groups"]
    files = [yaml.safe_load(file.read_text()) for file in sorted((MONITORING / "rules").glob("*.yaml"))]
    assert groups == [group for file in files for group in file["groups"]]


def test_what_is_scraped_is_what_the_models_pods_are(delivered, manifests):
    spec = delivered.one("PodMonitor")["spec"]
    (choice,) = spec["selector"]["matchExpressions"]
    (endpoint,) = spec["podMetricsEndpoints"]
    job = endpoint["relabelings"][0]
    label = job["sourceLabels"][0].removeprefix("__meta_kubernetes_pod_label_")
    deployment = manifests.one("Deployment")
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert deployment["metadata"]["namespace"] in spec["namespaceSelector"]["matchNames"]
    assert labels[choice["key"]] in choice["values"]
    named = {key.replace(".", "_").replace("/", "_"): value for key, value in labels.items()}
    assert job["replacement"].replace("$1", named[label]) == deployment["metadata"]["name"]


@pytest.mark.parametrize("name", ["prometheus", "prometheus-kubernetes"])
def test_prometheus_reads_its_configuration(promtool, tmp_path, name):
    settings = yaml.safe_load((MONITORING / f"{name}.yaml").read_text())
    for job in settings["scrape_configs"]:
        # Debian's is built without knowledge of Kubernetes: those two settings it cannot read.
        job.pop("kubernetes_sd_configs", None)
    settings["rule_files"] = [str(MONITORING / each) for each in settings["rule_files"]]
    file = tmp_path / "prometheus.yaml"
    file.write_text(yaml.safe_dump(settings))
    done = subprocess.run([promtool, "check", "config", file], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "4 rule files found" in done.stdout


def test_without_the_operator_the_same_is_scraped_under_the_same_names(delivered):
    ours = delivered.one("PodMonitor")["spec"]
    (job,) = yaml.safe_load((MONITORING / "prometheus-kubernetes.yaml").read_text())["scrape_configs"]
    (discovery,) = job["kubernetes_sd_configs"]
    assert discovery["namespaces"]["names"] == ours["namespaceSelector"]["matchNames"]
    for each in ours["podMetricsEndpoints"][0]["relabelings"]:
        same = {"source_labels": each["sourceLabels"], "target_label": each["targetLabel"]}
        if "replacement" in each:
            same["replacement"] = each["replacement"]
        assert same in job["relabel_configs"]


# --- Alertmanager


@pytest.fixture(scope="session")
def amtool(program):
    return program("amtool", "prometheus-alertmanager")


ALERTMANAGER = MONITORING / "alertmanager.yaml"


def test_alertmanager_reads_its_configuration(amtool):
    done = subprocess.run([amtool, "check-config", ALERTMANAGER], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("labels", "receiver"),
    [
        ("severity=page", "on-call"),
        ("severity=page namespace=forest-prod", "on-call"),
        ("severity=page namespace=forest-staging", "tickets"),
        ("severity=ticket namespace=forest-prod", "tickets"),
        ("severity=unheard-of", "tickets"),
    ],
)
def test_who_hears_of_what(amtool, labels, receiver):
    command = [amtool, "config", "routes", "test", f"--config.file={ALERTMANAGER}", *labels.split()]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout.split() == [receiver], done.stderr


def test_a_page_is_sent_both_ways_and_no_secret_is_in_git():
    settings = yaml.safe_load(ALERTMANAGER.read_text())
    receivers = {each.pop("name"): each for each in settings["receivers"]}
    assert receivers["on-call"].keys() == {"email_configs", "slack_configs"}
    assert receivers["tickets"].keys() == {"email_configs"}
    assert settings["global"]["smtp_auth_password_file"]
    assert receivers["on-call"]["slack_configs"][0]["api_url_file"]
    assert not {"smtp_auth_password", "slack_api_url"} & settings["global"].keys()


def test_what_keeps_others_quiet_is_an_alert():
    names = {
        rule["alert"]
        for file in (MONITORING / "rules").glob("*.yaml")
        for group in yaml.safe_load(file.read_text())["groups"]
        for rule in group["rules"]
        if "alert" in rule
    }
    rule = yaml.safe_load(ALERTMANAGER.read_text())["inhibit_rules"][1]
    source = rule["source_matchers"][0].partition('"')[2].rstrip('"').split("|")
    prefix, _, rest = rule["target_matchers"][0].partition('"')[2].rstrip('")').partition("(")
    assert {*source, *(prefix + each for each in rest.split("|"))} <= names
