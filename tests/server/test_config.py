"""Settings from flags, from the environment and from a file."""

import json
import subprocess
import sys
import tomllib
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


def _file(folder: Path, text: str) -> str:
    file = folder / "forest.toml"
    file.write_text(text)
    return str(file)


def test_every_setting_is_a_flag_a_variable_and_a_key_of_its_type(tmp_path: Path) -> None:
    values: dict[str, object] = {
        "models": Path("elsewhere"),
        "bundle_digest": "sha256:" + 64 * "0",
        "watch": 0.0,
        "host": "0.0.0.0",
        "port": 1,
        "health_port": 2,
        "workers": 3,
        "reflection": "authorised",
        "tls_certificate": Path("a"),
        "tls_key": Path("b"),
        "tls_client_ca": Path("c"),
        "access_policy": Path("d"),
        "plaintext_tokens": True,
        "max_connection_age": 1.5,
        "max_connection_age_grace": 2.5,
        "max_connection_idle": 6.5,
        "keepalive_time": 7.5,
        "keepalive_timeout": 8.5,
        "min_ping_interval": 9.5,
        "max_ping_strikes": 10,
        "max_concurrent_streams": 11,
        "max_message_bytes": 5,
        "max_batch_rows": 6,
        "max_rows_in_flight": 7,
        "leave_timeout": 0.5,
        "drain_timeout": 3.5,
        "stop_grace": 4.5,
        "metrics_port": 12,
        "drift_window": 61.5,
        "log_format": "json",
        "log_level": "debug",
        "log_level_file": Path("e"),
        "audit": "strict",
        "audit_folder": Path("e"),
        "audit_rotate_bytes": 12,
        "audit_rotate_seconds": 13.5,
        "audit_keep_days": 14.5,
        "audit_inputs": "hash",
        "audit_redact": "f,g.h",
        "audit_key": Path("i"),
        "traces_endpoint": "http://collector:4317",
        "traces_ratio": 0.25,
    }
    assert list(values) == [setting.name for setting in fields(Config)]
    flags = [f"--{name.replace('_', '-')}={value}" for name, value in values.items()]
    variables = {f"FOREST_{name.upper()}": str(value) for name, value in values.items()}
    keys = (
        f"{name} = {json.dumps(str(value) if isinstance(value, Path) else value)}\n"
        for name, value in values.items()
    )
    file = _file(tmp_path, "".join(keys))
    for settings in (
        config.read(flags, {}),
        config.read([], variables),
        config.read(["--config", file], {}),
        config.read([], {"FOREST_CONFIG": file}),
    ):
        assert settings == Config(**values)  # type: ignore[arg-type]
        assert all(type(getattr(settings, name)) is type(value) for name, value in values.items())


def test_a_server_outside_a_cluster_does_not_leave_before_it_drains() -> None:
    assert config.read([], {}).leave_timeout == 0
    assert config.read([], {"FOREST_LEAVE_TIMEOUT": "45"}).leave_timeout == 45


def test_a_flag_wins_over_a_variable_and_that_over_the_file(tmp_path: Path) -> None:
    file = _file(tmp_path, 'port = 3\nhealth_port = 3\nstop_grace = 3\nhost = "three"\n')
    settings = config.read(
        ["--port", "1", "--config", file],
        {"FOREST_PORT": "2", "FOREST_HEALTH_PORT": "2", "FOREST_STOP_GRACE": "2"},
    )
    assert (settings.port, settings.health_port, settings.stop_grace, settings.host) == (1, 2, 2, "three")


def test_what_the_file_means_is_not_guessed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for text, complaint in (
        ("prot = 1\nhealthport = 2\n", "unknown in {file}: healthport, prot"),
        ("[server]\nport = 1\n", "unknown in {file}: server"),
        ('port = "1"\n', "{file}: port: '1' is no whole number"),
        ("port = true\n", "{file}: port: True is no whole number"),
        ("port = 1.5\n", "{file}: port: 1.5 is no whole number"),
        ("watch = [1]\n", "{file}: watch: [1] is no number"),
        ('plaintext_tokens = "maybe"\n', "{file}: plaintext_tokens: 'maybe' is neither on nor off"),
        ("plaintext_tokens = 1\n", "{file}: plaintext_tokens: 1 is neither on nor off"),
        ("models = 1\n", "{file}: models: 1 is no path"),
        ("host = 1979-05-27\n", "{file}: host: datetime.date(1979, 5, 27) is no text"),
        ("drain_timeout = nan\n", "drain_timeout nan is not from 0.001 to 1e+06 (drain_timeout: {file})"),
        ("port = 1\nport = 2\n", "--config: {file} is no TOML: "),
        ("port\n", "--config: {file} is no TOML: "),
    ):
        file = _file(tmp_path, text)
        assert _complaint(capsys, ["--config", file]).startswith(complaint.format(file=file))
    (tmp_path / "binary.toml").write_bytes(b"\xff")
    assert "is no TOML" in _complaint(capsys, ["--config", str(tmp_path / "binary.toml")])


