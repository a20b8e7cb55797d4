"""The `export` command: writes the reward model of a run to a folder and checks it before the folder gets its name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from lit_prm.scoring.options import CommandParser, add_import_option


def main(args: Sequence[str]) -> None:
    """`export RUN FOLDER [--checkpoint FILE] [--dtype bfloat16]`."""
    parser = CommandParser("export")
    parser.add_argument("run", help="a run's folder, e.g. runs/tiny/ce-8resp/seed-0")
    parser.add_argument("folder", type=Path, help="where to write; an earlier export in this place is replaced")
    parser.add_argument("--checkpoint", help="a checkpoint of the run; default: checkpoints/last.ckpt")
    dtypes = ("float32", "bfloat16", "float16")
    parser.add_argument("--dtype", choices=dtypes, help="of the weights; default: as trained")
    add_import_option(parser)
    arguments = parser.read(args)
    export(arguments.run, arguments.folder, arguments.checkpoint, arguments.dtype)
    print(f"exported to {arguments.folder}: python -m lit_prm score {arguments.folder} ROLLOUTS")


def export(run: str, folder: Path, checkpoint: str | None = None, dtype: str | None = None) -> None:
    """Write the reward model of a run to ``folder``, which appears only if its files score like the run."""
    from lit_prm.scoring.building import build
    from lit_prm.scoring.check_samples import verify_folder
    from lit_prm.scoring.export.folder import whole_folder
    from lit_prm.scoring.run_spec import is_run
    from lit_prm.scoring.spec import SPEC_FILE, read_spec
    from lit_prm.storage.schemas import about

    if Path(run).suffix == ".ckpt" or not is_run(run):
        raise ValueError(
            f"{run} is not a run's folder: it has no config.yaml. Give the folder, and a checkpoint by --checkpoint."
        )
    if checkpoint and Path(run).resolve() not in Path(checkpoint).resolve().parents:
        raise ValueError(
            f"{checkpoint} is not a checkpoint of {run}, but the export would get the model card of {run}. Name the "
            "checkpoint's own run."
        )
    folder = folder.resolve()
    with about(run), whole_folder(folder) as partial:
        _write(partial, Path(run), folder.name, checkpoint, dtype)
        scorer = build(read_spec(partial / SPEC_FILE))
        verify_folder(partial, scorer, scorer.encoder, exact=True)


def _write(partial: Path, run: Path, name: str, checkpoint: str | None, dtype: str | None) -> None:
    """Write the files. A function of its own, so that the memory of the weights is free when it returns."""
    import torch

    from lit_prm.scoring.building import encoder_of, reward_model_of
    from lit_prm.scoring.export.card import facts_of
    from lit_prm.scoring.export.folder import write_folder
    from lit_prm.scoring.run_spec import spec_of_run

    spec = spec_of_run(checkpoint or run)
    facts = facts_of(run, name, str(spec.reward_model["init_args"]["policy"]))
    model = reward_model_of(spec)
    if dtype:
        model.policy.to(getattr(torch, dtype))
    if checkpoint and Path(checkpoint).resolve() != (run / "checkpoints" / "last.ckpt").resolve():
        facts = replace(facts, metrics={})  # the recorded metrics are those of the last checkpoint
    write_folder(partial, model, encoder_of(spec), spec, facts)
