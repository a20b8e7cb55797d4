"""Metrics of two processes with uneven shards, repeated rows or nothing equal those of one process."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from tests.test_metrics import Columns, columns, everything, part, values

REPOSITORY = Path(__file__).parents[2]
SHARDS = {  # the rows of each rank; 60 in all
    "uneven, with repeats": (list(range(37)), [*range(37, 60), 3, 4, 5, 59]),
    "one has nothing": (list(range(60)), []),
    "the first has nothing": ([], list(range(60))),
}


def shard(rows: list[int]) -> list[Columns]:
    """Batches that are as wide as their longest response."""
    batch = columns(5)
    pieces = [part(batch, torch.tensor(rows[i : i + 16])) for i in range(0, len(rows), 16)]
    widths = [int(piece["valid"].sum(1).max()) for piece in pieces]
    return [
        piece | {name: piece[name][:, :width] for name in ("steps", "valid")}
        for piece, width in zip(pieces, widths, strict=True)
    ]


def main(rank: int, rendezvous: str, out: str) -> None:
    dist.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=2)
    found = {}
    for name, ranks in SHARDS.items():
        metrics = everything()
        for batch in shard(ranks[rank]):
            (metrics if name.startswith("uneven") else metrics.update)(**batch)  # forward, too
        found[name] = values(metrics)
    dist.destroy_process_group()
    Path(out).write_text(json.dumps(found))


@pytest.mark.slow  # a quarter of a minute, nearly all of it imports of two processes
def test_two_ranks_find_what_one_process_does(tmp_path: Path) -> None:
    code = "import sys; from tests.integration.test_metrics_ranks import main; main(int(sys.argv[1]), *sys.argv[2:])"
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    ranks = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(rank), str(tmp_path / "rendezvous"), str(tmp_path / f"{rank}.json")],
            env=environment, stderr=subprocess.PIPE, text=True,
        )
        for rank in range(2)
    ]  # fmt: skip
    try:
        errors = [rank.communicate(timeout=120)[1] for rank in ranks]
    finally:
        for rank in ranks:
            rank.kill()
    assert [rank.returncode for rank in ranks] == [0, 0], errors
    alone = everything()
    alone.update(**columns(5))
    one = values(alone)
    assert not any(math.isnan(value) for value in one.values())
    for number in range(2):
        found = json.loads((tmp_path / f"{number}.json").read_text())
        assert found == dict.fromkeys(SHARDS, one)
