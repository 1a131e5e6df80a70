"""compose.yaml: valid, pinned, healthy by its own word, and on loopback alone.

It is read by the library that `docker compose` is made of: its schema, its interpolation, its references.
"""

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from server import config
from tests import go_program

ROOT = Path(__file__).parents[2]
MONITORING = ROOT / "kustomize" / "monitoring"
_LOADER = Path(__file__).parent / "loader"
_VARIABLES = {"FOREST_IMAGE": "localhost/fraud:1.0.0", "POSTGRES_PASSWORD": "a", "GRAFANA_PASSWORD": "b"}
SERVICES = ["alertmanager", "grafana", "mlflow", "postgres", "prometheus", "server"]


@pytest.fixture(scope="session")
def loader() -> Path:
    """Return the program that reads a compose file: built once, and kept under its sources' digest."""
    return go_program.build(_LOADER, "compose", "with it (1.24 or newer) compose's own reader is built")


def _load(loader: Path, file: Path, variables: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [loader, file], cwd=ROOT, env=variables, capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="session")
def services(loader: Path) -> dict[str, Any]:
    """Return the services as compose understands them."""
    done = _load(loader, ROOT / "compose.yaml", _VARIABLES)
    assert done.returncode == 0, done.stderr
    assert not done.stderr, "a warning: " + done.stderr
    return json.loads(done.stdout)["services"]


@pytest.fixture(params=SERVICES)
def service(request: pytest.FixtureRequest, services: dict[str, Any]) -> dict[str, Any]:
    return services[request.param]


def test_these_services_and_no_others(services: dict[str, Any]) -> None:
    assert sorted(services) == SERVICES


@pytest.mark.parametrize("name", sorted(_VARIABLES))
def test_it_does_not_start_without_what_is_this_machines_own_and_says_so(loader: Path, name: str) -> None:
    for value in ({}, {name: ""}):
        others = {key: value for key, value in _VARIABLES.items() if key != name}
        done = _load(loader, ROOT / "compose.yaml", others | value)
        assert done.returncode == 1
        assert f"required variable {name} is missing a value: copy .env.example to .env, and" in done.stderr


def test_no_password_is_in_git() -> None:
    example = dict(
        line.split("=", 1)
        for line in (ROOT / ".env.example").read_text().splitlines()
        if line[:1] not in ("", "#")
    )
    assert example.keys() == _VARIABLES.keys()
    assert {name for name, value in example.items() if value} == {"FOREST_IMAGE"}
    assert subprocess.run(["git", "check-ignore", "-q", ".env"], cwd=ROOT, check=False).returncode == 0


def test_a_misspelt_key_is_seen(loader: Path, tmp_path: Path) -> None:
    wrong = tmp_path / "compose.yaml"
    wrong.write_text((ROOT / "compose.yaml").read_text().replace("healthcheck:", "healthchecks:", 1))
    assert "healthchecks" in _load(loader, wrong, _VARIABLES).stderr


def test_versions_are_pinned() -> None:
    images = {
        name: each["image"]
        for name, each in yaml.safe_load((ROOT / "compose.yaml").read_text())["services"].items()
    }
    assert images.pop("server").startswith("${FOREST_IMAGE:?")
    for image in images.values():
        assert re.fullmatch(r"[a-z.]+/[a-z/]+:v?\d+\.\d+(\.\d+)?(-[a-z]+)?(@sha256:[0-9a-f]{64})?", image)


def test_each_says_how_it_is(service: dict[str, Any]) -> None:
    check = service["healthcheck"]
    assert check["test"][0] == "CMD", "no shell"
    assert {"interval", "timeout", "retries", "start_period"} <= check.keys()


def test_the_servers_health_is_a_command_of_its_own(services: dict[str, Any]) -> None:
    program, flag, module = services["server"]["healthcheck"]["test"][1:]
    assert (program, flag) == ("python3", "-m")
    assert (ROOT / module.replace(".", "/")).with_suffix(".py").is_file()
    config.read([], services["server"]["environment"])


def test_nobody_but_this_machine_may_call(service: dict[str, Any]) -> None:
    for port in service.get("ports", []):
        assert port["host_ip"] == "127.0.0.1"
    assert "network_mode" not in service


