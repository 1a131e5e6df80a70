"""What the workflows call: `.ci/` and make targets that exist, run as CI runs them, on real repositories."""

import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gitops.layout import PROD, STAGING, release_file
from model_bundle import digest

ROOT = Path(__file__).parents[2]
_IMAGE = "registry.example/forest/fraud"
_IMAGE_DIGEST = f"sha256:{'5' * 64}"


def _run(script: str, folder: Path, environment: dict[str, str], **settings: str) -> tuple[int, str, str]:
    done = subprocess.run(
        [folder / ".ci" / script],
        cwd=folder,
        env=environment | settings,
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
    )
    return done.returncode, done.stdout, done.stderr


def _git(folder: Path, environment: dict[str, str], *words: str) -> str:
    return subprocess.run(
        ["git", *words], cwd=folder, env=environment, check=True, capture_output=True, text=True
    ).stdout.rstrip("\n")


def test_every_command_of_a_workflow_exists(everything: list[Any]) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    tools = set(re.findall(r"^([a-z]+)\) module=", (ROOT / ".ci/tool").read_text(), re.MULTILINE))
    commands = [command for each in everything for step in each.steps for command in step.commands]
    assert len(commands) > 30
    for command in commands:
        program, _, argument = command.partition(" ")
        if program == "make":
            assert argument in targets
        else:
            assert (ROOT / program).is_file()
        if program == ".ci/tool":
            assert argument in tools
        if program == ".ci/image":
            assert argument in ("scan", "push", "sign")


# --- .ci/bundle


@pytest.fixture
def archive(fraud_bundle: Path, tmp_path: Path) -> Path:
    """Return an archive of a bundle, as the script's own error says to make it."""
    file = tmp_path / "fraud-1.0.0.tar.gz"
    models = fraud_bundle.parents[1]
    subprocess.run(["tar", "-C", models, "-czf", file, "fraud/1.0.0"], check=True)
    return file


def test_a_bundle_from_an_archive_is_the_one_approved(
    archive: Path, fraud_bundle: Path, make_repository: Callable[..., Path], environment: dict[str, str]
) -> None:
    folder = make_repository()
    approved = digest.of_file(fraud_bundle / "manifest.json")
    settings = {"MODEL": "fraud", "VERSION": "1.0.0", "ARCHIVE": str(archive)}
    status, out, error = _run("bundle", folder, environment, **settings, BUNDLE_DIGEST=approved)
    assert (status, out) == (0, f"models/fraud/1.0.0 {approved}\n"), error
    assert {path.name for path in (folder / "models/fraud/1.0.0").iterdir()} == {
        path.name for path in fraud_bundle.iterdir()
    }
    # An archive knows when it was made.
    assert _made(folder / "models/fraud/1.0.0") == _made(fraud_bundle)
    other = f"sha256:{'0' * 64}"
    status, _, error = _run("bundle", folder, environment, **settings, BUNDLE_DIGEST=other)
    assert status == 1
    assert f"came out as {approved}, but {other} was approved" in error


def _made(folder: Path) -> int:
    return int((folder / "manifest.json").stat().st_mtime)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"MODEL": "../fraud"}, "MODEL is '../fraud'"),
        ({"MODEL": "fraud'; id; '"}, "MODEL is"),
        ({"VERSION": "1.0"}, "VERSION is '1.0'"),
        ({"BUNDLE_DIGEST": "sha256:12"}, "BUNDLE_DIGEST is 'sha256:12'"),
        ({"CREATED": "yesterday"}, "CREATED is 'yesterday', but must be a time as 2026-11-26T05:05:49Z"),
        ({"CREATED": "2026-13-26T05:05:49Z"}, "CREATED is '2026-13-26T05:05:49Z', which is no time"),
        ({"VERSION": "1.0.1"}, "holds no folder fraud/1.0.1"),
        ({"ARCHIVE": "http://127.0.0.1:9/fraud.tar.gz"}, "cannot be fetched"),
    ],
)
def test_a_bundle_that_cannot_be_had_says_why(  # noqa: PLR0917 - fixtures
    archive: Path,
    fraud_bundle: Path,
    make_repository: Callable[..., Path],
    environment: dict[str, str],
    settings: dict[str, str],
    said: str,
) -> None:
    given = {
        "MODEL": "fraud",
        "VERSION": "1.0.0",
        "BUNDLE_DIGEST": digest.of_file(fraud_bundle / "manifest.json"),
        "ARCHIVE": str(archive),
    }
    status, _, error = _run("bundle", make_repository(), environment, **given | settings)
    assert status == 1
    assert said in error


