"""The `export` command: from a run or checkpoint to a folder that is checked before it gets its name."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path


def main(args: Sequence[str]) -> None:
    """`export RUN FOLDER [--checkpoint FILE] [--dtype bfloat16]`."""
    parser = argparse.ArgumentParser(prog="python -m lit_prm export", allow_abbrev=False)
    parser.add_argument("run", help="a run's folder, e.g. runs/tiny/ce-8resp/seed-0")
    parser.add_argument("folder", type=Path, help="where the export goes; an earlier export there is replaced")
    parser.add_argument("--checkpoint", help="a checkpoint of the run; default: checkpoints/last.ckpt")
    parser.add_argument(
        "--dtype", choices=("float32", "bfloat16", "float16"), help="of the weights; default: as trained"
    )
    known = parser.parse_args(list(args))
    export(known.run, known.folder, known.checkpoint, known.dtype)
    print(f"exported to {known.folder}: python -m lit_prm score {known.folder} ROLLOUTS")


def export(run: str, folder: Path, checkpoint: str | None = None, dtype: str | None = None) -> None:
    """Leave the reward model of a run in ``folder``; it gets its name when the files there score like the run."""
    from lit_prm.scoring.check_samples import verify_folder
    from lit_prm.scoring.export.folder import whole_folder
    from lit_prm.scoring.loading import build
    from lit_prm.scoring.spec import SPEC_FILE, read_spec

    if not (Path(run) / "config.yaml").is_file():
        raise ValueError(
            f"{run} is no run's folder: it has no config.yaml; give the folder, a checkpoint by --checkpoint"
        )
    if checkpoint and Path(run).resolve() not in Path(checkpoint).resolve().parents:
        raise ValueError(f"{checkpoint} is no checkpoint of {run}, whose card the export would get; name its own run")
    with whole_folder(folder) as partial:
        _write(partial, Path(run), folder.name, checkpoint, dtype)
        scorer = build(read_spec(partial / SPEC_FILE))
        verify_folder(partial, scorer, scorer.encoder, exact=True)


def _write(partial: Path, run: Path, name: str, checkpoint: str | None, dtype: str | None) -> None:
    """The files; the weights that they were written from are given back behind them."""
    import torch

    from lit_prm.scoring.export.card import facts_of
    from lit_prm.scoring.export.folder import write_folder
    from lit_prm.scoring.loading import encoder_of, reward_model_of, spec_of

    spec = spec_of(checkpoint or str(run))
    model = reward_model_of(spec)
    if dtype:
        model.policy.to(getattr(torch, dtype))
    base = str(spec.reward_model["init_args"]["policy"])
    facts = facts_of(run, name, base)
    if checkpoint and Path(checkpoint).resolve() != (run / "checkpoints" / "last.ckpt").resolve():
        facts = replace(facts, metrics={})  # those are the last checkpoint's
    write_folder(partial, model, encoder_of(spec), spec, facts)
