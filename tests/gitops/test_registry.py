"""Only what the model registry has approved is promoted, where that is wanted."""

import base64
from collections.abc import Callable
from typing import Any

import pytest

from gitops.registry import Credentials, Registry
from gitops.release import Release
from gitops.service import ServiceError

NOBODY = Credentials()
ABSENT = (
    404,
    {"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "Registered Model with name=fraud not found"},
)


def model(**approved: str) -> dict[str, Any]:
    """Return a registered model as MLflow 3 tells it."""
    aliases = [{"alias": alias, "version": number} for alias, number in approved.items()]
    return {
        "registered_model": {
            "name": "fraud",
            "creation_timestamp": 1,
            **({"aliases": aliases} if aliases else {}),
        }
    }


def version(release: Release, number: str = "3", **other: Any) -> dict[str, Any]:
    tags = {"forest.version": release.version, "forest.bundle_digest": release.bundle}
    return {
        "name": "fraud", "version": number, "run_id": f"run-{number}", "status": "READY",
        "tags": [{"key": key, "value": value} for key, value in tags.items()], **other,
    }  # fmt: skip


@pytest.fixture
def staged(clone: Any, release_of: Callable[..., Release]) -> Any:
    """Return a clone whose staging is one release ahead."""
    clone.hold("staging", release_of("1.1.0"))
    return clone


@pytest.fixture
def promote(staged: Any, mlflow: Any) -> Callable[..., int]:
    """Return a function that promotes what is approved."""

    def run(*options: str) -> int:
        return int(staged.run("promote", "fraud", "--approved", "--tracking-uri", mlflow.address, *options))

    return run


def test_what_is_approved_is_promoted_and_the_commit_says_by_which_run(
    promote: Callable[..., int], staged: Any, mlflow: Any, release_of: Callable[..., Release], capsys: Any
) -> None:
    mlflow.answers = [model(staging="2", production="3"), {"model_version": version(release_of("1.1.0"))}]
    assert promote() == 0
    assert staged.holds("prod") == "1.1.0-0.1.0"
    remark = "Approved for production: fraud 1.1.0, run run-3"
    assert staged.git("log", "-1", "--format=%b").splitlines()[-1] == remark
    assert remark in capsys.readouterr().err
    assert [path for path, _ in mlflow.asked] == [
        "/api/2.0/mlflow/registered-models/get?name=fraud",
        "/api/2.0/mlflow/model-versions/get?name=fraud&version=3",
    ]


def test_the_remarks_of_both_who_are_asked_are_kept(
    promote: Callable[..., int], staged: Any, mlflow: Any, release_of: Callable[..., Release]
) -> None:
    mlflow.answers = [model(production="3"), {"model_version": version(release_of("1.1.0"))}]
    assert promote("--without-soak", "a fraud wave") == 0
    assert staged.git("log", "-1", "--format=%b").splitlines()[-2:] == [
        "Approved for production: fraud 1.1.0, run run-3",
        "Promoted without soak: a fraud wave",
    ]


def test_another_version_is_approved(
    promote: Callable[..., int], staged: Any, mlflow: Any, release_of: Callable[..., Release], capsys: Any
) -> None:
    old, new = release_of("1.0.0"), release_of("1.1.0")
    head = staged.git("ls-remote", "origin")
    mlflow.answers = [
        model(production="2"), {"model_version": version(old, "2")}, {"model_versions": [version(new, "3")]},
    ]  # fmt: skip
    assert promote() == 1
    error = capsys.readouterr().err
    assert f"MLflow at {mlflow.address} has not approved fraud 1.1.0 for production" in error
    assert f"fraud 1.1.0-0.1.0 holds the bundle {new.bundle}" in error
    assert f"approved is fraud 1.0.0 with {old.bundle}, run run-2" in error
    assert "`forest-export promote --run-id run-3 --to production` approves it. Nothing was promoted" in error
    assert staged.git("ls-remote", "origin") == head
    assert f"tags.%60forest.bundle_digest%60+%3D+%27{new.bundle.replace(':', '%3A')}%27" in mlflow.asked[2][0]


@pytest.mark.parametrize(
    ("answers", "said"),
    [
        ([ABSENT, ABSENT], "approved is nothing. No run there has logged that bundle: `forest-export track "),
        ([model(), {}], "approved is nothing. No run there has logged that bundle"),
        ([model(staging="3"), {"model_versions": []}], "approved is nothing"),
        ([model(production="7"), {"model_version": {"name": "fraud", "version": "7"}}, {}],
         "approved is its number 7 of fraud, which forest-export has not registered"),
        # The alias was moved, and the version deleted, between two questions.
        ([model(production="7"), ABSENT, {}], "approved is nothing"),
    ],
)  # fmt: skip
def test_nothing_of_ours_is_approved(  # noqa: PLR0917 - fixtures
    promote: Callable[..., int], staged: Any, mlflow: Any, capsys: Any, answers: Any, said: str
) -> None:
    mlflow.answers = answers
    assert promote() == 1
    assert said in capsys.readouterr().err
    assert staged.holds("prod") == "1.0.0-0.1.0"


def test_the_same_version_with_another_bundle_is_not_what_was_approved(
    promote: Callable[..., int], staged: Any, mlflow: Any, release_of: Callable[..., Release], capsys: Any
) -> None:
    other = version(release_of("1.1.0"))
    other["tags"][1]["value"] = f"sha256:{'0':0<64}"
    mlflow.answers = [model(production="3"), {"model_version": other}, {}]
    assert promote() == 1
    assert f"approved is fraud 1.1.0 with sha256:{'0':0<64}" in capsys.readouterr().err


@pytest.mark.usefixtures("needs_kustomize")
def test_a_dry_run_shows_the_difference_and_then_refuses(
    promote: Callable[..., int], mlflow: Any, capsys: Any
) -> None:
    mlflow.answers = [ABSENT]
    assert promote("--dry-run") == 1
    said = capsys.readouterr()
    assert "FOREST_BUNDLE_DIGEST" in said.out
    assert "has not approved" in said.err


def test_nobody_is_asked_who_need_not_be(staged: Any, mlflow: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow.address)
    assert staged.run("promote", "fraud") == 0
    # Prod has it already.
    assert staged.run("promote", "fraud", "--approved") == 0
    assert not mlflow.asked


def test_the_address_is_as_mlflow_has_it(
    staged: Any, mlflow: Any, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    assert staged.run("promote", "fraud", "--approved") == 1
    assert "--approved needs MLflow's address: give --tracking-uri URI, or set MLFLOW_TRACKING_URI" in (
        capsys.readouterr().err
    )
    assert staged.run("promote", "fraud", "--tracking-uri", mlflow.address) == 1
    assert "--tracking-uri is where --approved asks: give that too" in capsys.readouterr().err
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow.address)
    mlflow.answers = [ABSENT]
    assert staged.run("promote", "fraud", "--approved") == 1
    assert "has not approved" in capsys.readouterr().err
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///mlruns/mlflow.db")
    assert staged.run("promote", "fraud", "--approved") == 1
    assert "'sqlite:///mlruns/mlflow.db' is not an address of MLflow: give HOST" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ((401, "You are not authenticated."),
         "does not let this account read the registry (401: Unauthorized): set "
         "MLFLOW_TRACKING_TOKEN, or MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"),
        ((403, {"error_code": "PERMISSION_DENIED", "message": "Permission denied"}),
         "(403: Permission denied)"),
        ((404, "<html>Not Found</html>"), "answered 404: Not Found: is http://127.0.0.1:"),
        ((500, {"error_code": "INTERNAL_ERROR", "message": "no database"}), "answered 500: no database"),
        ((200, "<html>Log in</html>"), "not as MLflow does"),
        ((200, []), "not as MLflow does"),
        ((200, {"application": "fraud"}), "not as MLflow does"),
        ((200, {"registered_model": {"aliases": ["production"]}}), "not as MLflow does"),
    ],
)  # fmt: skip
def test_an_answer_that_is_none_promotes_nothing(  # noqa: PLR0917 - fixtures
    promote: Callable[..., int], staged: Any, mlflow: Any, capsys: Any, answer: Any, said: str
) -> None:
    mlflow.answers = [answer]
    assert promote() == 1
    error = capsys.readouterr().err
    assert said in error
    assert "Nothing was promoted" in error
    assert staged.holds("prod") == "1.0.0-0.1.0"


