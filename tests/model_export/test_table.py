"""What data is read, and what is refused with which message."""

import gzip
import lzma
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_export import table
from model_export.recipes.fraud import RECIPE
from model_export.table import TableError

NAMES = ["Time", *(f"V{index}" for index in range(1, 29)), "Amount", "Class"]


def row(label: str = "0", **values: str) -> str:
    cells = dict.fromkeys(NAMES, "0.5") | {"Class": label} | values
    return ",".join(cells[name] for name in NAMES)


def text(*rows: str, header: str = ",".join(NAMES)) -> str:
    return "\n".join([header, *rows]) + "\n"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "creditcard.csv"


def refusal(path: Path, content: str | bytes) -> str:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(TableError) as caught:
        table.read(path, RECIPE)
    message = str(caught.value)
    assert "\n" not in message
    return message.removeprefix(str(path))


def test_reads_features_in_the_recipes_order_whatever_the_files(path: Path):
    shuffled = ["Class", *reversed(NAMES[:-1])]
    path.write_text(
        '"'
        + '","'.join(shuffled)
        + '"\r\n'
        + ",".join(['"1"', *(str(index) for index in range(30))])
        + "\r\n\r\n"
        + ",".join(["0", *(["1e-3"] * 30)])
        + "\r\n"
    )
    read = table.read(path, RECIPE)
    assert read.rows.dtype == np.float32
    assert read.rows[0].tolist() == list(range(29, -1, -1))
    assert read.rows[1].tolist() == [float(np.float32(1e-3))] * 30
    assert read.targets.tolist() == [1, 0]
    assert read.name == "creditcard.csv"


def test_a_compressed_copy_is_the_same_table(path: Path):
    content = text(row("0"), row("1", V1="-1.5")).encode()
    path.write_bytes(content)
    plain = table.read(path, RECIPE)
    for suffix, compress in ((".gz", gzip.compress), (".xz", lzma.compress)):
        copy = path.with_name(path.name + suffix)
        copy.write_bytes(compress(content))
        read = table.read(copy, RECIPE)
        assert (read.name, read.digest) == (plain.name, plain.digest)
        assert np.array_equal(read.rows, plain.rows)


def test_a_byte_order_mark_is_no_part_of_the_header(path: Path):
    path.write_text("\ufeff" + text(row("0"), row("1")))
    assert table.read(path, RECIPE).targets.tolist() == [0, 1]


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (NAMES[:-1], ":1: the header lacks Class"),
        ([name for name in NAMES if name not in ("V3", "V7")], ":1: the header lacks V3, V7"),
        ([*NAMES, "Country"], ":1: the header has Country, which fraud does not know"),
        (
            ["V29" if name == "V4" else name for name in NAMES],
            ":1: the header lacks V4 and has V29, which fraud does not know",
        ),
        ([*NAMES, "V1"], ":1: the header names V1 twice"),
        (["time", *NAMES[1:]], ":1: the header lacks Time and has time, which fraud does not know"),
    ],
)
def test_refuses_a_wrong_header(path: Path, header: list[str], message: str):
    assert refusal(path, text(row("0"), header=",".join(header))) == message


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ("abc", "'abc' is no number"),
        ("", "blank, and a value is needed"),
        ("  ", "blank, and a value is needed"),
        ("nan", "'nan' is no finite number"),
        ("-inf", "'-inf' is no finite number"),
        ("1_000", "'1_000' is no number"),
        ("1e39", "'1e39' is beyond float32"),
        ("0x10", "'0x10' is no number"),
        ('"1,5"', "'1,5' is no number"),
    ],
)
def test_refuses_what_is_no_number_and_says_where(path: Path, value: str, problem: str):
    content = text(row("0"), "", row("1"), row("0", V9=value), row("0", V2="also wrong"))
    assert refusal(path, content) == f":5: column V9: {problem}"


@pytest.mark.parametrize("label", ["2", "-1", "0.5", "1e9"])
def test_refuses_a_label_that_is_not_0_or_1(path: Path, label: str):
    content = text(row("0"), row("1"), row(label))
    assert refusal(path, content) == f":4: column Class: {label!r} is no label: 0 or 1"


@pytest.mark.parametrize("label", ["fraud", "nan", ""])
def test_refuses_a_label_that_is_no_number(path: Path, label: str):
    assert refusal(path, text(row("0"), row(label))).startswith(":3: column Class: ")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (text(row("0"), row("0") + ",1"), ":3: 32 values, but the header has 31 columns"),
        (text(row("0"), "1"), ":3: 1 value, but the header has 31 columns"),
        (text(row("0"), row("0")), ": no row has Class 1 (fraud): both labels are needed"),
        (text(row("1"), row("1")), ": no row has Class 0 (legitimate): both labels are needed"),
        (text(), ": no rows below the header"),
        ("", ": empty: the first line must name the columns"),
        ("\n\n", ": empty: the first line must name the columns"),
        (text(row("0", V1='"1"2')), ":2: ',' expected after '\"'"),
    ],
)
def test_refuses_a_table_that_is_none(path: Path, content: str, message: str):
    assert refusal(path, content) == message


def test_refuses_a_file_that_cannot_be_read(tmp_path: Path):
    with pytest.raises(TableError, match=r"absent.csv: No such file or directory"):
        table.read(tmp_path / "absent.csv", RECIPE)
    with pytest.raises(TableError, match="Is a directory"):
        table.read(tmp_path, RECIPE)


@pytest.mark.parametrize(("suffix", "compress"), [(".gz", gzip.compress), (".xz", lzma.compress)])
def test_refuses_a_compressed_file_that_is_cut_or_is_none(tmp_path: Path, suffix: str, compress):
    path = tmp_path / f"creditcard.csv{suffix}"
    whole = compress(text(*[row(str(index % 2), V1=str(index / 7)) for index in range(99)]).encode())
    for content in (whole[: len(whole) // 2], b"Time,V1\n1,2\n"):
        assert refusal(path, content).startswith(f": not a whole {suffix} file: ")


@given(content=st.binary(max_size=300))
def test_never_fails_otherwise_than_by_a_refusal(tmp_path_factory: pytest.TempPathFactory, content: bytes):
    path = tmp_path_factory.getbasetemp() / "any.csv"
    for prefix in (b"", text(row("0"), row("1")).encode()):
        path.write_bytes(prefix + content)
        try:
            table.read(path, RECIPE)
        except TableError as error:
            assert str(error).startswith(str(path))  # noqa: PT017
