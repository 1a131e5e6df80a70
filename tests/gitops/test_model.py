"""A new model: its files by one command, and its way to prod by a promotion like any other."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gitops.layout import release_file
from gitops.lint import lint
from gitops.model import begin
from gitops.release import Release
from gitops.repository import Repository

ROOT = Path(__file__).parents[2]
DIGEST = "sha256:" + "a" * 64
NEW = [
    "kustomize/models/fraud/kustomization.yaml",
    "kustomize/overlays/staging/fraud/kustomization.yaml",
    "kustomize/overlays/staging/fraud/release/kustomization.yaml",
    "kustomize/overlays/staging/kustomization.yaml",
]


@pytest.fixture
def without_fraud(clone: Any) -> Any:
    """Return a clone of the real tree, but that another model has fraud's place."""
    shutil.rmtree(clone.folder / "kustomize")
    shutil.copytree(ROOT / "kustomize", clone.folder / "kustomize")
    for folder in list((clone.folder / "kustomize").rglob("fraud")):
        shutil.move(folder, folder.with_name("another"))
    for file in (clone.folder / "kustomize").rglob("kustomization.yaml"):
        file.write_text(file.read_text().replace("fraud", "another"))
    clone.commit("Ours")
    clone.git("push", "-q")
    return clone


@pytest.fixture
def new(without_fraud: Any, bundle: Callable[[str], Path]) -> Callable[..., int]:
    """Return a function that makes fraud anew there."""
    folder = bundle("1.0.0")

    def run(model: str = "fraud", command: str = "new", *more: str) -> int:
        return int(
            without_fraud.run(
                command, model, "1.0.0", "--image", "registry.example/forest/fraud", "--digest", DIGEST,
                "--bundle", str(folder), "--server-version", "0.1.0", *more,
            )
        )  # fmt: skip

    return run


@pytest.mark.usefixtures("needs_kustomize")
def test_one_command_makes_a_model_and_a_promotion_brings_it_to_prod(
    without_fraud: Any, new: Callable[..., int], capsys: Any
) -> None:
    clone = without_fraud
    head = clone.git("rev-parse", "HEAD")
    assert new() == 0
    said = capsys.readouterr()
    assert said.out.splitlines() == NEW
    assert "written, and not committed: run `make golden`" in said.err
    assert clone.git("rev-parse", "HEAD") == head
    # As the real one is, which people have written.
    for name in NEW[:2]:
        assert (clone.folder / name).read_bytes() == (ROOT / name).read_bytes()
    assert (clone.folder / NEW[3]).read_text().endswith("  - fraud\n")
    assert lint(Repository(clone.folder), head).findings == ()
    clone.commit("Let fraud run in staging")
    clone.git("push", "-q")

    assert clone.run("promote", "fraud", "--dry-run") == 0
    difference = capsys.readouterr().out
    assert f"+        image: registry.example/forest/fraud:1.0.0-0.1.0@{DIGEST}" in difference
    assert "namespace: forest-prod" in difference
    assert clone.run("promote", "fraud") == 0
    files = [name.replace("staging", "prod") for name in NEW[1:]]
    assert clone.git("show", "--format=", "--name-only", "HEAD").split() == files
    assert (clone.folder / files[0]).read_text() == (ROOT / files[0]).read_text()
    assert (clone.folder / files[1]).read_bytes() == (clone.folder / NEW[2]).read_bytes()
    assert lint(Repository(clone.folder), head).findings == ()
    # By hand it could be taken out again; the tool says that nothing stands below.
    assert clone.run("rollback", "fraud", "--env", "prod") == 1
    assert "is the first release of fraud in prod" in capsys.readouterr().err
    clone.git("revert", "--no-edit", "HEAD")
    assert lint(Repository(clone.folder), head).findings == ()


