from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from model_bundle.bundle import read_manifest

DIGEST = "sha256:" + "a" * 64
FILE = "kustomize/overlays/staging/fraud/release/kustomization.yaml"


@pytest.fixture
def ship(clone: Any, bundle: Callable[[str], Path]) -> Callable[..., int]:
    """Return a function that releases a version with the server 0.1.0."""

    def run(version: str, *more: str, digest: str = DIGEST, folder: Path | None = None) -> int:
        return int(
            clone.run(
                "release", "fraud", version, "--image", "registry.example/forest/fraud", "--digest", digest,
                "--bundle", str(folder or bundle(version)), "--server-version", "0.1.0", *more,
            )
        )  # fmt: skip

    return run


def test_a_release_is_one_commit_of_one_file_on_the_remote(
    clone: Any, ship: Callable[..., int], bundle: Callable[[str], Path]
) -> None:
    before = clone.git("rev-parse", "HEAD")
    folder = bundle("1.1.0")
    assert ship("1.1.0", folder=folder) == 0
    assert clone.git("rev-parse", "HEAD^") == before
    assert clone.git("ls-remote", "origin", "main").split()[0] == clone.git("rev-parse", "HEAD")
    assert clone.git("show", "--format=%s", "--name-only", "HEAD").split("\n") == [
        "Release fraud 1.1.0-0.1.0 to staging",
        "",
        FILE,
    ]
    text = (clone.folder / FILE).read_text()
    assert 'newTag: "1.1.0-0.1.0"' in text
    assert f"digest: {DIGEST}" in text
    assert f"value: {read_manifest(folder)[1]}" in text
    assert clone.git("status", "--porcelain") == ""


def test_without_push_the_commit_stays_here(clone: Any, ship: Callable[..., int]) -> None:
    remote = clone.git("ls-remote", "origin")
    assert ship("1.1.0", "--no-push") == 0
    assert clone.git("ls-remote", "origin") == remote
    assert clone.holds("staging") == "1.1.0-0.1.0"
    assert clone.git("status", "--porcelain") == ""


def test_the_same_release_again_is_nothing_to_do(
    clone: Any, ship: Callable[..., int], bundle: Callable[[str], Path], capsys: Any
) -> None:
    folder = bundle("1.1.0")
    ship("1.1.0", folder=folder)
    head = clone.git("rev-parse", "HEAD")
    assert ship("1.1.0", folder=folder) == 0
    assert clone.git("rev-parse", "HEAD") == head
    assert "already: nothing to do" in capsys.readouterr().out


def test_a_bundle_of_another_version_is_refused(
    clone: Any, ship: Callable[..., int], bundle: Callable[[str], Path], capsys: Any
) -> None:
    assert ship("1.2.0", folder=bundle("1.1.0")) == 1
    assert "holds fraud 1.1.0, not fraud 1.2.0" in capsys.readouterr().err
    assert ship("1.2.0", folder=clone.folder) == 1
    assert "is not a bundle: manifest.json: No such file" in capsys.readouterr().err


def test_a_tag_never_moves(ship: Callable[..., int], bundle: Callable[[str], Path], capsys: Any) -> None:
    folder = bundle("1.1.0")
    ship("1.1.0", folder=folder)
    assert ship("1.1.0", folder=folder, digest="sha256:" + "b" * 64) == 1
    assert "a tag never moves, so raise the server's version" in capsys.readouterr().err


def test_a_version_never_changes(
    ship: Callable[..., int], bundle: Callable[[str], Path], capsys: Any
) -> None:
    # The first release's bundle has a digest of its own.
    assert ship("1.0.0") == 1
    assert "a version never changes, so give the new bundle a new one" in capsys.readouterr().err


def test_staging_does_not_go_back_by_a_release(ship: Callable[..., int], capsys: Any) -> None:
    ship("1.2.0")
    assert ship("1.1.0") == 1
    assert "`forest-gitops rollback fraud --env staging`" in capsys.readouterr().err


def test_a_model_without_overlays_is_refused(clone: Any, bundle: Callable[[str], Path], capsys: Any) -> None:
    clone.git("rm", "-rq", "kustomize/overlays/staging/fraud")
    clone.commit("Leave fraud")
    clone.git("push", "-q")
    status = clone.run(
        "release", "fraud", "1.1.0", "--image", "registry.example/forest/fraud", "--digest", DIGEST,
        "--bundle", str(bundle("1.1.0")), "--server-version", "0.1.0",
    )  # fmt: skip
    assert status == 1
    error = capsys.readouterr().err
    assert "has no overlay kustomize/overlays/staging/fraud" in error
    assert f"`forest-gitops new fraud 1.1.0 --image registry.example/forest/fraud --digest {DIGEST}" in error
