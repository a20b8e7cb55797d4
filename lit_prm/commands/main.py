"""The command line: picks one job, imports only what that job needs, tells mistakes in one message."""

from __future__ import annotations

import os
import re
import sys
from argparse import ArgumentError
from collections.abc import Sequence
from importlib import import_module
from types import TracebackType

USAGE = """\
usage: python -m lit_prm COMMAND ...

  exp NAME [--scale tiny] [--seed 0] [OVERRIDES]   train, judge and record one experiment (make exp)
  plan NAME [--scale tiny] [OVERRIDES]              memory, disk, FLOPs and hours it would need (nothing is loaded)
  list                                              the experiments and what each asks (make list)
  paper [--scale tiny] [--seeds 3]                  every table and figure of the paper (make paper)
  compare NAME NAME ... [--scale tiny]              recorded runs side by side (make compare)
  sample MODEL FILE                                 rollouts of problems, by a server or in this process, graded
  score FROM FILE                                   rewards of tokens, steps and responses by a run, an export, a model
  export RUN FOLDER                                 a run's reward model as a Hugging Face folder
  bon FILE                                          best-of-N, votes and baselines of any candidate file
  processbench FROM                                 first wrong steps: official protocol, per-step AUC
  view SCORED                                       one page to look at step rewards
  mlflow-upload RUN                                 what MLflow missed of a run while its server was away
  fit | validate | test | predict                   LightningCLI: --config FILE (several), --model.*, --data.*,
                                                    --trainer.*, --print_config; `fit --help` lists everything

Experiments are the files of experiments/, scales those of experiments/scale/."""

LIGHTNING = ("fit", "validate", "test", "predict")

JOBS = {  # each takes its arguments; imported when asked for
    "exp": "lit_prm.commands.experiment:main",
    "plan": "lit_prm.commands.plan.command:main",
    "list": "lit_prm.commands.experiment:show_available",
    "paper": "lit_prm.commands.paper.runner:main",
    "compare": "lit_prm.reports.compare.command:main",
    "sample": "lit_prm.generation.command:main",
    "score": "lit_prm.scoring.command:main",
    "export": "lit_prm.scoring.export.command:main",
    "bon": "lit_prm.reports.best_of_n.command:main",
    "processbench": "lit_prm.reports.processbench.command:main",
    "mlflow-upload": "lit_prm.storage.mlflow_upload:main",
    "view": "lit_prm.reports.viewer.command:main",
}


def main(args: Sequence[str] | None = None) -> None:
    """Run one command; a mistake that a user can correct ends it with status 2 and one message."""
    command, *rest = list(sys.argv[1:] if args is None else args) or ["--help"]
    try:
        _run(command, rest)
    except KeyboardInterrupt:
        print("\nstopped; what was finished is kept", file=sys.stderr)
        raise SystemExit(130) from None
    except Exception as error:
        if os.environ.get("LIT_PRM_TRACEBACK") or not is_mistake(error):
            raise
        print(f"error: {_told(error)}\n(LIT_PRM_TRACEBACK=1 shows where)", file=sys.stderr)
        raise SystemExit(2) from None


def _run(command: str, rest: Sequence[str]) -> None:
    if command in ("-h", "--help"):
        print(USAGE)
    elif command in LIGHTNING:
        from lit_prm.commands.lightning import run

        run([command, *rest])
    elif command in JOBS:
        module, _, job = JOBS[command].partition(":")
        getattr(import_module(module), job)(rest)
    else:
        raise ValueError(f"unknown command {command!r}\n\n{USAGE}")


# modules whose ValueErrors and RuntimeErrors tell of a user's mistake
_OURS = ("lit_prm.", "callbacks.", "jsonargparse.", "lightning.pytorch.trainer.connectors.accelerator_connector.")


def is_mistake(error: Exception) -> bool:
    """Whether a user can correct it: wrong options, files and interpolations, and what our own code refuses.

    A ValueError or RuntimeError from inside a library is not known to be one: its traceback is worth more. Those of
    the parts that read options are.
    """
    kind = type(error)
    if isinstance(error, ModuleNotFoundError):
        return not (error.name or "").startswith(("lit_prm", "callbacks"))
    if isinstance(error, ArgumentError | OSError) or kind.__name__ == "MisconfigurationException":
        return True
    if kind.__module__.startswith("omegaconf"):
        return True
    return isinstance(error, ValueError | RuntimeError) and _raised_in(error.__traceback__).startswith(_OURS)


def _raised_in(traceback: TracebackType | None) -> str:
    """The module whose line raised it, with a dot behind it."""
    while traceback is not None and traceback.tb_next is not None:
        traceback = traceback.tb_next
    name = traceback.tb_frame.f_globals.get("__name__", "") if traceback else ""
    return f"{name}."


def _told(error: Exception) -> str:
    """The message; of an interpolation the option that holds it instead of its inner names.

    Of an object that refused its options, its words without the ones of the other types it might have been.
    """
    text = str(error)
    if union := re.match(r"Does not validate against any .*\nErrors:\n(.*)\nGiven value type:", text, re.DOTALL):
        own = [told for told in re.split(r"^  - ", union[1], flags=re.MULTILINE) if not told.startswith("Expected a")]
        return "\n".join(told.strip() for told in own if told) or text
    if isinstance(error, ModuleNotFoundError):
        return f"{text} in this Python ({sys.executable}); use .venv/bin/python, which make env installs"
    found = re.search(r"\n\s*full_key: (?:fit|validate|test|predict)?\.?(\S+)", text)
    return f"{text.splitlines()[0]}, which {found[1]} refers to; correct the name after ${{" if found else text
