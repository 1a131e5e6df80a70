"""The log's lines and its level."""

import io
import json
import logging
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server import log
from server.log import LevelFile

_FORGED = (
    "fine\n2026-01-01T00:00:00.000000Z ERROR server.audit: forged\r\x85\u2028\x1b[2J\u202e\x00 \ud800 ελ"
)


@pytest.fixture
def begin(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Callable[[], str]]]:
    """Return a function that begins a log, and returns what tells all that it has written."""
    root = logging.getLogger()
    before = root.handlers[:], root.level, threading.excepthook
    monkeypatch.setattr("sys.excepthook", None)

    def begin(form: str, level: str = "debug") -> Callable[[], str]:
        written = io.StringIO()
        monkeypatch.setattr("sys.stderr", written)
        root.handlers[:] = []
        log.begin(form, level)
        return written.getvalue

    yield begin
    root.handlers[:], level, threading.excepthook = before
    root.setLevel(level)
    logging.captureWarnings(False)


def _fail(message: str) -> None:
    try:
        raise ValueError(message)
    except ValueError:
        logging.getLogger("server.test").exception(
            "fault of %s", message, extra=log.about({"model": message})
        )


def test_json_is_one_object_a_line_whatever_is_said(begin: Callable[..., Callable[[], str]]) -> None:
    written = begin("json")
    log.tell_worker(3)
    _fail(_FORGED)
    logging.getLogger("server.test").info("after")
    first, second = written().splitlines()
    assert first.isascii()
    told = json.loads(first)
    time = datetime.fromisoformat(told.pop("time"))
    assert abs(datetime.now(UTC) - time) < timedelta(minutes=1)
    error = told.pop("error")
    whole = _FORGED.replace("\ud800", "\\ud800")
    assert error.startswith("Traceback (most recent call last):\n")
    assert error.endswith(f"ValueError: {whole}")
    assert told == {
        "level": "error",
        "logger": "server.test",
        "message": f"fault of {whole}",
        "model": whole,
        "worker": 3,
    }
    assert json.loads(second)["message"] == "after"


def test_what_a_record_tells_beside_its_message_never_takes_the_place_of_its_own(
    begin: Callable[..., Callable[[], str]],
) -> None:
    written = begin("json")
    logging.getLogger("server.test").info("true", extra=log.about({"message": "false", "level": "none"}))
    told = json.loads(written())
    assert (told["message"], told["level"]) == ("true", "info")


def test_in_text_only_a_record_begins_a_line(begin: Callable[..., Callable[[], str]]) -> None:
    written = begin("text")
    log.tell_worker(3)
    _fail(_FORGED)
    first, *others = written().removesuffix("\n").split("\n")
    assert " ERROR server.test: worker 3: fault of fine\\n2026-01-01T00:00:00" in first
    assert datetime.fromisoformat(first.split()[0]).tzinfo == UTC
    assert others[0] == "  Traceback (most recent call last):"
    assert all(line.startswith("  ") for line in others)
    assert not set(written()) & set("\r\x85\u2028\x1b\u202e\x00\ud800")
    assert "ελ" in first


@given(st.text(st.characters()))
def test_no_text_ends_a_line_or_moves_a_cursor(text: str) -> None:
    record = logging.LogRecord("name", logging.INFO, "", 0, text, (), None)
    record.fields = {"request_id": text}
    for form in (log._Text(), log._Json()):
        line = form.format(record)
        assert line.splitlines() == [line]
        assert not log._CONTROL.search(line)
        line.encode()
    assert json.loads(line)["request_id"] == text.encode(errors="backslashreplace").decode()


def test_a_record_whose_parts_do_not_fit_is_written_all_the_same(
    begin: Callable[..., Callable[[], str]],
) -> None:
    written = begin("json")
    logging.getLogger("server.test").info("%d rows", "no")
    assert json.loads(written())["message"] == "%d rows ('no',)"


def test_faults_of_threads_and_warnings_are_records(begin: Callable[..., Callable[[], str]]) -> None:
    import warnings

    written = begin("json")
    thread = threading.Thread(target=_raise)
    thread.start()
    thread.join()
    warnings.warn("careful", stacklevel=1)
    fault, warning = (json.loads(line) for line in written().splitlines())
    assert (fault["level"], fault["message"]) == ("critical", "an uncaught fault")
    assert fault["error"].endswith("RuntimeError: in a thread")
    assert (warning["level"], warning["logger"]) == ("warning", "py.warnings")


def _raise() -> None:
    raise RuntimeError("in a thread")


@pytest.mark.parametrize(("terminal", "form"), [(True, "text"), (False, "json")])
def test_auto_is_text_on_a_terminal_and_json_elsewhere(
    begin: Callable[..., Callable[[], str]], monkeypatch: pytest.MonkeyPatch, terminal: bool, form: str
) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return terminal

    monkeypatch.setattr(io, "StringIO", Terminal)
    written = begin("auto")
    logging.getLogger("server.test").info("hello")
    assert written().startswith("{") == (form == "json")


def _look(level: LevelFile) -> str:
    """Look twice, as the server does, and return the level."""
    level.look()
    level.look()
    return logging.getLevelName(logging.getLogger().level).lower()


def test_the_level_follows_its_file_and_a_bad_one_changes_nothing(
    begin: Callable[..., Callable[[], str]], tmp_path: Path
) -> None:
    written = begin("json", "info")
    file = tmp_path / "level"
    file.write_text("warning\n")
    level = LevelFile(file, "info")
    assert logging.getLogger().level == logging.WARNING
    file.write_text("DEBUG")
    assert _look(level) == "debug"
    for bad in ("loud\n", "", "debug info", "x" * 10_000_000):
        file.write_text(bad)
        assert _look(level) == "debug"
    file.unlink()
    assert _look(level) == "debug"
    file.write_text("error")
    assert _look(level) == "error"
    told = [(json.loads(line)["level"], json.loads(line)["message"]) for line in written().splitlines()]
    changes = [message for each, message in told if message.startswith("the log level is")]
    assert changes == [
        "the log level is warning; it was info",
        "the log level is debug; it was warning",
        "the log level is error; it was debug",
    ]
    refused = [message for each, message in told if each == "error"]
    assert len(refused) == 5
    assert refused[0].endswith("says 'loud', not one of debug, info, warning, error. The old one stands")
    assert all(len(message) < 300 for message in refused)


@pytest.mark.parametrize("content", [None, "loud"])
def test_a_server_starts_though_the_file_is_bad_or_absent(
    begin: Callable[..., Callable[[], str]], tmp_path: Path, content: str | None
) -> None:
    written = begin("json", "info")
    file = tmp_path / "level"
    if content:
        file.write_text(content)
    level = LevelFile(file, "info")
    assert logging.getLogger().level == logging.INFO
    told = json.loads(written())
    assert told["level"] == "error"
    assert told["message"].startswith("refused: the log level: ")
    assert told["message"].endswith("info stands")
    file.write_text("debug")
    assert _look(level) == "debug"
