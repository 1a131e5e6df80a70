"""What an image holds, and what it does under the limits of a restricted pod."""

import json
import os
import re
import shutil
import signal
import subprocess
import tarfile
import time
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from model_bundle import created, digest

_ROOT = Path(__file__).parents[2]
_SERVER = tomllib.loads((_ROOT / "pyproject.toml").read_text())["project"]["version"]


def test_the_servers_layers_are_small(image: Any) -> None:
    sizes = {layer.name[:12]: layer.stat().st_size for layer in image.layers}
    print(f"base {image.base_size / 1e6:.0f} MB, then", [f"{size / 1e6:.1f} MB" for size in sizes.values()])
    # Packages, the server, the bundle.
    assert len(sizes) == 3
    assert sum(sizes.values()) < 200e6
    # What is not dropped from ONNX Runtime and numpy would be 50 MB more.
    assert sum(sizes.values()) < 125e6


def test_the_configuration_says_how_to_run_it_and_what_it_is(image: Any, fraud_bundle: Path) -> None:
    assert image.name == f"localhost/forest-serving/fraud:1.0.0-{_SERVER}"
    config = image.config["config"]
    assert config["User"] == "65532:65532"
    assert config["Entrypoint"] == ["python3", "-m", "server"]
    assert set(config["ExposedPorts"]) == {"50051/tcp", "50052/tcp", "9464/tcp"}
    assert config["StopSignal"] == "SIGTERM"
    assert not {"Healthcheck", "Cmd", "Volumes"} & set(config)
    environment = dict(variable.split("=", 1) for variable in config["Env"])
    assert environment["ORT_DISABLE_TELEMETRY"] == "1"
    assert environment["MALLOC_ARENA_MAX"] == "2"
    labels = {key: value for key, value in config["Labels"].items() if not key.startswith("io.buildah")}
    assert labels == {
        "org.opencontainers.image.title": "Forest Serving: fraud",
        "org.opencontainers.image.description": "A gRPC server of the Random Forest fraud 1.0.0",
        "org.opencontainers.image.version": f"1.0.0-{_SERVER}",
        "org.opencontainers.image.base.name": "localhost/base",
        "org.opencontainers.image.created": _created(fraud_bundle),
        "forest-serving.model": "fraud",
        "forest-serving.version": "1.0.0",
        "forest-serving.bundle-digest": digest.of_file(fraud_bundle / "manifest.json"),
        "forest-serving.server-version": _SERVER,
    }
    assert {entry["created"] for entry in image.config["history"]} == {"1970-01-01T00:00:00Z"}


def test_our_layers_hold_what_serving_needs_and_nothing_else(image: Any, fraud_bundle: Path) -> None:
    members = list(image.members())
    files = {member.name for member in members if member.isfile()}
    ours = {name for name in files if not name.startswith("opt/forest/packages/")}
    sources = {
        f"opt/forest/app/{folder}/{path.relative_to(source)}"
        for folder, source in (
            *((name, _ROOT / name) for name in ("server", "model_bundle")),
            ("forest", _ROOT / "clients/python/forest"),
            ("inference", _ROOT / "clients/python/inference"),
        )
        for path in source.rglob("*")
        if path.is_file()
        and not {"__pycache__", "image"} & {*path.relative_to(source).parts}
        and not path.match("requirements*.txt")
    }
    bundle = {f"models/fraud/1.0.0/{path.name}" for path in fraud_bundle.iterdir()}
    bundle.add("models/fraud/1.0.0.created")
    compiled = {re.sub(r"([^/]+)\.py$", r"__pycache__/\1.cpython-311.pyc", name) for name in sources}
    assert ours == sources | bundle | {name for name in compiled if name.endswith(".pyc")}

    locked = re.findall(r"^([a-z0-9-]+)==", (_ROOT / "server/requirements.txt").read_text(), re.MULTILINE)
    found = {
        match[1] for name in files if (match := re.search(r"([^/]+?)-[^/-]+\.dist-info/METADATA$", name))
    }
    assert {name.replace("_", "-") for name in found} == set(locked)
    programs = re.compile(r"(^|/)(bin|pip|setuptools|sklearn|pandas|skl2onnx|tests)/|\.(sh|a|h|whl)$")
    assert [name for name in files if programs.search(name)] == []
    assert [name for name in files if "onnxruntime_pybind11_state" in name] == []