@pytest.mark.parametrize("given", ["--config", "FOREST_CONFIG"])
def test_a_file_that_is_not_there_is_named_with_who_asked_for_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], given: str
) -> None:
    file = str(tmp_path / "none.toml")
    flags, variables = ([given, file], {}) if given.startswith("-") else ([], {given: file})
    expected = f"{given}: cannot read {file}: No such file or directory"
    assert _complaint(capsys, flags, variables) == expected


def test_a_contradiction_says_where_each_side_was_given(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = _file(tmp_path, "watch = 5\n")
    pinned = {"FOREST_BUNDLE_DIGEST": "sha256:" + 64 * "0"}
    complaint = _complaint(capsys, ["--config", file], pinned)
    assert complaint.endswith(f"(watch: {file}; bundle_digest: FOREST_BUNDLE_DIGEST)")
    complaint = _complaint(capsys, ["--drain-timeout", "1"])
    assert complaint.endswith("(drain_timeout: --drain-timeout; max_connection_age: default)")


def test_the_printed_settings_tell_where_each_was_given_and_are_a_file_of_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = _file(tmp_path, 'stop_grace = 3\nhost = "::1"\n')
    arguments, variables = ["--port", "1", "--config", file], {"FOREST_MODELS": 'of "a" \\ ü'}
    settings = config.read(arguments, variables)
    with pytest.raises(SystemExit) as caught:
        config.read([*arguments, "--print-config"], variables)
    assert caught.value.code == 0
    printed = capsys.readouterr().out
    for line in (
        "port = 1  # --port",
        'models = "of \\"a\\" \\\\ ü"  # FOREST_MODELS',
        f"stop_grace = 3.0  # {file}",
        f'host = "::1"  # {file}',
        "health_port = 50052  # default",
    ):
        assert line in printed.splitlines()
    assert tomllib.loads(printed).keys() == {setting.name for setting in fields(Config)}
    assert config.read(["--config", _file(tmp_path, printed)], {}) == settings


def test_wrong_settings_are_not_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert "port 70000" in _complaint(capsys, ["--print-config", "--port", "70000"])


def test_settings_are_printed_without_what_serving_needs() -> None:
    script = "import sys, server.__main__ as main; sys.argv[1:] = ['--print-config']\n"
    script += "try: main.main()\nfinally: print({'grpc', 'onnxruntime', 'numpy'} & sys.modules.keys())"
    printed = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert printed.stdout.endswith("\nset()\n")


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
def test_a_value_of_the_wrong_type_is_named_by_where_it_was_given(
    capsys: pytest.CaptureFixture[str], flag: str, value: str
) -> None:
    variable = "FOREST_" + flag[2:].replace("-", "_").upper()
    for arguments, environment in (([f"{flag}={value}"], {}), ([], {variable: value})):
        where = flag if arguments else variable
        number = "whole number" if flag == "--port" else "number"
        complaint = _complaint(capsys, arguments, environment)
        assert complaint == f"{where}: {value!r} is no {number}"


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
        (["--metrics-port", "70000"], "metrics_port 70000"),
        (["--drift-window", "59"], "drift_window 59"),
        (["--log-format", "xml"], "log_format 'xml'"),
        (["--log-level", "loud"], "log_level 'loud'"),
        (["--traces-endpoint", "collector:4317"], "traces_endpoint 'collector:4317'"),
        (["--traces-endpoint", "http://user:secret@collector"], "traces_endpoint 'http"),
        (["--traces-endpoint", "http://collector:0"], "traces_endpoint 'http"),
        (["--traces-endpoint", "http://collector:65536"], "traces_endpoint 'http"),
        (["--traces-endpoint", "http://:4317"], "traces_endpoint 'http"),
        (["--traces-endpoint", "http://::1"], "traces_endpoint 'http"),
        (["--traces-ratio", "1.1"], "traces_ratio 1.1"),
        (["--reflection", "maybe"], "reflection 'maybe'"),
        (["--audit", "on"], "audit 'on' is not off, best-effort or strict"),
        (["--audit-inputs", "all"], "audit_inputs 'all' is not values, hash or none"),
        (["--audit-rotate-bytes", "0"], "audit_rotate_bytes 0"),
        (["--audit-rotate-seconds", "0.5"], "audit_rotate_seconds 0.5"),
        (["--audit-keep-days=-1"], "audit_keep_days -1"),
        (["--max-connection-idle=-1"], "max_connection_idle -1"),
        (["--keepalive-time", "nan"], "keepalive_time nan"),
        (["--keepalive-timeout", "0"], "keepalive_timeout 0"),
        (["--min-ping-interval=-1"], "min_ping_interval -1"),
        (["--max-ping-strikes=-1"], "max_ping_strikes -1"),
        (["--max-concurrent-streams", "0"], "max_concurrent_streams 0"),
    ],
    ids=" ".join,
)
def test_a_value_out_of_range_is_named(
    capsys: pytest.CaptureFixture[str], arguments: list[str], name: str
) -> None:
    assert _complaint(capsys, arguments).startswith(name)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--tls-certificate", "a"], "tls_certificate does nothing without tls_key"),
        (["--tls-key", "a"], "tls_key does nothing without tls_certificate"),
        (["--tls-client-ca", "a"], "tls_client_ca does nothing without tls_certificate"),
        (["--plaintext-tokens", "on"], "plaintext_tokens does nothing without access_policy"),
        (["--reflection", "authorised"], "reflection authorised needs an access_policy"),
        (["--audit", "strict"], "audit strict needs an audit_folder"),
        (["--audit-folder", "a"], "audit_folder does nothing while audit is off"),
        (["--audit-redact", "a"], "audit_redact does nothing while audit is off"),
        (
            ["--audit-inputs", "hash", "--audit", "strict", "--audit-folder", "a"],
            "audit_inputs hash needs an audit_key",
        ),
        (
            ["--audit-key", "a", "--audit", "strict", "--audit-folder", "a"],
            "audit_key does nothing while audit_inputs is values",
        ),
        (
            ["--audit-redact", "a", "--audit-inputs", "none", "--audit", "strict", "--audit-folder", "a"],
            "audit_redact does nothing while audit_inputs is none",
        ),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_half_of_what_belongs_together_is_named(
    capsys: pytest.CaptureFixture[str], arguments: list[str], complaint: str
) -> None:
    found = _complaint(capsys, arguments)
    assert found.startswith(complaint)
    assert f": {arguments[0]}" in found


