"""forest-predict, as a user runs it, against the real server."""

import csv
import gzip
import io
import json
import lzma
import os
import pty
import re
import signal
import socket
import subprocess
import sys
import termios
import threading
import time
from contextlib import suppress

import pytest

COMMAND = [sys.executable, "-m", "forest_client"]
COLUMNS = "row,request_id,label,probability,threshold,risk_level,model,version"


@pytest.fixture
def predict(server, tmp_path):
    """Return a function that runs forest-predict in a folder of its own."""

    def run(*words: str, stdin: bytes = b"") -> subprocess.CompletedProcess:
        result = subprocess.run(
            [*COMMAND, *words, "--target", server.target],
            input=stdin,
            capture_output=True,
            cwd=tmp_path,
            timeout=60,
            check=False,
        )
        result.stdout, result.stderr = result.stdout.decode(), result.stderr.decode()
        assert "Traceback" not in result.stderr
        return result

    return run


@pytest.fixture(scope="module")
def whole_rows(golden_rows):
    """Return the golden rows without a missing value."""
    return [row for row in golden_rows if None not in row["values"]]


@pytest.fixture
def rows_csv(tmp_path, whole_rows, csv_of):
    path = tmp_path / "rows.csv"
    path.write_text(csv_of(row["values"] for row in whole_rows))
    return path


def read(text):
    return list(csv.DictReader(io.StringIO(text)))


def assert_golden(text, whole_rows, name="rows.csv"):
    assert text.splitlines()[0] == COLUMNS
    answers = read(text)
    assert [int(answer["row"]) for answer in answers] == list(range(1, len(whole_rows) + 1))
    assert [answer["request_id"] for answer in answers] == [
        f"{name}:{line}" for line in range(2, len(whole_rows) + 2)
    ]
    assert [answer["label"] for answer in answers] == [row["label"] for row in whole_rows]
    assert [float(answer["probability"]) for answer in answers] == pytest.approx(
        [row["probability"] for row in whole_rows], abs=1e-6
    )
    for answer in answers:
        positive = float(answer["probability"]) >= float(answer["threshold"])
        assert (answer["label"] == "fraud") == positive
        assert answer["risk_level"]
        assert (answer["model"], answer["version"]) == ("fraud", "1.0.0")


def test_a_file(predict, rows_csv, whole_rows):
    result = predict("fraud", str(rows_csv))
    assert result.returncode == 0
    assert_golden(result.stdout, whole_rows)
    frauds = sum(row["label"] == "fraud" for row in whole_rows)
    notice, counts, speed = result.stderr.splitlines()
    assert notice == "forest-predict: rows.csv: no features, so ignored: Class"
    assert counts.startswith(f"{len(whole_rows):,} rows, {frauds:,} fraud, 0 refused, ")
    assert re.fullmatch(r"[\d,]+ rows/s, p50 [\d.]+ ms, p99 [\d.]+ ms, by fraud 1\.0\.0", speed)


@pytest.mark.parametrize(("ending", "pack"), [(".gz", gzip.compress), (".xz", lzma.compress)])
def test_a_packed_file(predict, rows_csv, whole_rows, ending, pack):
    packed = rows_csv.with_name("rows.csv" + ending)
    packed.write_bytes(pack(rows_csv.read_bytes()))
    result = predict("fraud", str(packed))
    assert result.returncode == 0
    assert_golden(result.stdout, whole_rows, packed.name)


def test_standard_input(predict, rows_csv, whole_rows):
    result = predict("fraud", "-", stdin=rows_csv.read_bytes())
    assert result.returncode == 0
    assert_golden(result.stdout, whole_rows, "stdin")


def test_columns_in_another_order(predict, rows_csv, whole_rows):
    header, *lines = csv.reader(io.StringIO(rows_csv.read_text()))
    order = sorted(range(len(header)), key=lambda index: header[index])
    stream = io.StringIO()
    csv.writer(stream).writerows([[line[index] for index in order] for line in (header, *lines)])
    rows_csv.write_text(stream.getvalue())
    assert_golden(predict("fraud", str(rows_csv)).stdout, whole_rows)


def test_bad_rows_are_reported_and_the_others_scored(predict, tmp_path, whole_rows, names):
    values = [str(value) for value in whole_rows[0]["values"]]

    def row(**changed):
        return [*(changed.get(name, value) for name, value in zip(names, values, strict=True)), "a\nnote"]

    stream = io.StringIO()
    csv.writer(stream, lineterminator="\n").writerows(
        [
            [*names, "Note"],
            row(),
            row(V3="abc", Amount="much"),
            row(),
            row(Amount="inf"),
            row(V1=""),
            row()[:5],
            row(),
        ]
    )
    (tmp_path / "rows.csv").write_text(stream.getvalue())
    result = predict("fraud", "rows.csv", "--output", "scores.csv")
    assert result.returncode == 1
    answers = read((tmp_path / "scores.csv").read_text())
    # Each row has two lines, for the quoted note, but for the one that was cut off before it.
    assert [(answer["row"], answer["request_id"]) for answer in answers] == [
        ("1", "rows.csv:2"),
        ("3", "rows.csv:6"),
        ("7", "rows.csv:13"),
    ]
    reports = [line for line in result.stderr.splitlines() if line.startswith("rows.csv:")]
    assert reports[0] == "rows.csv:4: V3: 'abc' is not a number"
    assert reports[1] == "rows.csv:4: Amount: 'much' is not a number"
    assert re.fullmatch(r"rows\.csv:8: Amount: .*infinite.*", reports[2])
    assert re.fullmatch(r"rows\.csv:10: V1: missing.*", reports[3])
    assert reports[4] == "rows.csv:12: 5 cells, but the header has 31 columns"
    assert len(reports) == 5
    assert "7 rows, " in result.stderr
    assert "4 refused" in result.stderr


