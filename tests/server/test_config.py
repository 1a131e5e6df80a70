"""Settings from flags and from the environment."""

from dataclasses import fields
from pathlib import Path

import pytest

from server import config
from server.config import Config


def _complaint(
    capsys: pytest.CaptureFixture[str], arguments: list[str], environment: dict[str, str] | None = None
) -> str:
    """Return the one line that says what is wrong."""
    with pytest.raises(SystemExit) as caught:
        config.read(arguments, environment or {})
    assert caught.value.code == 2
    usage, separator, complaint = capsys.readouterr().err.partition("forest-serve: error: ")
    assert usage.startswith("usage: forest-serve")
    assert separator
    assert complaint.count("\n") == 1
    return complaint.strip()


def test_without_flags_or_variables_the_defaults_hold() -> None:
    settings = config.read([], {})
    assert settings == Config()
    assert (settings.models, settings.host, settings.port) == (Path("models"), "localhost", 50051)


def test_every_setting_is_a_flag_and_a_variable_of_its_type() -> None:
    values: dict[str, object] = {
        "models": Path("elsewhere"),
        "bundle_digest": "sha256:" + 64 * "0",
        "watch": 0.0,
        "host": "0.0.0.0",
        "port": 1,
        "health_port": 2,
        "max_connection_age": 1.5,
        "max_connection_age_grace": 2.5,
        "leave_timeout": 0.5,
        "drain_timeout": 3.5,
        "stop_grace": 4.5,
        "max_message_bytes": 5,
        "max_batch_rows": 6,
        "max_rows_in_flight": 7,
        "log_level": "debug",
    }
    assert list(values) == [setting.name for setting in fields(Config)]
    flags = [f"--{name.replace('_', '-')}={value}" for name, value in values.items()]
    variables = {f"FOREST_{name.upper()}": str(value) for name, value in values.items()}
    for settings in (config.read(flags, {}), config.read([], variables)):
        assert settings == Config(**values)  # type: ignore[arg-type]
        assert all(type(getattr(settings, name)) is type(value) for name, value in values.items())


def test_a_server_outside_a_cluster_does_not_leave_before_it_drains() -> None:
    assert config.read([], {}).leave_timeout == 0
    assert config.read([], {"FOREST_LEAVE_TIMEOUT": "45"}).leave_timeout == 45


def test_a_flag_wins_over_a_variable() -> None:
    settings = config.read(["--port", "1"], {"FOREST_PORT": "2", "FOREST_HEALTH_PORT": "3"})
    assert (settings.port, settings.health_port) == (1, 3)


def test_watch_is_refused_where_one_bundle_is_pinned(capsys: pytest.CaptureFixture[str]) -> None:
    pinned = ["--bundle-digest", "sha256:" + 64 * "0"]
    complaint = _complaint(capsys, ["--watch", "5", *pinned])
    assert complaint.startswith("watch 5 and bundle_digest exclude each other")
    assert config.read(["--watch", "2.5"], {}).watch == 2.5


def test_other_variables_are_left_alone() -> None:
    assert config.read([], {"PATH": "/bin", "PORT": "1", "FORESTRY": "x"}) == Config()


def test_an_unknown_variable_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    complaint = _complaint(capsys, [], {"FOREST_PROT": "1", "FOREST_HEALTHPORT": "2"})
    assert complaint == "unknown in the environment: FOREST_HEALTHPORT, FOREST_PROT"


@pytest.mark.parametrize(
    ("flag", "value"),
    [("--port", "x"), ("--port", "1.5"), ("--port", ""), ("--drain-timeout", "45s"), ("--stop-grace", "")],
)
def test_a_value_of_the_wrong_type_is_named_by_its_flag(
    capsys: pytest.CaptureFixture[str], flag: str, value: str
) -> None:
    variable = "FOREST_" + flag[2:].replace("-", "_").upper()
    for arguments, environment in (([f"{flag}={value}"], {}), ([], {variable: value})):
        complaint = _complaint(capsys, arguments, environment)
        assert complaint.startswith(f"argument {flag}: invalid ")
        assert complaint.endswith(repr(value))


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        (["--port", "70000"], "port 70000"),
        (["--health-port=-1"], "health_port -1"),
        (["--max-connection-age", "0"], "max_connection_age 0"),
        (["--max-connection-age", "0.0001"], "max_connection_age 0.0001"),
        (["--max-connection-age", "inf", "--drain-timeout", "inf"], "max_connection_age inf"),
        (["--max-connection-age", "9999999", "--drain-timeout", "99999999"], "max_connection_age 1e+07"),
        (["--max-connection-age-grace=-1"], "max_connection_age_grace -1"),
        (["--leave-timeout=-1"], "leave_timeout -1"),
        (["--leave-timeout", "9999999"], "leave_timeout 1e+07"),
        (["--leave-timeout", "nan"], "leave_timeout nan"),
        (["--drain-timeout", "nan"], "drain_timeout nan"),
        (["--stop-grace", "nan"], "stop_grace nan"),
        (["--max-message-bytes", "0"], "max_message_bytes 0"),
        (["--max-message-bytes", "99999999999"], "max_message_bytes 1e+11"),
        (["--bundle-digest", "0" * 64], "bundle_digest '000"),
        (["--bundle-digest", "sha256:" + "A" * 64], "bundle_digest 'sha256:AAA"),
        (["--bundle-digest", "sha256:" + "a" * 63], "bundle_digest 'sha256:aaa"),
        (["--log-level", "loud"], "log_level 'loud'"),
    ],
    ids=" ".join,
)
def test_a_value_out_of_range_is_named(
    capsys: pytest.CaptureFixture[str], arguments: list[str], name: str
) -> None:
    assert _complaint(capsys, arguments).startswith(name)


def test_settings_that_contradict_each_other_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    complaint = _complaint(capsys, ["--drain-timeout", "32.9"])
    assert "drain_timeout 32.9 is below 1.1 times max_connection_age 30" in complaint
    assert config.read(["--drain-timeout", "33.1"], {}).drain_timeout == 33.1
    complaint = _complaint(capsys, ["--health-port", "50051"])
    assert complaint == "port and health_port are both 50051: they must differ"
    # Two free ports are not the same port.
    assert config.read(["--port", "0", "--health-port", "0"], {}).port == 0


@pytest.mark.parametrize("arguments", [["--prot", "1"], ["stray"], ["--port"]])
def test_an_unknown_argument_is_named(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    assert arguments[0] in _complaint(capsys, arguments)


def test_help_tells_of_every_flag_with_its_default(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        config.read(["--help"], {})
    assert caught.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    for setting in fields(Config):
        assert f"--{setting.name.replace('_', '-')} {setting.name.upper()}" in text
        assert f"(default: {setting.default})" in text


def test_fewer_rows_in_flight_than_a_request_may_have_is_a_contradiction(
    capsys: pytest.CaptureFixture[str],
) -> None:
    complaint = _complaint(capsys, ["--max-batch-rows", "500", "--max-rows-in-flight", "499"])
    assert complaint == (
        "max_rows_in_flight 499 is below max_batch_rows 500: the largest request would never be taken"
    )
    settings = config.read(["--max-batch-rows", "500", "--max-rows-in-flight", "500"], {})
    assert (settings.max_batch_rows, settings.max_rows_in_flight) == (500, 500)