@pytest.mark.usefixtures("needs_kustomize")
def test_what_staging_has_besides_comes_along_and_what_prod_has_stays(
    without_fraud: Any, new: Callable[..., int]
) -> None:
    clone = without_fraud
    new()
    overlay = clone.folder / NEW[1]
    overlay.write_text(
        overlay.read_text().replace("components:\n", "components:\n  - ../../../components/log-volume\n")
    )
    clone.write("kustomize/overlays/staging/fraud/NOTES.md", "from staging, of envs/staging\n")
    prod = clone.folder / "kustomize/overlays/prod/kustomization.yaml"
    prod.write_text(prod.read_text() + "  - fraud\ncommonAnnotations: {owner: ada}\n")
    clone.commit("Let fraud run in staging")
    clone.git("push", "-q")
    before = prod.read_text()
    assert clone.run("promote", "fraud") == 0
    assert prod.read_text() == before
    text = (clone.folder / NEW[1].replace("staging", "prod")).read_text()
    assert text == overlay.read_text().replace("envs/staging", "envs/prod")
    notes = clone.folder / "kustomize/overlays/prod/fraud/NOTES.md"
    assert notes.read_text() == "from staging, of envs/staging\n"


def test_what_is_there_already_is_left_alone(
    without_fraud: Any, new: Callable[..., int], capsys: Any
) -> None:
    assert new() == 0
    capsys.readouterr()
    assert new() == 1
    assert "kustomize/models/fraud is there already: `forest-gitops release fraud" in capsys.readouterr().err
    shutil.rmtree(without_fraud.folder / "kustomize/models/fraud")
    assert new() == 1
    assert "kustomize/overlays/staging/fraud is there already" in capsys.readouterr().err
    assert not (without_fraud.folder / "kustomize/models/fraud").exists()


@pytest.mark.parametrize(
    "name", ["namespaces", "Fraud", "fraud_v2", "2fraud", "fraud-", "../fraud", "", "f" * 48]
)
def test_a_name_that_kubernetes_would_not_take_is_refused(
    name: str, tmp_path: Path, release_of: Callable[..., Release]
) -> None:
    with pytest.raises(Exception, match="cannot be a model's name here"):
        begin(tmp_path, name, release_of())
    assert not list(tmp_path.iterdir())


def test_a_list_in_another_form_is_told_and_nothing_written(
    without_fraud: Any, new: Callable[..., int], capsys: Any
) -> None:
    without_fraud.write(NEW[3], "resources: [../../namespaces/staging, another]\n")
    before = without_fraud.git("status", "--porcelain")
    assert new() == 1
    assert "add fraud by hand" in capsys.readouterr().err
    assert without_fraud.git("status", "--porcelain") == before


def test_another_model_that_came_to_prod_first_is_told(
    without_fraud: Any, new: Callable[..., int], new_clone: Callable[[str], Any], origin: Path, capsys: Any
) -> None:
    clone = without_fraud
    new()
    clone.commit("Let fraud run in staging")
    clone.git("push", "-q")
    other = new_clone("other")
    # While the promotion is pushed, another comes first; both add a line in the same place.
    hook = origin / "hooks" / "pre-receive"
    list_ = "kustomize/overlays/prod/kustomization.yaml"
    other.write(list_, (other.folder / list_).read_text() + "  - churn\n")
    other.commit("Promote churn to prod")
    other.git("push", "-q", "origin", "HEAD:refs/heads/waiting")
    hook.write_text(
        "#!/bin/sh\nrm hooks/pre-receive\n"
        "env -u GIT_QUARANTINE_PATH git update-ref refs/heads/main refs/heads/waiting\nexit 1\n"
    )
    hook.chmod(0o755)
    assert clone.run("promote", "fraud") == 1
    error = capsys.readouterr().err
    assert f"another change of {list_} came first" in error
    assert "Promote churn to prod" in error


def test_the_first_release_of_all_stays_in_history(
    without_fraud: Any, new: Callable[..., int], release_of: Callable[..., Release]
) -> None:
    new()
    without_fraud.commit("Let fraud run in staging")
    without_fraud.git("push", "-q")
    assert without_fraud.holds("staging") == "1.0.0-0.1.0"
    assert str(release_file("staging", "fraud")) == NEW[2]
    # The release that the model began with is there: the command for later ones has nothing to do.
    assert new("fraud", "release") == 0