def test_each_may_do_as_little_as_it_can(service: dict[str, Any]) -> None:
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert not {"privileged", "cap_add", "pid", "ipc", "devices"} & service.keys()
    for volume in service.get("volumes", []):
        if volume["type"] == "bind":
            assert volume["read_only"] is True
            assert volume["source"].startswith("./")
            assert "docker.sock" not in volume["source"]


def test_what_is_mounted_is_there(services: dict[str, Any]) -> None:
    mounted = [
        volume["source"]
        for service in services.values()
        for volume in service.get("volumes", [])
        if volume["type"] == "bind"
    ]
    # The models are made by `make serve` or `forest-export`.
    assert all((ROOT / source).exists() for source in mounted if source != "./models")


def test_mlflow_waits_for_its_database_and_tells_nobody(services: dict[str, Any]) -> None:
    mlflow, postgres = services["mlflow"], services["postgres"]
    assert mlflow["depends_on"]["postgres"]["condition"] == "service_healthy"
    assert mlflow["environment"]["PGPASSWORD"] == postgres["environment"]["POSTGRES_PASSWORD"]
    user, host, database = re.fullmatch(
        r"postgresql\+psycopg2://(\w+)@(\w+):5432/(\w+)", mlflow["environment"]["MLFLOW_BACKEND_STORE_URI"]
    ).groups()
    assert host in services
    assert (user, database) == (
        postgres["environment"]["POSTGRES_USER"],
        postgres["environment"]["POSTGRES_DB"],
    )
    assert mlflow["environment"]["MLFLOW_DISABLE_TELEMETRY"] == "true"


# --- Prometheus, Alertmanager and Grafana


def test_prometheus_asks_services_that_are_there(services: dict[str, Any]) -> None:
    jobs = yaml.safe_load((MONITORING / "prometheus.yaml").read_text())["scrape_configs"]
    targets = {each["job_name"]: each["static_configs"][0]["targets"] for each in jobs}
    assert targets.pop("forest") == ["server:9464"]
    assert targets.keys() <= services.keys()
    for name, (target,) in targets.items():
        assert target.partition(":")[0] in (name, "localhost")
        # Those are at the port that people use as well.
        assert int(target.partition(":")[2]) in {port["target"] for port in services[name]["ports"]}


def test_prometheus_finds_its_rules(services: dict[str, Any]) -> None:
    mounts = {volume["target"]: volume["source"] for volume in services["prometheus"]["volumes"]}
    (pattern,) = yaml.safe_load((MONITORING / "prometheus.yaml").read_text())["rule_files"]
    folder = mounts["/etc/prometheus/" + pattern.removesuffix("/*.yaml")]
    assert list((ROOT / folder).glob("*.yaml"))


def test_prometheus_finds_alertmanager_and_that_its_routes(services: dict[str, Any]) -> None:
    (found,) = yaml.safe_load((MONITORING / "prometheus.yaml").read_text())["alerting"]["alertmanagers"]
    alertmanager = services["alertmanager"]
    assert found["static_configs"] == [{"targets": [f"alertmanager:{alertmanager['ports'][0]['target']}"]}]
    mounts = {volume["target"]: volume["source"] for volume in alertmanager["volumes"]}
    flags = dict(flag.split("=", 1) for flag in alertmanager["command"])
    # What amtool checks, in tests/kustomize/monitoring.
    assert ROOT / mounts[flags["--config.file"]] == MONITORING / "alertmanager.yaml"
    assert flags["--storage.path"] in mounts


def test_grafana_finds_its_source_and_its_dashboards(services: dict[str, Any]) -> None:
    folder = MONITORING / "grafana"
    (source,) = yaml.safe_load((folder / "provisioning/datasources/prometheus.yaml").read_text())[
        "datasources"
    ]
    host, port = re.fullmatch(r"http://(\w+):(\d+)", source["url"]).groups()
    assert int(port) in {each["target"] for each in services[host]["ports"]}
    (provider,) = yaml.safe_load((folder / "provisioning/dashboards/dashboards.yaml").read_text())[
        "providers"
    ]
    mounts = {volume["target"]: volume["source"] for volume in services["grafana"]["volumes"]}
    assert list((ROOT / mounts[provider["options"]["path"]]).glob("*.json"))