def test_a_bundle_is_exported_where_no_archive_is_given(
    make_repository: Callable[..., Path], environment: dict[str, str]
) -> None:
    folder = make_repository()
    settings = {"MODEL": "fraud", "VERSION": "1.2.3"}
    status, _, error = _run("bundle", folder, environment, **settings, BUNDLE_DIGEST=f"sha256:{'0' * 64}")
    assert status == 1
    assert "the image will not tell how old fraud 1.2.3 is: give CREATED for that" in error
    (made,) = re.findall(r"came out as (sha256:\w+)", error)
    assert made == digest.of_file(folder / "models/fraud/1.2.3/manifest.json")
    assert _run("bundle", folder, environment, **settings, BUNDLE_DIGEST=made)[0] == 0
    # Not when it was exported here: who approved it knows.
    assert _made(folder / "models/fraud/1.2.3") == 0
    settings |= {"CREATED": "2020-02-03T04:05:06Z"}
    assert _run("bundle", folder, environment, **settings, BUNDLE_DIGEST=made)[0] == 0
    assert _made(folder / "models/fraud/1.2.3") == 1_580_702_706


# --- .ci/release and .ci/promote


@pytest.fixture
def released(
    make_repository: Callable[..., Path], environment: dict[str, str], fraud_export: Callable[..., Any]
) -> Path:
    """Return a clone of this tree whose staging `.ci/release` has brought to fraud 1.1.0."""
    folder = make_repository("kustomize")
    fraud_export(models=folder / "models", version="1.1.0")
    settings = {"MODEL": "fraud", "VERSION": "1.1.0", "IMAGE": _IMAGE, "DIGEST": _IMAGE_DIGEST}
    # As Azure checks out: no branch.
    _git(folder, environment, "switch", "--quiet", "--detach")
    status, out, error = _run("release", folder, environment, **settings)
    assert status == 0, error
    assert "staging holds fraud 1.1.0-" in out
    # CI may run twice.
    status, out, _ = _run("release", folder, environment, **settings)
    assert (status, "nothing to do" in out) == (0, True)
    return folder


def test_a_release_is_one_commit_of_one_file_on_main(released: Path, environment: dict[str, str]) -> None:
    touched = _git(released, environment, "diff", "--name-only", "origin/main^", "origin/main")
    assert touched == str(release_file(STAGING, "fraud"))
    assert _IMAGE_DIGEST in _git(released, environment, "show", f"origin/main:{touched}")


def test_argo_cd_is_asked_where_its_address_is_known(released: Path, environment: dict[str, str]) -> None:
    _git(released, environment, "switch", "--quiet", "--detach", "origin/main")
    nobody = {"ARGOCD_SERVER": "https://127.0.0.1:9", "ARGOCD_AUTH_TOKEN": "a token", "MODEL": "fraud"}
    status, _, error = _run("promote", released, environment, **nobody)
    assert status == 1
    assert "127.0.0.1:9" in error
    settings = {"VERSION": "1.1.0", "IMAGE": _IMAGE, "DIGEST": _IMAGE_DIGEST}
    status, _, error = _run(
        "release", released, environment, **nobody | {"ARGOCD_AUTH_TOKEN": ""}, **settings
    )
    assert status == 1
    assert "ARGOCD_AUTH_TOKEN" in error
    status, _, error = _run(
        "promote", released, environment, **nobody, WITHOUT_SOAK="Staging's cluster is gone"
    )
    assert status == 0, error
    assert "Staging's cluster is gone" in (released / "build/promotion.md").read_text()