def test_nobody_but_root_may_change_a_file_and_none_has_a_time(image: Any) -> None:
    for member in image.members():
        if member.name.strip("./"):
            assert (member.uid, member.gid, member.mtime) == (0, 0, 0), member.name
            assert member.issym() or not member.mode & 0o6022, member.name
            assert member.issym() or member.mode & 0o444 == 0o444, member.name


def test_the_sbom_lists_every_locked_package_with_its_hash_and_the_bundle(
    image: Any, fraud_bundle: Path
) -> None:
    document = json.loads(image.sbom.read_bytes())
    assert image.sbom.name == f"fraud-1.0.0-{_SERVER}.sbom.json"
    assert (document["bomFormat"], document["specVersion"]) == ("CycloneDX", "1.5")
    assert document["metadata"]["component"]["version"] == f"1.0.0-{_SERVER}"
    lock = (_ROOT / "server/requirements.txt").read_text().replace("\\\n", " ")
    locked = {}
    for line in lock.splitlines():
        if match := re.match(r"([a-z0-9-]+)==(\S+)", line):
            locked[match[1], match[2]] = set(re.findall(r"--hash=sha256:([0-9a-f]{64})", line))
    found = {}
    for component in document["components"]:
        if component["type"] == "library":
            (hashed,) = component["hashes"]
            found[component["name"], component["version"]] = hashed["content"]
            assert component["purl"] == f"pkg:pypi/{component['name']}@{component['version']}"
    assert {name for name, _ in found} == {name for name, _ in locked}
    assert all(found[key] in locked[key] for key in found)
    (bundle,) = (each for each in document["components"] if each["type"] == "machine-learning-model")
    assert (bundle["name"], bundle["version"]) == ("fraud", "1.0.0")
    assert "sha256:" + bundle["hashes"][0]["content"] == digest.of_file(fraud_bundle / "manifest.json")
    # Neither where it was downloaded from nor when.
    assert not re.search(r"https?://|/tmp|20\d\d-\d\d", image.sbom.read_text())


@pytest.fixture
def make(
    builder: dict[str, str], settings: dict[str, str]
) -> Callable[[Path, str], subprocess.CompletedProcess[str]]:
    """Return a function that runs `make image` in a folder, for an image of a name."""
    return lambda context, name: _make(context, builder, **settings, IMAGE=f"localhost/{name}")


def test_the_same_inputs_give_the_same_layers_and_sbom(
    image: Any,
    make: Callable[[Path, str], subprocess.CompletedProcess[str]],
    write_context: Callable[[Path], Path],
    push: Callable[[str], Any],
    tmp_path: Path,
) -> None:
    context = write_context(tmp_path / "again")
    for path in context.rglob("*"):
        path.chmod(0o700 if path.is_dir() or path.name == "build.sh" else 0o600)
        if path.name != "manifest.json":
            os.utime(path, (1e9, 1e9))
    said = make(context, "again")
    assert said.returncode == 0, said.stderr
    # Other modes are other files to buildah: it ran everything again, as another machine would.
    ran = re.findall(r"STEP \d+/\d+: RUN .*\n(.*)", said.stdout)
    assert len(ran) == 3
    assert not any("Using cache" in line for line in ran)
    config, _ = push(said.stdout.splitlines()[-3])
    # Its layers are in it, by their digests; its own digest is the image's.
    assert config == image.config
    assert (context / "build" / image.sbom.name).read_bytes() == image.sbom.read_bytes()


