"""A folder that is followed: new versions take over under load, and no call fails."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from model_bundle import digest

_VERSIONS = 12


def _add(bundle: Path, models: Path, version: str) -> str:
    """Bring a version as `forest-export` does, by a rename; return its digest."""
    folder = models / "fraud" / version
    partial = folder.with_name(f".{version}")
    shutil.copytree(bundle, partial)
    manifest = json.loads((partial / "manifest.json").read_bytes())
    manifest["version"] = version
    (partial / "manifest.json").write_text(json.dumps(manifest))
    partial.rename(folder)
    return digest.of_file(folder / "manifest.json")


def test_new_versions_take_over_under_load_and_no_call_fails(
    start_server: Callable[..., Any],
    connect: Callable[..., Any],
    call_without_pause: Callable[..., Any],
    copied: Path,
    golden: list[Any],
) -> None:
    models = copied.parents[1]
    server = start_server(models, "--watch", "0.1")
    digests = [server.wait_for(r"loaded fraud 1\.0\.0 (sha256:\w+)")]
    with connect(server.target) as channel, call_without_pause(channel, golden) as load:
        load.wait_for(50, digests[0])
        for number in range(1, _VERSIONS):
            digests.append(_add(copied, models, f"1.{number}.0"))
            load.wait_for(50, digests[-1])
            if number == 3:
                bad = models / "fraud" / "9.0.0"
                shutil.copytree(copied, bad)
                server.wait_for(r"refused fraud 9\.0\.0: manifest.json is of fraud 1\.0\.0")
                load.wait_for(50, digests[-1])
                shutil.rmtree(bad)
            if number > 2:
                shutil.rmtree(models / "fraud" / f"1.{number - 2}.0")
                server.wait_for(rf"dropped fraud 1\.{number - 2}\.0")
    assert load.failures == []
    assert load.started == sum(load.answers.values())
    assert set(load.answers) == set(digests)
    assert server.stop() == 0
    assert "Traceback" not in "".join(server.log)


def test_a_followed_folder_that_is_empty_is_waited_for(
    start_server: Callable[..., Any],
    health_of: Callable[[str], dict[str, str]],
    copied: Path,
    tmp_path: Path,
) -> None:
    models = tmp_path / "empty"
    models.mkdir()
    from threading import Thread

    # ServerProcess waits for SERVING, which comes when the first bundle does.
    started: list[Any] = []
    thread = Thread(target=lambda: started.append(start_server(models, "--watch", "0.1")))
    thread.start()
    shutil.copytree(copied, models / ".fraud/1.0.0")
    (models / ".fraud").rename(models / "fraud")
    thread.join()
    assert health_of(started[0].health_target)["models/fraud"] == "SERVING"
