"""The parser of every command's options, and the options that choose and load a scorer."""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Sequence
from difflib import get_close_matches
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from lit_prm.scoring.base import Scorer

_NAMES = ("reference", "beta", "style", "separator", "prompt_template", "max_length", "dtype", "device", "eval_tokens")


class CommandParser(argparse.ArgumentParser):
    """The parser of a command: without abbreviations, and with a hint at the option that an unknown one resembles."""

    def __init__(self, command: str, **options: Any) -> None:
        form = argparse.RawDescriptionHelpFormatter
        super().__init__(f"python -m lit_prm {command}", formatter_class=form, allow_abbrev=False, **options)

    def read(self, args: Sequence[str]) -> argparse.Namespace:
        """Parse the arguments; in the names of options _ is as good as -. A file that is read cannot be written."""
        words = [re.sub(r"^--[\w-]+", lambda name: name[0].replace("_", "-"), word) for word in args]
        parsed = self.parse_args(words)
        self._refuse_overwriting(parsed)
        return parsed

    def _refuse_overwriting(self, parsed: argparse.Namespace) -> None:
        """Exit with a message if the value of an option is a file or folder that is also given without an option."""
        given = [(action, getattr(parsed, action.dest, None)) for action in self._actions]
        read = [value for a, values in given if not a.option_strings for value in _listed(values) if _exists(value)]
        for action, value in given:
            if action.option_strings and isinstance(value, Path) and any(_same(value, source) for source in read):
                self.error(
                    f"{action.option_strings[-1]} {value} is read by this command. Give another name to write to"
                )

    def error(self, message: str) -> NoReturn:
        super().error(with_similar_option(message, list(self._option_string_actions)))


def _listed(values: Any) -> list[Any]:
    return list(values) if isinstance(values, list | tuple) else [values]


def _exists(value: Any) -> bool:
    return isinstance(value, str | Path) and os.path.exists(value)


def _same(path: Path, source: str | Path) -> bool:
    return path.exists() and path.samefile(source)


def with_similar_option(message: str, options: Sequence[str], otherwise: str = "") -> str:
    """A parser's message; for an unknown option followed by the option with the most similar name."""
    unknown = re.search(r"nrecognized arguments: (--[\w.+-]+)", message)
    if unknown is None:
        return message
    near = get_close_matches(unknown[1], options, 1)
    return f"{message}; did you mean {near[0]}?" if near else message + otherwise


def add_scorer_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that change how the scorer of FROM is loaded."""
    add = parser.add_argument_group("the scorer").add_argument
    add("--reference", help="the model that an implicit reward is relative to: a folder, a hub name, or none")
    add("--beta", type=float, help="factor from log-ratios to rewards; default: what FROM says, else 0.05")
    add("--style", help="input format of a released PRM; needed if neither its name nor its config tells")
    add(
        "--separator",
        type=_unescaped,
        help=r"what a TRL-like PRM has behind each step, e.g. '\n\n'; default: the style's",
    )
    add("--prompt-template", help='text around each plain prompt, e.g. "Solve: {prompt}"')
    add(
        "--max-length",
        type=count,
        help="tokens of prompt and response, at most; default: that of training, else all that the models take",
    )
    add("--dtype", help="float32, bfloat16 or float16; default: that of training")
    add("--device", default="auto", help="auto, cpu, cuda, cuda:0 (default: auto)")
    add("--eval-tokens", type=count, help="padded tokens per batch; default: by device")
    add("--threads", type=count, help="threads of torch; default: all cores")
    add_import_option(parser)


def add_import_option(parser: argparse.ArgumentParser) -> None:
    """Add the option that imports a user's own module, whose classes FROM may then name."""
    add = parser.add_argument
    add("--import", dest="modules", metavar="MODULE", type=_module, action="append", help="your own classes: a module "
        "that is run, and whose classes FROM may name")  # fmt: skip


def _unescaped(text: str) -> str:
    """The text with line breaks and tabs where a shell wrote their escapes."""
    return text.replace("\\n", "\n").replace("\\t", "\t")


def _module(name: str) -> ModuleType:
    try:
        return import_module(name)
    except ImportError as error:
        raise argparse.ArgumentTypeError(f"{name} cannot be imported: {error}") from error


def loaded(arguments: argparse.Namespace, **options: Any) -> Scorer:
    """The scorer of ``arguments.source``, with the options above and further ones of ``sources.Options``."""
    from lit_prm.scoring.loading import load

    if arguments.threads:
        import torch

        torch.set_num_threads(arguments.threads)
    return load(arguments.source, **{name: getattr(arguments, name) for name in _NAMES}, **options)


def refuse_scorer_options(arguments: argparse.Namespace, reason: str) -> None:
    """Raise ValueError if an option of the scorer is given although no scorer is loaded; ``reason`` says why not."""
    given = [name for name in _NAMES if getattr(arguments, name) not in (None, "auto")]
    if given:
        listed = ", ".join("--" + name.replace("_", "-") for name in given)
        raise ValueError(f"{listed} would be ignored: {reason}")


def seed_number(text: str) -> int:
    """A whole number of 32 bits from 0, which every generator of random numbers takes, as the type of an option."""
    number = int(text)
    if not 0 <= number < 2**32:
        raise argparse.ArgumentTypeError(f"{number} is not between 0 and {2**32 - 1}")
    return number


def count(text: str) -> int:
    """A whole number of at least 1, as the type of an option."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is not at least 1")
    return number