def test_in_a_restricted_pod_it_serves_and_drains(
    image: Any, start: Callable[..., Any], fraud_bundle: Path
) -> None:
    found = digest.of_file(fraud_bundle / "manifest.json")
    container = start(
        FOREST_BUNDLE_DIGEST=found,
        FOREST_MAX_CONNECTION_AGE="3",
        FOREST_MAX_CONNECTION_AGE_GRACE="1",
        FOREST_DRAIN_TIMEOUT="4",
        FOREST_STOP_GRACE="1",
    )
    container.wait_for(r"[^_]SERVING on port 50051")
    ready = time.monotonic() - container.started
    status = Path(f"/proc/{container.pid()}/status").read_text()
    answer = container.ask("everything", fraud_bundle)
    resident = int(re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{container.pid()}/status").read_text())[1])
    print(
        f"ready after {ready:.1f} s, {resident / 1024:.0f} MiB resident, "
        f"{answer['median_seconds'] * 1000:.1f} ms a call, with 0.5 CPU"
    )

    # As compose asks: by a command of the image's own.
    probed = container.execute("import sys; from server import probe; sys.exit(probe.main([]))")
    assert probed == "readiness on port 50052: SERVING\n"
    assert set(answer["health"].values()) == {"SERVING"}
    assert answer["health"].keys() >= {"liveness", "startup", "readiness", "", "models/fraud"}
    for label, probability, expected_label, expected_probability in answer["answers"]:
        assert (label, probability) == (expected_label, pytest.approx(expected_probability, abs=1e-6))
    assert {label for label, *_ in answer["answers"]} == {"legitimate", "fraud"}
    made = int((fraud_bundle / "manifest.json").stat().st_mtime)
    told = container.execute(_SCRAPE)
    told = dict(re.findall(r'^(model_\w+){model="fraud",version="1.0.0"} (\S+)$', told, re.MULTILINE))
    assert float(told["model_created_timestamp_seconds"]) == made
    assert float(told["model_age_seconds"]) == pytest.approx(time.time() - made, abs=60)
    assert answer["answered_by"] == ["1.0.0", found]
    assert answer["model"] == ["fraud", "1.0.0", found, ""]
    assert answer["violation"].startswith("INVALID_ARGUMENT rows[0].Time")
    assert {"forest.v1.PredictionService", "grpc.health.v1.Health"} <= set(answer["services"])

    for fact in ("Uid:\t65532", "CapEff:\t0000000000000000", "CapBnd:\t0000000000000000", "NoNewPrivs:\t1"):
        assert fact in status
    assert resident < 150 * 1024
    # The startup probe of a pod waits longer by far; a tenth of this is usual.
    assert ready < 30

    client = container.client("until_drained")
    assert client.stdout is not None
    assert client.stdout.readline() == "calling\n"
    container.signal(signal.SIGTERM)
    printed, _ = client.communicate(timeout=60)
    assert client.returncode == 0
    drained = json.loads(printed)
    assert drained["answered"] > 0
    assert drained["lost"] == 0
    assert container.process.wait(30) == 0
    assert any("DRAINING" in line for line in container.log)
    # No terminal: a record is JSON.
    assert json.loads(container.log[-1])["message"] == "stopped"


_SCRAPE = """
import urllib.request
print(urllib.request.urlopen("http://127.0.0.1:9464/metrics", timeout=9).read().decode())
"""
_WRITE_EVERYWHERE = """
import os
written = []
for folder, _, _ in os.walk("/"):
    if folder.startswith("/proc"):
        continue
    try:
        with open(os.path.join(folder, ".forest"), "w"):
            written.append(folder)
    except OSError:
        pass
print(written)
"""


def test_it_can_write_nowhere_and_lacks_the_exports_half_of_the_runtime(start: Callable[..., Any]) -> None:
    container = start()
    container.wait_for(r"[^_]SERVING on port 50051")
    assert container.execute(_WRITE_EVERYWHERE).strip() == "[]"
    # What was dropped is what the server does without: it calls the library itself.
    with pytest.raises(AssertionError, match="ImportError"):
        container.execute("import onnxruntime")


def test_with_another_bundle_pinned_it_is_not_ready(start: Callable[..., Any], fraud_bundle: Path) -> None:
    pinned = "sha256:" + 64 * "0"
    container = start(FOREST_BUNDLE_DIGEST=pinned)
    container.wait_for("NOT_SERVING on port 50051")
    state = container.ask("state")
    found = digest.of_file(fraud_bundle / "manifest.json")
    assert (state["health"]["liveness"], state["health"]["readiness"]) == ("SERVING", "NOT_SERVING")
    assert found in state["reason"]
    assert pinned in state["reason"]
    container.signal(signal.SIGTERM)
    assert container.process.wait(30) == 0


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("models/fraud/1.0.0/model.onnx", "model.onnx: its digest is"),
        ("models/fraud/1.0.0/manifest.json", "CREATED: '2096-10-02T07:06:40Z' is yet to come"),
        ("pyproject.toml", "SERVER_VERSION"),
    ],
)
def test_a_bundle_that_would_be_refused_makes_no_image(  # noqa: PLR0917 - fixtures
    image: Any,
    make: Callable[[Path, str], subprocess.CompletedProcess[str]],
    write_context: Callable[[Path], Path],
    tmp_path: Path,
    name: str,
    text: str,
) -> None:
    assert image.layers
    context = write_context(tmp_path / "context")
    path = context / name
    if name == "pyproject.toml":
        # The script takes the version from the line, the check from what TOML says.
        path.write_text(path.read_text().replace('version = "', "version = '", 1).replace('"\n', "'\n"))
    elif name.endswith("manifest.json"):
        os.utime(path, (4e9, 4e9))
    else:
        path.write_bytes(path.read_bytes()[:-1] + b"x")
    said = make(context, "refused")
    assert said.returncode != 0
    assert text in said.stdout + said.stderr
    assert not (context / "build").exists()