def test_a_run_cannot_write_the_commit(
    promote: Callable[..., int], mlflow: Any, release_of: Callable[..., Release], capsys: Any
) -> None:
    forged = version(release_of("1.1.0"), run_id="run-3\n\nSigned-off-by: Ada")
    mlflow.answers = [model(production="3"), {"model_version": forged}]
    assert promote() == 1
    assert "not as MLflow does" in capsys.readouterr().err


def test_nobody_at_the_address_promotes_nothing(staged: Any, capsys: Any) -> None:
    assert staged.run("promote", "fraud", "--approved", "--tracking-uri", "http://127.0.0.1:9") == 1
    assert "MLflow at http://127.0.0.1:9 cannot be asked: " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("variables", "sent"),
    [
        ({}, None),
        ({"TOKEN": "a-secret"}, "Bearer a-secret"),
        ({"USERNAME": "ada", "PASSWORD": "a-secret"}, "Basic " + base64.b64encode(b"ada:a-secret").decode()),
    ],
)
def test_who_asks_is_said_as_mlflow_itself_does_and_never_shown(  # noqa: PLR0917 - fixtures
    promote: Callable[..., int],
    mlflow: Any,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Any,
    variables: dict[str, str],
    sent: str | None,
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(f"MLFLOW_TRACKING_{name}", value)
    mlflow.answers = [(401, "no")]
    assert promote() == 1
    assert mlflow.asked[0][1] == sent
    assert "a-secret" not in capsys.readouterr().err


def test_a_token_goes_to_no_other_address_and_into_no_other_header(mlflow: Any, release_of: Any) -> None:
    mlflow.answers = [(302, "")]
    mlflow.location = "https://sso.example/login"
    with pytest.raises(ServiceError, match=r"leads on to https://sso.example/login: give that address"):
        Registry(mlflow.address, Credentials("a-token")).approved("fraud", release_of())
    assert len(mlflow.asked) == 1
    with pytest.raises(ServiceError, match="MLFLOW_TRACKING_TOKEN is not a token") as caught:
        Registry(mlflow.address, Credentials("secret\nX-Other: header"))
    assert "secret" not in str(caught.value)
