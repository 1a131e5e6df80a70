"""`.ci/image`: what is pushed, signed and scanned, with the real tools and a registry on this machine."""

import base64
import json
import os
import re
import shutil
import subprocess
import time
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
_TAG = f"1.0.0-{tomllib.loads((ROOT / 'pyproject.toml').read_text())['project']['version']}"


class Pipeline:
    """A folder as CI has it after `make image`, and the commands run in it.

    Attributes
    ----------
    environment : dict
        The variables of every step.
    image : str
        The repository, at a registry of its own.
    """

    def __init__(self, folder: Path, environment: dict[str, str], image: str):
        self.folder = folder
        self.environment = environment
        self.image = image

    def run(self, *command: str | Path, **settings: str) -> subprocess.CompletedProcess[str]:
        """Run a command; return what became of it."""
        return subprocess.run(
            command,
            cwd=self.folder,
            env=self.environment | settings,
            capture_output=True,
            text=True,
            check=False,
            timeout=200,
        )

    def succeed(self, *command: str | Path, **settings: str) -> str:
        """Run a command that must not fail; return what it printed."""
        done = self.run(*command, **settings)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def build(self, content: str) -> None:
        """Make an image in the place of that which `make image` makes."""
        (self.folder / "content").write_text(content)
        (self.folder / "Dockerfile").write_text("FROM scratch\nCOPY content /\n")
        self.succeed("buildah", "build", "--quiet", "--timestamp=0", f"--tag={self.image}:{_TAG}", ".")
        for path in self.folder.glob("build/*.oci"):
            shutil.rmtree(path)
        for path in self.folder.glob("build/*.digest"):
            path.unlink()

    @property
    def digest(self) -> str:
        return (self.folder / f"build/fraud-{_TAG}.digest").read_text().strip()