def _created(folder: Path) -> str:
    return created.to_text(int((folder / "manifest.json").stat().st_mtime))


def test_an_image_of_a_bundle_without_a_time_tells_none(
    image: Any,
    make: Callable[[Path, str], subprocess.CompletedProcess[str]],
    write_context: Callable[[Path], Path],
    push: Callable[[str], Any],
    tmp_path: Path,
) -> None:
    context = write_context(tmp_path / "context")
    os.utime(context / "models/fraud/1.0.0/manifest.json", (0, 0))
    said = make(context, "timeless")
    assert said.returncode == 0, said.stderr
    config, layers = push(said.stdout.splitlines()[-3])
    assert "org.opencontainers.image.created" not in config["config"]["Labels"]
    with tarfile.open(layers[-1]) as layer:
        assert not [name for name in layer.getnames() if name.endswith(".created")]
    # Models share all layers but that of the bundle, which alone knows a time.
    assert config["rootfs"]["diff_ids"][:-1] == image.config["rootfs"]["diff_ids"][:-1]


def _make(context: Path, environment: dict[str, str], **settings: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["make", "--no-print-directory", "image", *(f"{key}={value}" for key, value in settings.items())],
        env=environment,
        cwd=context,
        capture_output=True,
        text=True,
        check=False,
        timeout=280,
    )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "make image: which bundle? make image MODEL=fraud VERSION=1.0.0"),
        ({"MODEL": "fraud"}, "make image: which bundle? make image MODEL=fraud VERSION=1.0.0"),
        (
            {"MODEL": "fraud", "VERSION": "9.9.9"},
            "make image: no models/fraud/9.9.9/manifest.json: "
            "make the bundle with forest-export fraud --version 9.9.9",
        ),
        (
            {"MODEL": "fraud", "VERSION": "1.0.0"},
            "make image: neither docker (with its daemon running), podman nor buildah is here: "
            "install one of them",
        ),
        (
            {"MODEL": "fraud", "VERSION": "1.0.0", "ENGINE": "kaniko"},
            "make image: ENGINE is kaniko, but must be docker, podman or buildah",
        ),
    ],
)
def test_make_image_says_what_is_missing(
    write_context: Callable[[Path], Path], tmp_path: Path, settings: dict[str, str], message: str
) -> None:
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in ("make", "sh", "sed", "cut", "sha256sum", "dirname", "find", "sort", "cat", "git"):
        found = shutil.which(name)
        assert found
        (tools / name).symlink_to(found)
    said = _make(write_context(tmp_path / "context"), {"PATH": str(tools)}, **settings)
    assert said.returncode != 0
    assert message in said.stderr.splitlines()
