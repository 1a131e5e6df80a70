"""Writes what an image holds above its base, as CycloneDX JSON: the wheels installed, and the bundle.

Each wheel has the digest that pip compared with the lock. Nothing in it knows the time or the machine.
"""

import importlib.metadata
import json
import os
import sys
from pathlib import Path
from typing import Any

from model_bundle import bundle


def main() -> None:
    """Write the document of the bundle in the folder named, and of pip's report, to standard output."""
    folder = Path(sys.argv[1])
    report = json.loads(Path(__file__).with_name("report.json").read_bytes())
    manifest, digest = bundle.read_manifest(folder)
    document = describe(
        [_wheel(installed) for installed in report["install"]],
        _bundle(manifest.model, manifest.version, digest),
        os.environ["SERVER_VERSION"],
    )
    print(json.dumps(document, indent=2, sort_keys=True))


def describe(wheels: list[dict[str, Any]], model: dict[str, Any], server_version: str) -> dict[str, Any]:
    """Return the document."""
    version = f"{model['version']}-{server_version}"
    root = f"forest-serving/{model['name']}@{version}"
    server = {
        "type": "application",
        "bom-ref": f"forest-serving@{server_version}",
        "name": "forest-serving",
        "version": server_version,
    }
    wheels = sorted(wheels, key=lambda wheel: str(wheel["name"]))
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {
            "component": {
                "type": "container",
                "bom-ref": root,
                "name": f"forest-serving/{model['name']}",
                "version": version,
            }
        },
        "components": [model, server, *wheels],
        "dependencies": [
            {"ref": root, "dependsOn": [model["bom-ref"], server["bom-ref"]]},
            {"ref": server["bom-ref"], "dependsOn": [wheel["bom-ref"] for wheel in wheels]},
        ],
    }


def _wheel(installed: dict[str, Any]) -> dict[str, Any]:
    name, version = installed["metadata"]["name"].lower().replace("_", "-"), installed["metadata"]["version"]
    url = f"pkg:pypi/{name}@{version}"
    component = {
        "type": "library",
        "bom-ref": url,
        "name": name,
        "version": version,
        "purl": url,
        "hashes": [
            {"alg": "SHA-256", "content": installed["download_info"]["archive_info"]["hashes"]["sha256"]}
        ],
    }
    metadata = importlib.metadata.metadata(name).json
    if licence := metadata.get("license_expression") or metadata.get("license"):
        component["licenses"] = [{"license": {"name": str(licence).splitlines()[0]}}]
    return component


def _bundle(name: str, version: str, digest: str) -> dict[str, Any]:
    algorithm, _, content = digest.partition(":")
    assert algorithm == "sha256"  # noqa: S101 - there is no other
    return {
        "type": "machine-learning-model",
        "bom-ref": f"bundle/{name}@{version}",
        "name": name,
        "version": version,
        "description": "A bundle. The hash is its manifest's, which lists the hash of every file.",
        "hashes": [{"alg": "SHA-256", "content": content}],
    }


if __name__ == "__main__":
    main()
