"""Whatever the store does, every entry arrives, in order, and the sender is not kept waiting."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lit_prm.storage.mlflow_queue import Entry, EntryRefused, Outbox


class Away(Exception):
    """What a store that does not answer is to its sender."""


class Store:
    """Takes entries; the nth attempt fails where ``away`` says so, at a cost of time."""

    def __init__(self, away: list[bool] | None = None, clock: list[float] | None = None, patience: float = 0.0) -> None:
        self.away, self.clock, self.patience = away or [], clock or [0.0], patience
        self.got: list[Entry] = []
        self.attempts = 0

    def send(self, entry: Entry) -> None:
        self.attempts += 1
        if self.attempts <= len(self.away) and self.away[self.attempts - 1]:
            self.clock[0] += self.patience
            raise Away
        self.got.append(entry)


def outbox(file: Path, store: Store) -> Outbox:
    return Outbox(file, store.send, lambda error: isinstance(error, Away))


def numbered(got: list[Entry]) -> list[int]:
    """Entries by their first arrival."""
    return list(dict.fromkeys(entry["n"] for entry in got))


@given(st.lists(st.booleans(), max_size=30), st.lists(st.booleans(), min_size=1, max_size=20))
def test_everything_arrives_in_order(away: list[bool], hurries: list[bool]) -> None:
    with TemporaryDirectory() as folder:
        store = Store(away)
        box = outbox(Path(folder) / "missed.jsonl", store)
        for n, now in enumerate(hurries):
            box.put({"n": n}, now=now)
        store.away = []
        assert box.flush()
        assert not box.waits
        assert numbered(store.got) == list(range(len(hurries)))


def test_an_outage_costs_three_percent_of_the_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr("lit_prm.storage.mlflow_queue.time.monotonic", lambda: clock[0])
    store = Store([True] * 10_000, clock, patience=10.0)
    box = outbox(tmp_path / "missed.jsonl", store)
    for n in range(10_000):
        clock[0] += 1.0  # of work
        box.put({"n": n})
    assert (clock[0] - 10_000) / 10_000 <= 0.034
    assert store.attempts > 30
    store.away, clock[0] = [], clock[0] + 1000
    box.put({"n": 10_000})
    assert numbered(store.got) == list(range(10_001))


def test_the_outage_is_told_once_and_where_its_entries_are(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    box = outbox(tmp_path / "missed.jsonl", Store([True] * 9))
    for n in range(3):
        box.put({"n": n, "not a number": float("nan")}, now=True)
    assert capsys.readouterr().err.count(f"kept in {tmp_path / 'missed.jsonl'}") == 1


def test_what_a_killed_process_left_is_sent_first_but_for_half_a_line(tmp_path: Path) -> None:
    file, store = tmp_path / "missed.jsonl", Store()
    file.write_text(json.dumps({"n": 0}) + "\n" + json.dumps({"n": 1}) + '\n{"n": ')
    outbox(file, store).put({"n": 2})
    assert numbered(store.got) == [0, 1, 2]
    assert not file.exists()


def test_what_is_no_outage_is_raised_and_not_kept(tmp_path: Path) -> None:
    def refuses(entry: Any) -> None:
        raise ZeroDivisionError

    box = Outbox(tmp_path / "missed.jsonl", refuses, lambda error: isinstance(error, Away))
    with pytest.raises(ZeroDivisionError):
        box.put({"n": 0})
    assert not box.waits


def test_an_entry_refused_for_itself_ends_no_work_and_holds_up_no_other(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = Store()

    def send(entry: Entry) -> None:
        if entry["n"] == 1:
            raise EntryRefused("too large")
        store.send(entry)

    box = Outbox(tmp_path / "missed.jsonl", send, lambda error: isinstance(error, Away))
    for n in range(3):
        box.put({"n": n})
    assert numbered(store.got) == [0, 2]
    assert json.loads(box.damaged.read_text()) == {"n": 1}
    assert not box.waits
    assert f"refuses are kept in {box.damaged} (too large)" in capsys.readouterr().err


# --- the file: half a line, other writers, a long backlog -------------------------------------------


def test_half_a_line_spoils_neither_the_next_entry_nor_the_next_start(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, away, store = tmp_path / "missed.jsonl", Store([True] * 9), Store()
    file.write_bytes(b'{"n": 0}\n{"n": ')
    outbox(file, away).put({"n": 1})  # keeps it behind the half
    box = outbox(file, store)
    box.put({"n": 2})
    assert numbered(store.got) == [0, 1, 2]
    assert (box.sent, box.refused, box.waits) == (2, 1, False)
    assert box.damaged.read_bytes() == b'{"n": \n'
    assert f"refuses are kept in {tmp_path / 'missed.jsonl.damaged'}" in capsys.readouterr().err


@pytest.mark.parametrize("line", [b"not json", b"\xff\xfe\x00", b"5", b"\0" * 8, b'{"n": 0} {"n": 1}'])
def test_a_line_that_is_no_entry_is_set_aside(line: bytes, tmp_path: Path) -> None:
    file, store = tmp_path / "missed.jsonl", Store()
    file.write_bytes(b'{"n": 0}\n' + line + b'\n{"n": 1}\n')
    box = Outbox(file, lambda entry: store.send({"n": entry["n"]}), lambda error: isinstance(error, Away))
    assert box.flush()
    assert numbered(store.got) == [0, 1]
    assert box.damaged.read_bytes() == line + b"\n"


def test_a_kept_entry_that_the_store_refuses_is_set_aside_and_others_arrive(tmp_path: Path) -> None:
    got: list[Entry] = []

    def send(entry: Entry) -> None:
        got.append({"n": 1 // entry["n"]})

    file = tmp_path / "missed.jsonl"
    file.write_bytes(b'{"n": 0}\n{"n": 1}\n')
    Outbox(file, send, lambda error: isinstance(error, Away)).put({"n": 1})
    assert (len(got), file.exists()) == (2, False)


def test_a_file_that_cannot_be_written_ends_no_work_and_is_told_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "missed.jsonl"
    file.symlink_to(tmp_path / "nowhere" / "file")
    box = outbox(file, Store([True] * 9))
    for n in range(3):
        box.put({"n": n})
    assert capsys.readouterr().err.count(f"its MLflow record are lost: {file} cannot be written (") == 1


def test_what_another_process_keeps_meanwhile_is_not_lost(tmp_path: Path) -> None:
    """It waits for its turn while this one sends."""
    file, got = tmp_path / "missed.jsonl", list[int]()
    other = outbox(file, Store([True] * 9))

    def send(entry: Entry) -> None:
        if not got:
            other_process.start()
            time.sleep(0.2)
        got.append(entry["n"])

    other_process = threading.Thread(target=other.put, args=({"n": 2},))
    file.write_bytes(b'{"n": 0}\n{"n": 1}\n')
    box = Outbox(file, send, lambda error: isinstance(error, Away))
    assert box.flush()
    other_process.join()
    assert box.flush()
    assert got == [0, 1, 2]


def test_a_backlog_is_sent_in_pieces_and_no_entry_of_it_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr("lit_prm.storage.mlflow_queue.time.monotonic", lambda: clock[0])

    def send(entry: Entry) -> None:
        clock[0] += 1.0
        store.send(entry)

    store, file = Store(), tmp_path / "missed.jsonl"
    file.write_text("".join(json.dumps({"n": n}) + "\n" for n in range(25)))
    box = Outbox(file, send, lambda error: isinstance(error, Away))
    waited = []
    for n in range(25, 29):
        before = clock[0]
        box.put({"n": n})
        waited.append(clock[0] - before)
    assert waited == [10, 10, 8, 1]
    assert [entry["n"] for entry in store.got] == list(range(29))


def test_what_was_sent_before_an_outage_is_not_sent_again(tmp_path: Path) -> None:
    store, file = Store([False, False, True]), tmp_path / "missed.jsonl"
    file.write_text("".join(json.dumps({"n": n}) + "\n" for n in range(4)))
    box = outbox(file, store)
    assert not box.flush()
    assert box.flush()
    assert [entry["n"] for entry in store.got] == [0, 1, 2, 3]
