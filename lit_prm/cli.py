"""The command line: picks one job and imports only what that job needs."""

from __future__ import annotations

import sys
from collections.abc import Sequence

USAGE = """\
usage: python -m lit_prm COMMAND ...

  exp NAME [--scale tiny] [--seed 0] [OVERRIDES]   train, judge and record one experiment (make exp)
  list                                              the experiments and what each asks (make list)
  compare NAME NAME ... [--scale tiny]              recorded runs side by side (make compare)
  fit | validate | test | predict                   LightningCLI: --config FILE (several), --model.*, --data.*,
                                                    --trainer.*, --print_config; `fit --help` lists everything

Experiments are the files of experiments/, scales those of experiments/scale/."""

LIGHTNING = ("fit", "validate", "test", "predict")


def main(args: Sequence[str] | None = None) -> None:
    """Run one command; exits with status 2 and one message when the command is not known."""
    command, *rest = list(sys.argv[1:] if args is None else args) or ["--help"]
    if command in ("-h", "--help"):
        print(USAGE)
    elif command in LIGHTNING:
        from lit_prm.lightning_cli import run

        run([command, *rest])
    elif command == "exp":
        from lit_prm.experiment import main as experiment

        experiment(rest)
    elif command == "list":
        from lit_prm.experiment import show_available

        show_available()
    elif command == "compare":
        from lit_prm.compare import main as compare

        compare(rest)
    else:
        print(f"unknown command {command!r}\n\n{USAGE}", file=sys.stderr)
        raise SystemExit(2)
