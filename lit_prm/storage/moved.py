"""Old dotted names of modules and classes: recorded runs, exports and users' files that hold them still load.

Modules moved into wings after version 0.1. ``today`` gives the present name of an old one; ``install`` makes
``import`` follow it, with one ``FutureWarning`` in a process.
"""

from __future__ import annotations

import re
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_loader
from pathlib import Path
from types import ModuleType
from typing import Any

NAMES: Mapping[str, str] = dict(
    line.split() for line in Path(__file__).with_name("moved.txt").read_text(encoding="utf-8").splitlines()
)
"""Old module or class -> present one; the longest match counts, and what is below a module moves with it."""


def today(name: str) -> str:
    """The present dotted name of a module or class; a name that never moved is returned as given."""
    parts = name.split(".")
    for n in range(len(parts), 1, -1):
        if (new := NAMES.get(".".join(parts[:n]))) is not None:
            return ".".join([new, *parts[n:]])
    return name


def with_names_of_today(config: Any) -> Any:
    """A configuration whose ``class_path`` values, at any depth, are the present names."""
    if isinstance(config, Mapping):
        return {k: _class_path(v) if k == "class_path" else with_names_of_today(v) for k, v in config.items()}
    return [with_names_of_today(part) for part in config] if isinstance(config, list) else config


def _text(text: str) -> str:
    """A text, such as an option or a YAML file, in which every old name is replaced by the present one.

    One class was renamed and may be named alone: the vote weight ``Uniform``.
    """
    text = re.sub(r"(\bweight[:=]\s*(?:\{?\s*class_path:\s*)?)Uniform\b", r"\1lit_prm.votes.Uniform", text)
    return re.sub(r"\blit_prm(?:\.\w+)+", lambda match: _class_path(match[0]), text)


def arguments_of_today(args: Sequence[str]) -> list[str]:
    """The arguments with old class names replaced, in config files too.

    Otherwise jsonargparse takes an old name for another class and drops the arguments that an earlier file gave it. A
    file that holds old names is passed as its changed text, which ``--config`` takes as well.
    """
    files = {i + 1 for i, arg in enumerate(args) if arg == "--config"}
    return [_config(arg) if i in files or arg.startswith("--config=") else _text(arg) for i, arg in enumerate(args)]


def _config(arg: str) -> str:
    option, name = ("--config=", arg.removeprefix("--config=")) if arg.startswith("--config=") else ("", arg)
    if not Path(name).is_file():
        return arg
    text = Path(name).read_text()
    present = _text(text)
    return arg if present == text else option + present


def _class_path(name: Any) -> Any:
    if isinstance(name, str) and (new := today(name)) != name:
        _warn(name)
        return new
    return name


def names_below(package: str) -> Callable[[str], Any]:
    """The ``__getattr__`` of a package that has the name of an old module, for what that module held."""

    def attribute(name: str) -> Any:
        if (old := f"{package}.{name}") not in NAMES:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        _warn(old)
        return _object(NAMES[old])

    return attribute


def install() -> None:
    """Let ``import`` find old modules, until the interpreter ends.

    The finder comes first: a folder with nothing but ``__pycache__``, left behind by an update, would be imported.
    """
    if not any(isinstance(finder, _OldModules) for finder in sys.meta_path):
        sys.meta_path.insert(0, _OldModules())


class _OldModules(MetaPathFinder, Loader):
    """Finds an old module as one whose attributes are those of the present modules."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        moved = fullname.startswith("lit_prm.") and today(fullname) != fullname
        return spec_from_loader(fullname, self, is_package=True) if moved else None

    def exec_module(self, module: ModuleType) -> None:
        old = module.__name__
        present = import_module(today(old))  # an old name of nothing fails here, naming the present one
        _warn(old)
        below = [name.rpartition(".") for name in NAMES]
        public = (name for name in getattr(present, "__all__", dir(present)) if not name.startswith("_"))
        module.__all__ = sorted({*public, *(name for parent, _, name in below if parent == old)})  # type: ignore[attr-defined]
        module.__getattr__ = lambda name: _attribute(old, name)  # type: ignore[method-assign]


def _attribute(old: str, name: str) -> Any:
    if name.startswith("__"):
        raise AttributeError(name)
    return _object(today(f"{old}.{name}"))


def _object(dotted: str) -> Any:
    module, _, name = dotted.rpartition(".")
    return getattr(import_module(module), name)


_warned: list[str] = []  # the first old name; others are not warned of


def _warn(old: str) -> None:
    if not _warned:
        _warned.append(old)
        warnings.warn(
            f"{old} is now {today(old)}; old names work until version 1.0 (lit_prm/storage/moved.txt lists them)",
            FutureWarning,
            stacklevel=3,  # the line that imports; frames of importlib do not count
        )
