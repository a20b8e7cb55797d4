"""The options by which commands pick and load a scorer."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lit_prm.scoring.base import Scorer

_NAMES = ("reference", "beta", "style", "prompt_template", "max_length", "dtype", "device", "eval_tokens")


def add_scorer_options(parser: argparse.ArgumentParser) -> None:
    """How the scorer of FROM is loaded, otherwise than FROM says."""
    add = parser.add_argument_group("the scorer").add_argument
    add("--reference", help="what an implicit reward is relative to: a folder, a hub name, or none")
    add("--beta", type=float, help="scales log-ratios to rewards; 0.05 for a model that does not say")
    add("--style", help="input format of a tag-token model, where its name does not tell")
    add("--prompt-template", "--prompt_template", help='wraps plain prompts, e.g. "Solve: {prompt}"')
    add("--max-length", "--max_length", type=count, help="tokens of prompt and response; longer ones are cut")
    add("--dtype", help="float32, bfloat16 or float16; by default what the source was trained in")
    add("--device", default="auto", help="auto, cpu, cuda, cuda:0 (default: auto)")
    add("--eval-tokens", "--eval_tokens", type=count, help="padded tokens of a batch; by device")
    add("--threads", type=count, help="of torch; by default all cores")


def loaded(asked: argparse.Namespace, **more: Any) -> Scorer:
    """The scorer of ``asked.source`` by these options and ``more`` of ``loading.Options``."""
    from lit_prm.scoring.loading import load

    if asked.threads:
        import torch

        torch.set_num_threads(asked.threads)
    return load(asked.source, **{name: getattr(asked, name) for name in _NAMES}, **more)


def refuse_scorer_options(asked: argparse.Namespace, why: str) -> None:
    """Raise when one is given where no scorer is loaded."""
    given = [name for name in _NAMES if getattr(asked, name) not in (None, "auto")]
    if given:
        raise ValueError(f"{', '.join('--' + name.replace('_', '-') for name in given)} would be ignored: {why}")


def count(text: str) -> int:
    """A number from 1."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is not at least 1")
    return number
