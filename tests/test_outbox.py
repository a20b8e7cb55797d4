"""Whatever the store does, every entry arrives, in order, and the sender is not kept waiting."""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lit_prm.outbox import Entry, Outbox


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
    monkeypatch.setattr("lit_prm.outbox.time.monotonic", lambda: clock[0])
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