def test_the_registry_is_asked_where_its_address_is_known(
    released: Path, environment: dict[str, str]
) -> None:
    _git(released, environment, "switch", "--quiet", "--detach", "origin/main")
    status, _, error = _run(
        "promote", released, environment, MODEL="fraud", MLFLOW_TRACKING_URI="https://127.0.0.1:9"
    )
    assert status == 1
    assert "MLflow at https://127.0.0.1:9 cannot be asked" in error
    assert _git(released, environment, "ls-remote", "origin", "refs/heads/promote/*") == ""


def test_a_promotion_is_a_branch_that_is_squashed_and_rolled_back(
    released: Path, environment: dict[str, str]
) -> None:
    def git(*words: str) -> str:
        return _git(released, environment, *words)

    git("switch", "--quiet", "--detach", "origin/main")
    main = git("rev-parse", "origin/main")
    path = str(release_file(PROD, "fraud"))
    before = git("show", f"origin/main:{path}")
    status, out, error = _run("promote", released, environment, MODEL="fraud")
    assert status == 0, error
    branch = git("branch", "--show-current")
    tag = branch.removeprefix("promote/fraud-")
    assert re.fullmatch(r"1\.1\.0-\d+\.\d+\.\d+", tag)
    assert out.endswith(f"{branch}\n")

    # The branch is there, one commit on top of main, and main has not moved.
    assert git("ls-remote", "origin", f"refs/heads/{branch}").split()[0] == git("rev-parse", "HEAD")
    assert git("ls-remote", "origin", "refs/heads/main").split()[0] == git("rev-parse", "HEAD^1") == main
    assert git("log", "-1", "--format=%s") == f"Promote fraud {tag} to prod"
    body = (released / "build/promotion.md").read_text()
    assert _IMAGE_DIGEST in body
    assert f"\n+        image: {_IMAGE}:{tag}@{_IMAGE_DIGEST}\n" in body
    assert body.count("```") == 2

    # As the platforms squash: one commit, its message the pull request's title and text.
    git("switch", "--quiet", "main")
    git("reset", "--quiet", "--hard", main)
    git("merge", "--quiet", "--squash", branch)
    git("commit", "--quiet", "-m", f"Promote fraud {tag} to prod (#7)", "-m", body)
    git("push", "--quiet", "origin", "main")
    assert git("show", f"origin/main:{path}") == git("show", f"origin/main:{release_file(STAGING, 'fraud')}")
    subprocess.run(
        ["forest-gitops", "rollback", "fraud", "--env", "prod"],
        cwd=released,
        env=environment,
        check=True,
        capture_output=True,
    )
    assert git("show", f"origin/main:{path}") == before

    # Promoted once more, the pull request says what happened to it.
    git("branch", "--quiet", "-D", branch)
    git("push", "--quiet", "origin", "--delete", branch)
    assert _run("promote", released, environment, MODEL="fraud")[0] == 0
    assert "took it back" in (released / "build/promotion.md").read_text()


def test_nothing_to_promote_is_said_and_pushed_nowhere(
    make_repository: Callable[..., Path], environment: dict[str, str]
) -> None:
    folder = make_repository("kustomize")
    for environment_ in (STAGING, PROD):
        file = folder / str(release_file(environment_, "fraud"))
        file.write_bytes((folder / str(release_file(STAGING, "fraud"))).read_bytes())
    _git(folder, environment, "commit", "--quiet", "--all", "--allow-empty", "-m", "The same")
    _git(folder, environment, "push", "--quiet")
    status, _, error = _run("promote", folder, environment, MODEL="fraud")
    assert status == 1
    assert "nothing to promote" in error
    assert _git(folder, environment, "ls-remote", "origin", "refs/heads/promote/*") == ""
