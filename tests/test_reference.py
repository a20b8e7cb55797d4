from __future__ import annotations

import gc
import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import torch
from filelock import FileLock
from torch import Tensor
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

from lit_prm.data.batch import Batch, collate
from lit_prm.data.encoding import Encoder
from lit_prm.data.records import Group, Problem, Rollout
from lit_prm.data.steps import BlankLine
from lit_prm.models.language_model import load_model
from lit_prm.models.packed_rows import real
from lit_prm.models.reference import Frozen, Stored, Uniform, weights_id
from lit_prm.models.reference.rows import StoreRow, part_of
from lit_prm.models.reference.store import LogpStore
from tests.rounding import network_bound

CPU = torch.device("cpu")
ROUNDING = network_bound(64, 16.0)  # of log-probs above -16; another token's is a thousand times as far


@pytest.fixture(scope="module")
def batch(tokenizer: PreTrainedTokenizerFast) -> Batch:
    rollouts = tuple(Rollout(response=r, correct=True) for r in ("14", "7 * 2 = 14", "Step 1: no", "7"))
    problem = Problem(prompt="What is 2 * (3 + 4)?", id="p")
    return collate(Encoder(tokenizer, BlankLine()).encode([Group(problem=problem, rollouts=rollouts)]))


def test_stored_equals_frozen_and_itself(reference_folder: Path, batch: Batch, tmp_path: Path) -> None:
    stored = Stored(str(reference_folder), str(tmp_path / "r.sqlite"))
    live = Frozen(str(reference_folder)).logps(batch)
    first = stored.logps(batch)
    assert torch.allclose(first, live, rtol=0, atol=ROUNDING)
    assert torch.equal(stored.logps(batch), first)
    assert not live.requires_grad


def test_entries_do_not_depend_on_the_batches_that_asked(reference_folder: Path, batch: Batch, tmp_path: Path) -> None:
    """Bit for bit, or a run's metrics would depend on which run filled the store."""
    whole, single = (Stored(str(reference_folder), str(tmp_path / f"{n}.sqlite")) for n in ("whole", "single"))
    whole.prepare([batch], CPU)
    for i in reversed(range(len(batch.ids))):
        n = int(batch.length[i])
        row = Batch(*(field[i : i + 1] for field in batch))
        single.prepare([row._replace(ids=row.ids[:, :n], step=row.step[:, :n])], CPU)
    assert torch.equal(whole.logps(batch), single.logps(batch))


@pytest.mark.parametrize("part", [1, 48, 4096])
def test_parts_of_any_size_hold_every_response(
    part: int, reference_folder: Path, batch: Batch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Stored, "PART", {"cpu": part})
    stored = Stored(str(reference_folder), str(tmp_path / "r.sqlite"))
    stored.prepare([batch, batch], CPU)
    assert stored.misses == 4
    assert torch.allclose(stored.logps(batch), Frozen(str(reference_folder)).logps(batch), rtol=0, atol=ROUNDING)