@pytest.fixture(scope="session")
def registry(tool: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Return the address of a registry on this machine."""
    crane = tool("crane", build=True)
    log = tmp_path_factory.mktemp("registry") / "log"
    with log.open("w") as file:
        process = subprocess.Popen(
            [crane, "registry", "serve", "--address", "127.0.0.1:0"], stdout=file, stderr=subprocess.STDOUT
        )
    try:
        for _ in range(200):
            if found := re.search(r"127\.0\.0\.1:(\d+)|port (\d+)", log.read_text()):
                break
            assert process.poll() is None, log.read_text()
            time.sleep(0.05)
        assert found, log.read_text()
        yield f"127.0.0.1:{found[1] or found[2]}"
    finally:
        process.terminate()
        process.wait(10)


@pytest.fixture
def pipeline(registry: str, environment: dict[str, str], tmp_path: Path) -> Iterator[Pipeline]:
    """Return a folder with an image, which is pushed nowhere yet, and its SBOM."""
    if os.geteuid() != 0 or not shutil.which("buildah"):
        pytest.skip("the image is made by buildah, as root")
    folder = tmp_path / "clone"
    shutil.copytree(ROOT / ".ci", folder / ".ci")
    for name in ("pyproject.toml", ".grype.yaml"):
        shutil.copy2(ROOT / name, folder)
    (folder / "build").mkdir()
    sbom = {"bomFormat": "CycloneDX", "specVersion": "1.5", "version": 1, "components": []}
    (folder / f"build/fraud-{_TAG}.sbom.json").write_text(json.dumps(sbom))
    storage = tmp_path / "storage.conf"
    storage.write_text(
        f'[storage]\ndriver = "vfs"\ngraphroot = "{tmp_path}/storage"\nrunroot = "{tmp_path}/run"\n'
    )
    image = f"{registry}/{tmp_path.name.replace('_', '-')}/fraud"
    home = tmp_path / "home"
    home.mkdir()
    (home / "config.json").write_text("{}")
    settings = {
        "CONTAINERS_STORAGE_CONF": str(storage),
        "BUILDAH_ISOLATION": "chroot",
        "DOCKER_CONFIG": str(home),
    }
    settings |= {"MODEL": "fraud", "VERSION": "1.0.0", "IMAGE": image, "ENGINE": "buildah"}
    made = Pipeline(folder, environment | settings, image)
    made.build("one")
    yield made
    made.run("buildah", "rmi", "--all", "--force")


def test_what_is_pushed_has_the_digest_that_was_looked_at(
    pipeline: Pipeline, tool: Callable[..., Path]
) -> None:
    crane = tool("crane")
    pipeline.succeed(".ci/image", "push")
    assert pipeline.succeed(crane, "digest", f"{pipeline.image}:{_TAG}").strip() == pipeline.digest
    layout = json.loads((pipeline.folder / f"build/fraud-{_TAG}.oci/index.json").read_text())
    assert [each["digest"] for each in layout["manifests"]] == [pipeline.digest]
    # Built and pushed again, it is the same.
    pipeline.build("one")
    assert "is there already" in pipeline.succeed(".ci/image", "push")


def test_a_tag_never_moves(pipeline: Pipeline, tool: Callable[..., Path]) -> None:
    pipeline.succeed(".ci/image", "push")
    first = pipeline.digest
    pipeline.build("two")
    done = pipeline.run(".ci/image", "push")
    assert done.returncode == 1
    assert f"{pipeline.image}:{_TAG} is {first} already" in done.stderr
    assert pipeline.succeed(tool("crane"), "digest", f"{pipeline.image}:{_TAG}").strip() == first


def test_a_registry_that_does_not_answer_is_not_taken_for_an_empty_one(pipeline: Pipeline) -> None:
    done = pipeline.run(".ci/image", "push", IMAGE="127.0.0.1:9/forest/fraud")
    assert done.returncode != 0
    pipeline.build("one")
    pipeline.succeed("buildah", "tag", f"{pipeline.image}:{_TAG}", f"127.0.0.1:9/forest/fraud:{_TAG}")
    done = pipeline.run(".ci/image", "push", IMAGE="127.0.0.1:9/forest/fraud")
    assert done.returncode == 1
    assert "the registry cannot be asked" in done.stderr


@pytest.mark.parametrize(
    ("step", "settings", "said"),
    [
        ("pull", {}, "scan, push or sign"),
        ("push", {"VERSION": ""}, "VERSION"),
        ("push", {"ENGINE": "docker"}, "ENGINE is 'docker'"),
    ],
)
def test_what_is_set_wrong_is_said(
    pipeline: Pipeline, step: str, settings: dict[str, str], said: str
) -> None:
    done = pipeline.run(".ci/image", step, **settings)
    assert done.returncode == 1
    assert said in done.stderr


def test_a_key_signs_without_any_service_and_its_holder_alone(
    pipeline: Pipeline, tool: Callable[..., Path]
) -> None:
    cosign = tool("cosign")
    pipeline.succeed(".ci/image", "push")
    # Whatever cosign asks of the network besides the registry ends at a proxy that is not there.
    pipeline.environment |= {
        "HTTPS_PROXY": "http://127.0.0.1:9",
        "COSIGN_PASSWORD": "a password",
        "HOME": str(pipeline.folder.parent / "home"),
        "XDG_CACHE_HOME": str(cosign.parents[3]),
    }
    for prefix in ("ours", "theirs"):
        pipeline.succeed(cosign, "generate-key-pair", "--output-key-prefix", prefix)
    pipeline.succeed(cosign, "trusted-root", "create", "--out", "root.json")
    reference = f"{pipeline.image}@{pipeline.digest}"
    offline = ("--trusted-root", "root.json", "--insecure-ignore-tlog=true")
    assert pipeline.run(cosign, "verify", "--key", "ours.pub", *offline, reference).returncode != 0

    key = (pipeline.folder / "ours.key").read_text()
    done = pipeline.run(".ci/image", "sign", COSIGN_KEY="env://COSIGN_PRIVATE_KEY", COSIGN_PRIVATE_KEY=key)
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
    assert key not in done.stdout + done.stderr

    pipeline.succeed(cosign, "verify", "--key", "ours.pub", *offline, reference)
    said = pipeline.succeed(
        cosign, "verify-attestation", "--type", "cyclonedx", "--key", "ours.pub", *offline, reference
    )
    statement: Any = json.loads(base64.b64decode(json.loads(said)["payload"]))
    assert statement["predicate"]["bomFormat"] == "CycloneDX"
    assert statement["subject"][0]["digest"]["sha256"] == pipeline.digest.removeprefix("sha256:")
    assert pipeline.run(cosign, "verify", "--key", "theirs.pub", *offline, reference).returncode != 0


def test_a_scanner_without_its_database_is_no_pass(pipeline: Pipeline, tool: Callable[..., Path]) -> None:
    tool("grype")
    done = pipeline.run(
        ".ci/image",
        "scan",
        GRYPE_DB_CACHE_DIR=str(pipeline.folder / "nothing"),
        GRYPE_DB_AUTO_UPDATE="false",
        GRYPE_CHECK_FOR_APP_UPDATE="false",
    )
    assert done.returncode == 1
    assert "could not be judged" in done.stderr