def test_an_empty_variable_is_no_file() -> None:
    settings = config.read([], {"FOREST_TLS_CERTIFICATE": "", "FOREST_ACCESS_POLICY": ""})
    assert settings == Config()


def test_settings_that_contradict_each_other_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    complaint = _complaint(capsys, ["--drain-timeout", "32.9"])
    assert "drain_timeout 32.9 is below 1.1 times max_connection_age 30" in complaint
    assert config.read(["--drain-timeout", "33.1"], {}).drain_timeout == 33.1
    complaint = _complaint(capsys, ["--health-port", "50051"])
    assert complaint.startswith("port and health_port are both 50051: they must differ (")
    complaint = _complaint(capsys, ["--metrics-port", "50052"])
    assert complaint.startswith("health_port and metrics_port are both 50052: they must differ (")
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
        default = {None: "", False: "off"}.get(setting.default, setting.default)
        assert f"(default: {default})" in text


def test_the_documentation_has_every_setting_under_its_topic() -> None:
    documentation = (Path(__file__).parents[2] / "docs" / "server.md").read_text()
    rows = [line for line in documentation.splitlines() if line.startswith("| ")]
    topic = ""
    for setting in fields(Config):
        topic = config._TOPICS.get(setting.name, topic)
        flag = f"`--{setting.name.replace('_', '-')}`"
        assert [row for row in rows if flag in row and row.startswith((f"| {topic} ", f"| [{topic}]"))], flag


def test_fewer_rows_in_flight_than_a_request_may_have_is_a_contradiction(
    capsys: pytest.CaptureFixture[str],
) -> None:
    complaint = _complaint(capsys, ["--max-batch-rows", "500", "--max-rows-in-flight", "499"])
    assert complaint.startswith(
        "max_rows_in_flight 499 is below max_batch_rows 500: the largest request would never be taken"
    )
    settings = config.read(["--max-batch-rows", "500", "--max-rows-in-flight", "500"], {})
    assert (settings.max_batch_rows, settings.max_rows_in_flight) == (500, 500)
