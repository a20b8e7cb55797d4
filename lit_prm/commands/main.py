"""The command line: imports and runs one command; prints a user's mistake as one message."""

from __future__ import annotations

import os
import re
import sys
from argparse import ArgumentError
from collections.abc import Sequence
from difflib import get_close_matches
from importlib import import_module
from traceback import walk_tb

USAGE = """\
usage: python -m lit_prm COMMAND ...

  exp NAME [--scale tiny] [--seed 0] [OVERRIDES]    train, evaluate and record an experiment (make exp)
  plan NAME [--scale tiny] [OVERRIDES]              memory, disk, FLOPs and hours of a run, before you start it
  list                                              all experiments and scales with their purpose (make list)
  paper [--scale tiny] [--seeds 3]                  run and show every table and figure of the paper (make paper)
  dial [--seeds 3]                                  when does an implicit process reward pay? (make dial)
  compare NAME NAME ... [--scale tiny]              report on recorded runs side by side (make compare)
  sample MODEL FILE                                 sample responses to problems and grade them
  score FROM FILE                                   rewards of tokens, steps and responses; FROM is a run or a model
  export RUN FOLDER                                 write a run's reward model as a Hugging Face folder
  bon FILE                                          best-of-N, votes and baselines of a file of candidates
  processbench FROM                                 find first wrong steps: ProcessBench's F1, AUC of steps
  view SCORED                                       write an HTML page that shows step rewards
  mlflow-upload RUN                                 send MLflow what its server missed while it was away
  fit | validate | test | predict                   LightningCLI: --config FILE (several), --model.*, --data.*,
                                                    --trainer.*, --print_config; `fit --help` lists everything

Experiments are the files of experiments/, scales those of experiments/scale/."""

LIGHTNING = ("fit", "validate", "test", "predict")

JOBS = {  # "module:function" of each command; the function takes the list of arguments
    "exp": "lit_prm.commands.experiment:main",
    "plan": "lit_prm.commands.plan.command:main",
    "list": "lit_prm.commands.experiment:show_available",
    "paper": "lit_prm.commands.paper.runner:main",
    "dial": "lit_prm.commands.dial:main",
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
    """Run one command; a mistake of the user ends the process with status 2 and one message."""
    command, *rest = list(sys.argv[1:] if args is None else args) or ["--help"]
    try:
        _run(command, rest)
    except KeyboardInterrupt:
        print("\nstopped; finished work is kept", file=sys.stderr)
        raise SystemExit(130) from None
    except Exception as error:
        if os.environ.get("LIT_PRM_TRACEBACK") or not is_mistake(error):
            raise
        print(f"error: {_message(error)}\n(LIT_PRM_TRACEBACK=1 shows where)", file=sys.stderr)
        raise SystemExit(2) from None


def _run(command: str, rest: Sequence[str]) -> None:
    if command in ("-h", "--help"):
        print(USAGE)
    elif command == "--version":
        print(import_module("lit_prm").__version__)
    elif command in LIGHTNING:
        from lit_prm.commands.lightning import run

        run(command, rest)
    elif command in JOBS:
        module, _, job = JOBS[command].partition(":")
        getattr(import_module(module), job)(rest)
    else:
        near = get_close_matches(command, (*JOBS, *LIGHTNING), 1)
        hint = f"Did you mean {near[0]}?" if near else "python -m lit_prm --help lists the commands."
        raise ValueError(f"There is no command {command!r}. {hint}")


# modules whose ValueErrors and RuntimeErrors mean a user's mistake
_CHECKERS = (
    "lit_prm.", "callbacks.", "jsonargparse.", "lightning.pytorch.trainer.connectors.accelerator_connector.",
    "lightning.fabric.utilities.seed.",
)  # fmt: skip


def is_mistake(error: Exception) -> bool:
    """True if the user can correct the error: an option, a file, an interpolation, a value that this project refuses.

    A ValueError or RuntimeError counts only if this project or a parser of options raised it. From inside another
    library it may be a bug, and then the traceback is worth more than a message.
    """
    kind = type(error)
    if isinstance(error, ModuleNotFoundError):
        return not (error.name or "").startswith(("lit_prm", "callbacks"))
    if isinstance(error, ArgumentError | OSError) or kind.__name__ == "MisconfigurationException":
        return True
    if kind.__module__.startswith("omegaconf"):
        return True
    frames = [frame for frame, _ in walk_tb(error.__traceback__)]
    raised_in = frames[-1].f_globals.get("__name__", "") if frames else ""
    return isinstance(error, ValueError | RuntimeError) and f"{raised_in}.".startswith(_CHECKERS)


def _message(error: Exception) -> str:
    """The error's text for a user.

    OmegaConf's text on a wrong interpolation is replaced by the option that holds the interpolation. Of jsonargparse's
    text on a value that fits none of several types, only what the object itself says is kept.
    """
    text = str(error)
    if union := re.match(r"Does not validate against any .*\nErrors:\n(.*)\nGiven value type:", text, re.DOTALL):
        reasons = re.split(r"^  - ", union[1], flags=re.MULTILINE)
        return "\n".join(r.strip() for r in reasons if r and not r.startswith("Expected a")) or text
    if isinstance(error, ModuleNotFoundError):
        return f"{text} in this Python ({sys.executable}); use .venv/bin/python, which make env installs"
    option = re.search(r"\n\s*full_key: (\S+)", text)
    return f"{text.splitlines()[0]}, which {option[1]} refers to; correct the name after ${{" if option else text
