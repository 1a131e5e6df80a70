import gzip
import io
import lzma

import pytest
from forest_client.table import Row, Table, TableError

TEXT = 'Time,Note\n0,a\n\n1,"two\nlines"\n2,b\n'
ROWS = [Row(1, 2, ["0", "a"]), Row(2, 4, ["1", "two\nlines"]), Row(3, 6, ["2", "b"])]


@pytest.fixture
def file(tmp_path):
    def write(data: bytes, name: str = "rows.csv") -> str:
        path = tmp_path / name
        path.write_bytes(data)
        return str(path)

    return write


@pytest.mark.parametrize(
    ("name", "pack"),
    [
        ("rows.csv", bytes),
        ("rows.csv.gz", gzip.compress),
        ("rows.csv.xz", lzma.compress),
        # The first bytes decide, not the name.
        ("rows.csv", gzip.compress),
    ],
)
def test_a_row_knows_its_number_and_the_line_it_begins_on(file, name, pack):
    with Table(file(pack(TEXT.encode()), name)) as table:
        assert table.name == name
        assert table.header == ["Time", "Note"]
        assert list(table) == ROWS


@pytest.mark.parametrize("pack", [bytes, gzip.compress, lzma.compress])
def test_standard_input(monkeypatch, pack):
    stdin = io.TextIOWrapper(io.BufferedReader(io.BytesIO(pack(TEXT.encode()))))
    monkeypatch.setattr("sys.stdin", stdin)
    with Table("-") as table:
        assert table.name == "stdin"
        assert list(table) == ROWS


def test_windows_line_ends_and_a_byte_order_mark(file):
    with Table(file(b"\xef\xbb\xbfTime,Amount\r\n0,1\r\n")) as table:
        assert table.header == ["Time", "Amount"]
        assert [row.cells for row in table] == [["0", "1"]]


def test_only_a_part_of_the_file_is_read_at_a_time(file):
    with Table(file(b"Time\n" + b"1\n" * 1_000_000)) as table:
        rows = iter(table)
        next(rows)
        assert 0 < table.position < 100_000 < table.size


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", r"rows\.csv: it is empty"),
        (b"\nTime\n", r"rows\.csv: it is empty, or its first line is"),
        (b"Time,\xe4\n", r"rows\.csv: not UTF-8 after line 0"),
        (b'Time\n1\n"2\n3\n', r"rows\.csv:3: unexpected end of data"),
        (b'Time\n1\n"2"3\n', r"rows\.csv:3: "),
        (b"Time\n1\n" + b"2" * 200_000, r"rows\.csv:3: field larger"),
        (gzip.compress(TEXT.encode())[:-9], r"rows\.csv: damaged after line \d+"),
        (gzip.compress(TEXT.encode())[:-8] + bytes(8), r"rows\.csv: damaged after line \d+"),
        (lzma.compress(TEXT.encode())[:-9], r"rows\.csv: damaged after line \d+"),
        (lzma.compress(TEXT.encode())[:20] + bytes(60), r"rows\.csv: damaged after line \d+"),
    ],
)
def test_what_is_wrong_and_where(file, data, message):
    with pytest.raises(TableError, match=message), Table(file(data)) as table:
        list(table)


def test_no_file(tmp_path):
    with pytest.raises(TableError, match=r"none\.csv: No such file"):
        Table(str(tmp_path / "none.csv"))
    with pytest.raises(TableError, match="Is a directory"):
        Table(str(tmp_path))