def test_what_is_outside_the_range_of_training_is_counted(predict, tmp_path, whole_rows, csv_of, names):
    values = list(whole_rows[0]["values"])
    values[names.index("Amount")] = 1e9
    (tmp_path / "rows.csv").write_text(csv_of([values]))
    result = predict("fraud", "rows.csv")
    assert result.returncode == 0
    assert "1 rows, " in result.stderr
    assert "1 with warnings" in result.stderr


def test_a_header_without_rows(predict, tmp_path, csv_of):
    (tmp_path / "rows.csv").write_text(csv_of([]))
    result = predict("fraud", "rows.csv")
    assert (result.returncode, result.stdout) == (0, COLUMNS + "\n")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["fraud", "none.csv"], "none.csv: No such file"),
        (["fraud", "empty.csv"], "empty.csv: it is empty"),
        (["fraud", "lacking.csv"], "no column for V1, "),
        (["fraud", "damaged.csv.gz"], "damaged.csv.gz: damaged after line "),
        (["none", "rows.csv"], "none"),
        (["fraud", "rows.csv", "--version", "9.9.9"], "9.9.9"),
        (["fraud", "rows.csv", "--output", "none/scores.csv"], "No such file or directory"),
        (["fraud", "rows.csv", "--output", "rows.csv"], "rows.csv: it is the file that is read"),
        (["fraud", "--json", "{"], "not JSON"),
        (["fraud"], "either FILE or --json"),
        (["fraud", "rows.csv", "--json", "{}"], "either FILE or --json"),
        (["fraud", "--json", "{}", "--output", "scores.csv"], "--output goes with FILE"),
        (["fraud", "rows.csv", "--timeout", "0"], "at most 30"),
    ],
)
def test_wrong_use(predict, rows_csv, tmp_path, words, message):
    (tmp_path / "empty.csv").write_bytes(b"")
    (tmp_path / "lacking.csv").write_text("Time,Amount\n1,2\n")
    (tmp_path / "damaged.csv.gz").write_bytes(gzip.compress(rows_csv.read_bytes())[:-1000])
    before = rows_csv.read_bytes()
    result = predict(*words)
    assert result.returncode == 2
    assert message in result.stderr.splitlines()[-1]
    assert rows_csv.read_bytes() == before
    assert not list(tmp_path.glob("*scores*"))


def test_an_output_file_appears_when_it_is_complete(predict, rows_csv, tmp_path, whole_rows):
    (tmp_path / "scores.csv").write_text("old")
    result = predict("fraud", "rows.csv", "--output", "scores.csv")
    assert (result.returncode, result.stdout) == (0, "")
    assert_golden((tmp_path / "scores.csv").read_text(), whole_rows)
    (tmp_path / "cut.csv").write_bytes(rows_csv.read_bytes() + b'"')
    result = predict("fraud", "cut.csv", "--output", "scores.csv")
    assert result.returncode == 2
    assert_golden((tmp_path / "scores.csv").read_text(), whole_rows)
    assert {path.name for path in tmp_path.iterdir()} == {"rows.csv", "cut.csv", "scores.csv"}


def test_a_pipe_given_as_output_is_written_to_not_replaced(server, rows_csv, tmp_path, whole_rows):
    os.mkfifo(tmp_path / "pipe")
    command = [*COMMAND, "fraud", "rows.csv", "--output", "pipe", "--target", server.target]
    with subprocess.Popen(command, cwd=tmp_path) as process:
        assert_golden((tmp_path / "pipe").read_text(), whole_rows)
    assert process.returncode == 0
    assert (tmp_path / "pipe").is_fifo()


def test_one_record(predict, names, whole_rows):
    row = whole_rows[-1]
    result = predict("fraud", "--json", json.dumps(dict(zip(names, row["values"], strict=True))))
    assert result.returncode == 0
    answer = json.loads(result.stdout)
    assert answer["classification"]["label"] == row["label"]
    assert answer["classification"]["probability"] == pytest.approx(row["probability"], abs=1e-6)
    assert {"request_id", "model", "version", "digest", "warnings"} <= answer.keys()
    assert result.stderr == ""


