"""Cells: what one process counts, another reads, and a third one goes on from."""

import mmap
import os
import signal
import time

import pytest

from server.store import SIZE, Key, Store


def test_cells_are_found_again_by_name_and_labels() -> None:
    store = Store()
    store.cells("calls", {"code": "OK"})[0] += 2
    store.cells("calls", {"code": "Internal"}, 3)[2] += 5
    assert store.cells("calls", {"code": "OK"}).tolist() == [2]
    assert store.read() == {
        Key("calls", (("code", "OK"),)): [2],
        Key("calls", (("code", "Internal"),)): [0, 0, 5],
    }


def test_names_may_be_any_text() -> None:
    memory = mmap.mmap(-1, SIZE)
    for name in ("é", 'a"b', "line\nbreak", ""):
        Store(memory).cells("n", {"label": name}, 2)[1] = -(2**63)
    assert {key.labels[0][1]: cells for key, cells in Store(memory).read().items()} == {
        name: [0, -(2**63)] for name in ("é", 'a"b', "line\nbreak", "")
    }


def test_a_process_counts_and_another_reads_while_it_does_and_when_it_is_killed() -> None:
    memory = mmap.mmap(-1, SIZE)
    reader = Store(memory)
    child = os.fork()
    if not child:
        store = Store(memory)
        number = 0
        while True:
            store.cells("made", {"number": str(number % 500)})[0] += 1
            number += 1
    try:
        totals = []
        deadline = time.monotonic() + 10
        while (not totals or totals[-1] < 20_000) and time.monotonic() < deadline:
            totals.append(sum(cells[0] for cells in reader.read().values()))
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    assert totals == sorted(totals)
    assert totals[-1] >= 20_000
    # The next one in its place goes on from there.
    before = sum(cells[0] for cells in reader.read().values())
    Store(memory).cells("made", {"number": "0"})[0] += 1
    assert sum(cells[0] for cells in reader.read().values()) == before + 1


def test_what_a_killed_process_had_begun_to_add_is_in_no_cell() -> None:
    memory = mmap.mmap(-1, SIZE)
    Store(memory).cells("one", {})[0] = 1
    words = memoryview(memory).cast("q")
    used = words[0]
    words[used : used + 100] = memoryview(b"x" * 800).cast("q")
    assert Store(memory).cells("two", {}, 8).tolist() == [0] * 8
    assert Store(memory).read() == {Key("one", ()): [1], Key("two", ()): [0] * 8}


def test_where_there_is_no_room_one_counts_for_oneself_and_says_so_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    memory = mmap.mmap(-1, SIZE)
    store = Store(memory)
    for name in ("large", "larger"):
        store.cells(name, {}, 2_000_000)[0] = 7
    store.cells("small", {})[0] = 1
    assert store.cells("large", {}, 2_000_000)[0] == 7
    assert store.read()[Key("large", ())][:2] == [7, 0]
    assert store.read()[Key("small", ())] == [1]
    assert Store(memory).read() == {Key("small", ()): [1]}
    assert caplog.text.count("no room in the store of metrics") == 1