def test_a_full_store_never_loads_the_model(
    reference_folder: Path, batch: Batch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = str(tmp_path / "r.sqlite")
    Stored(str(reference_folder), path).prepare([batch], CPU)
    monkeypatch.setattr("lit_prm.models.reference.base.load_model", lambda *_: pytest.fail("loaded the reference"))
    second = Stored(str(reference_folder), path)
    second.prepare([batch], CPU)
    assert second.misses == 0
    second.logps(batch)


def test_a_store_keeps_references_apart(
    reference_folder: Path, policy_folder: Path, batch: Batch, tmp_path: Path
) -> None:
    path = str(tmp_path / "r.sqlite")
    a, b = (Stored(str(folder), path).logps(batch) for folder in (reference_folder, policy_folder))
    assert not torch.allclose(a, b)


def filled_by_policy(folder: Path, batches: list[Batch], path: Path, attention: str | None = "auto") -> Stored:
    stored = Stored(str(folder), str(path), from_policy=True)
    stored.prepare(batches, CPU, load_model(str(folder), attention=attention))
    return stored


def test_a_policy_before_its_first_update_fills_the_store_and_no_second_model_is_loaded(
    reference_folder: Path, batch: Batch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    live = Frozen(str(reference_folder)).logps(batch)
    monkeypatch.setattr("lit_prm.models.reference.base.load_model", lambda *_: pytest.fail("loaded the reference"))
    packed = filled_by_policy(reference_folder, [batch], tmp_path / "packed.sqlite")
    assert torch.allclose(packed.logps(batch), live, rtol=0, atol=ROUNDING)
    padded = filled_by_policy(reference_folder, [batch], tmp_path / "padded.sqlite", attention=None)
    usual = Stored(str(reference_folder), str(tmp_path / "padded.sqlite"))
    usual.prepare([batch], CPU)  # one address, whoever computed
    assert (padded.misses, usual.misses) == (4, 0)


def test_a_policys_entries_do_not_depend_on_the_batches_that_asked(
    reference_folder: Path, batch: Batch, tmp_path: Path
) -> None:
    whole = filled_by_policy(reference_folder, [batch], tmp_path / "whole.sqlite")
    single = filled_by_policy(reference_folder, [batch.keep([i]) for i in (3, 1, 2, 0)], tmp_path / "single.sqlite")
    assert torch.equal(whole.logps(batch), single.logps(batch))


def test_a_part_runs_as_many_tokens_whatever_its_responses() -> None:
    rows = [StoreRow(b"", torch.ones(n, dtype=torch.long), 1) for n in (3, 9)]
    assert real(part_of(rows, 16, CPU)).all()
    assert part_of(rows, 16, CPU).in_response.sum(1).tolist() == [2, 8]


def test_a_long_response_is_computed_once_on_a_cpu(
    reference_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []

    def logps(part: Batch) -> Tensor:
        sizes.append(part.ids.numel())
        return torch.zeros(part.ids.shape)

    stored = Stored(str(reference_folder), str(tmp_path / "r.sqlite"))
    monkeypatch.setattr(stored.source, "logps", logps)
    for n in (300, 130, 20):
        stored._logps_of([StoreRow(b"", torch.ones(n, dtype=torch.long), 1)], CPU)
    assert sizes == [304, 144, 1024]


def test_a_policy_that_trains_again_computes_no_reference(reference_folder: Path, batch: Batch, tmp_path: Path) -> None:
    policy = load_model(str(reference_folder)).train()
    stored = Stored(str(reference_folder), str(tmp_path / "r.sqlite"), from_policy=True)
    stored.prepare([batch.keep([0, 1])], CPU, policy)
    assert policy.training
    assert stored.logps(batch.keep([0, 1])).any()
    for ask in (lambda: stored.logps(batch), lambda: stored.prepare([batch], CPU, None)):
        with pytest.raises(ValueError, match=r"before its first update\. Set from_policy to false"):
            ask()


@pytest.mark.parametrize("other", ["model", "dtype"])
def test_a_policy_that_is_no_reference_is_refused(
    other: str, reference_folder: Path, policy_folder: Path, batch: Batch, tmp_path: Path
) -> None:
    policy = load_model(str(policy_folder if other == "model" else reference_folder), dtype="bfloat16")
    dtype = "float32" if other == "dtype" else "bfloat16"
    stored = Stored(str(reference_folder), str(tmp_path / "r.sqlite"), dtype, from_policy=True)
    with pytest.raises(ValueError, match="give both the same model and dtype"):
        stored.prepare([batch], CPU, policy)


def test_a_policy_checks_what_is_stored(reference_folder: Path, batch: Batch, tmp_path: Path) -> None:
    filled_by_policy(reference_folder, [batch], tmp_path / "r.sqlite")
    spoil(tmp_path / "r.sqlite", HALF)
    with pytest.raises(ValueError, match="does not give"):
        filled_by_policy(reference_folder, [batch], tmp_path / "r.sqlite")


def test_only_missing_responses_are_computed(reference_folder: Path, batch: Batch, tmp_path: Path) -> None:
    stored = Stored(str(reference_folder), str(tmp_path / "r.sqlite"))
    head = Batch(*(field[:2] for field in batch))
    stored.prepare([head], CPU)
    assert stored.misses == 2
    told = stored.prepare([batch], CPU)
    assert (stored.requested, stored.misses) == (4, 2)  # of the last pass
    assert "2 of 4 responses were stored, 2 computed" in told
    assert torch.allclose(stored.logps(batch), Frozen(str(reference_folder)).logps(batch), rtol=0, atol=ROUNDING)


def test_uniform_is_zero(batch: Batch) -> None:
    assert Uniform().logps(batch).abs().max() == 0


def filled(reference_folder: Path, batch: Batch, path: Path) -> Stored:
    stored = Stored(str(reference_folder), str(path))
    stored.prepare([batch], CPU)
    return stored


def test_what_was_asked_found_and_kept_is_told(reference_folder: Path, batch: Batch, tmp_path: Path) -> None:
    path = tmp_path / "r.sqlite"
    half = Batch(*(field[:2] for field in batch))
    assert "0 of 2 responses were stored, 2 computed" in str(
        Stored(str(reference_folder), str(path)).prepare([half], CPU)
    )
    told = str(Stored(str(reference_folder), str(path)).prepare([batch], CPU))
    assert "2 of 4 responses were stored, 2 computed" in told
    assert "holds 4 (0." in told


def test_weights_written_in_place_are_other_weights(reference_folder: Path, batch: Batch, tmp_path: Path) -> None:
    folder = shutil.copytree(reference_folder, tmp_path / "model")
    filled(folder, batch, tmp_path / "r.sqlite")
    weights = folder / "model.safetensors"
    before = weights.stat()
    network = AutoModelForCausalLM.from_pretrained(folder)
    with torch.no_grad():
        next(network.parameters()).mul_(2)
    network.save_pretrained(folder)
    os.utime(weights, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (weights.stat().st_size, weights.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    again = Stored(str(folder), str(tmp_path / "r.sqlite"))
    again.prepare([batch], CPU)
    assert again.misses == 4


def test_another_revision_of_a_hub_model_is_another_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    ids = []
    for commit in ("1a", "2b", "1a"):
        monkeypatch.setattr("lit_prm.models.weights.commit_of", {"owner/model": commit}.__getitem__)
        ids.append(weights_id("owner/model", "float32"))
    assert ids[0] == ids[2] != ids[1]


def test_an_entry_that_is_there_stays(tmp_path: Path) -> None:
    store = LogpStore(str(tmp_path / "r.sqlite"))
    for value in (1, 2):
        store.write([(b"a" * 32, np.full(3, value, np.float32))])
    (found,) = store.read([b"a" * 32])
    assert found is not None
    assert found.tolist() == [1, 1, 1]


def spoil(path: Path, change: str) -> None:
    with sqlite3.connect(path) as database:
        database.execute(change)


HALF = "UPDATE logps SET logps = substr(logps, 1, length(logps) / 8 * 4)"


@pytest.mark.parametrize("change", ["UPDATE logps SET logps = zeroblob(length(logps))", HALF])
def test_a_store_that_its_model_contradicts_is_refused_under_new_circumstances(
    change: str, reference_folder: Path, batch: Batch, tmp_path: Path
) -> None:
    path = tmp_path / "r.sqlite"
    filled(reference_folder, batch, path)
    spoil(path, change)
    spoil(path, "DELETE FROM checked")  # as of another release or device
    with pytest.raises(ValueError, match=r"holds log-probs that .* does not give: .* apart, more than 0.001"):
        filled(reference_folder, batch, path)


def test_a_store_is_verified_whenever_its_model_is_in_memory(
    reference_folder: Path, batch: Batch, tmp_path: Path
) -> None:
    path = tmp_path / "r.sqlite"
    filled(reference_folder, Batch(*(field[:2] for field in batch)), path)
    spoil(path, "UPDATE logps SET logps = zeroblob(length(logps))")
    with pytest.raises(ValueError, match="does not give"):
        filled(reference_folder, batch, path)  # two responses more


def test_a_cut_entry_is_refused_when_it_is_read(reference_folder: Path, batch: Batch, tmp_path: Path) -> None:
    stored = filled(reference_folder, batch, tmp_path / "r.sqlite")
    spoil(tmp_path / "r.sqlite", HALF)
    with pytest.raises(ValueError, match=r"r.sqlite holds \d+ log-probs of a response of \d+ tokens"):
        stored.logps(batch)


def test_a_file_that_is_no_store_is_refused(reference_folder: Path, batch: Batch, tmp_path: Path) -> None:
    path = tmp_path / "r.sqlite"
    path.write_bytes(b"something else" * 400)
    with pytest.raises(ValueError, match=r"r.sqlite is not an intact store of log-probs \(file is not a database\)"):
        filled(reference_folder, batch, path)
    assert path.read_bytes().startswith(b"something else")


def test_another_programs_file_is_refused_by_name(reference_folder: Path, batch: Batch, tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "r.sqlite") as database:
        database.execute("CREATE TABLE logps (something)")
    with pytest.raises(ValueError, match=r"r.sqlite: no such column: address\. Set model.reference"):
        filled(reference_folder, batch, tmp_path / "r.sqlite")


def test_a_store_that_is_being_made_for_ever_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LogpStore, "WAITS", 0.1)
    with FileLock(tmp_path / "r.sqlite.lock"), pytest.raises(ValueError, match=r"r.sqlite.lock could not be taken"):
        LogpStore(str(tmp_path / "r.sqlite")).write([])


def test_a_response_that_occurs_again_was_not_stored(reference_folder: Path, batch: Batch, tmp_path: Path) -> None:
    stored = Stored(str(reference_folder), str(tmp_path / "r.sqlite"))
    told = stored.prepare([batch, batch.keep([0, 1, 1])], CPU)
    assert told.startswith("reference log-probs: 0 of 4 responses were stored, 4 computed")


def journal(path: Path) -> str:
    with closing(sqlite3.connect(path)) as database:
        return str(database.execute("PRAGMA journal_mode").fetchone()[0])


def test_a_store_over_hosts_needs_no_shared_memory_and_stays_so(tmp_path: Path) -> None:
    path = tmp_path / "r.sqlite"
    LogpStore(str(path)).write([(b"a", np.ones(3, np.float32))])
    assert journal(path) == "wal"
    gc.collect()  # a connection is in a cycle with its own cache of statements
    shared = LogpStore(str(path))
    shared.over_hosts = True
    shared.write([(b"b", np.ones(2, np.float32))])
    later = LogpStore(str(path))
    later.write([(b"c", np.ones(1, np.float32))])
    assert journal(path) == "delete"
    assert [len(row) for row in shared.read([b"a", b"b", b"c"]) if row is not None] == [3, 2, 1]
    assert not list(tmp_path.glob("*-wal"))


def test_a_store_is_little_larger_than_its_numbers(tmp_path: Path) -> None:
    store, rng = LogpStore(str(tmp_path / "r.sqlite")), np.random.default_rng(0)
    lengths = rng.integers(50, 1000, size=2000)
    store.write((rng.bytes(32), np.ones(n, np.float32)) for n in lengths)
    entries, size = store.size()
    assert entries == 2000
    assert size < 5 * lengths.sum()


@pytest.mark.parametrize("loaded", [True, False])
def test_entries_of_another_type_are_others_though_the_store_was_asked_before(
    loaded: bool, reference_folder: Path, batch: Batch, tmp_path: Path
) -> None:
    stored = Stored(str(reference_folder), str(tmp_path / "r.sqlite"))
    full = stored.logps(batch)
    if not loaded:
        stored.source.release()
    stored.compute_in("bfloat16")
    assert torch.equal(
        stored.logps(batch), Stored(str(reference_folder), str(tmp_path / "b.sqlite"), "bfloat16").logps(batch)
    )
    assert torch.equal(Stored(str(reference_folder), str(tmp_path / "r.sqlite")).logps(batch), full)