def test_one_record_that_is_refused(predict, names, whole_rows):
    record = dict(zip(names, whole_rows[0]["values"], strict=True))
    record["Amount"] = "much"
    record["Class"] = 0
    del record["V1"]
    result = predict("fraud", "--json", json.dumps(record))
    assert (result.returncode, result.stdout) == (1, "")
    features = [line.split(":")[2].strip() for line in result.stderr.splitlines()]
    assert sorted(features) == ["Amount", "Class", "V1"]


@pytest.mark.parametrize("words", [["rows.csv"], ["--json", "{}"]])
def test_no_server(rows_csv, words):
    result = subprocess.run(
        [*COMMAND, "fraud", *words, "--target", "localhost:1"],
        capture_output=True,
        text=True,
        cwd=rows_csv.parent,
        check=False,
    )
    assert (result.returncode, result.stdout) == (3, "")
    (line,) = result.stderr.splitlines()
    assert line.startswith("forest-predict: no answer from localhost:1: UNAVAILABLE: ")


class Feeding:
    """A forest-predict that reads from a pipe, and whose scores are read one by one."""

    def __init__(self, text, target, *words):
        self.process = subprocess.Popen(
            [*COMMAND, "fraud", "-", "--target", target, *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._text = text
        threading.Thread(target=self._feed, daemon=True).start()

    def _feed(self):
        with suppress(BrokenPipeError), self.process.stdin as stdin:
            stdin.write(self._text)

    def read(self, lines):
        return [self.process.stdout.readline() for _ in range(lines)]

    def end(self):
        """Return the rest of the scores, what it said, and its exit status."""
        rest, said = self.process.stdout.readlines(), self.process.stderr.read()
        assert "Traceback" not in said
        assert "Exception" not in said
        return rest, said, self.process.wait(20)


@pytest.fixture
def many_rows(whole_rows, csv_of):
    """Return 10,000 rows: more than the pipes on the way hold."""
    header, *lines = csv_of(row["values"] for row in whole_rows).splitlines(keepends=True)
    return header + "".join(lines[index % len(lines)] for index in range(10_000))


def free_port():
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        return str(probe.getsockname()[1])


def test_a_server_that_goes_away_part_way(start_server, fraud_bundle, many_rows):
    server = start_server(fraud_bundle.parents[1])
    feeding = Feeding(many_rows, server.target, "--timeout", "1")
    assert all(feeding.read(500))
    server.process.kill()
    rest, said, status = feeding.end()
    assert status == 3
    # Every row before the line that it names has been scored.
    line = int(re.search(r"forest-predict: gave up: stdin:(\d+): [A-Z_]+: ", said)[1])
    assert 500 < line < 10_000
    assert rest[-1].startswith(f"{line - 2},stdin:{line - 1},")


def test_a_server_that_restarts_part_way_costs_no_row(start_server, fraud_bundle, many_rows):
    port = free_port()
    server = start_server(fraud_bundle.parents[1], "--port", port)
    feeding = Feeding(many_rows, server.target)
    assert all(feeding.read(500))
    # The hardest way: without draining.
    server.process.kill()
    server.process.wait()
    start_server(fraud_bundle.parents[1], "--port", port)
    rest, said, status = feeding.end()
    assert (status, len(rest)) == (0, 10_001 - 500), said


def test_interrupted(server, many_rows, tmp_path):
    feeding = Feeding(many_rows * 10, server.target, "--output", str(tmp_path / "scores.csv"))
    deadline = time.monotonic() + 20
    while not list(tmp_path.glob(".scores.csv.*")) and time.monotonic() < deadline:
        time.sleep(0.01)
    feeding.process.send_signal(signal.SIGINT)
    _, said, status = feeding.end()
    assert status == 130
    assert said.splitlines()[-1] == "forest-predict: interrupted"
    assert not list(tmp_path.iterdir())


def test_an_output_that_is_closed_early(server, many_rows):
    feeding = Feeding(many_rows, server.target)
    assert feeding.read(1) == [COLUMNS + "\n"]
    feeding.process.stdout.close()
    said = feeding.process.stderr.read()
    assert feeding.process.wait(20) == 141
    assert said.splitlines() == ["forest-predict: stdin: no features, so ignored: Class"]


@pytest.mark.parametrize("terminal", [True, False])
def test_a_progress_bar_on_a_terminal_only(server, rows_csv, terminal):
    master, slave = pty.openpty()
    termios.tcsetwinsize(slave, (25, 80))
    try:
        result = subprocess.run(
            [*COMMAND, "fraud", "rows.csv", "--output", "scores.csv", "--target", server.target],
            stderr=slave if terminal else subprocess.PIPE,
            cwd=rows_csv.parent,
            check=True,
        )
        shown = os.read(master, 65536) if terminal else result.stderr
    finally:
        os.close(master)
        os.close(slave)
    assert (b"rows.csv:" in shown and b"%|" in shown) is terminal
    assert (b"\r" in shown.replace(b"\r\n", b"\n")) is terminal
