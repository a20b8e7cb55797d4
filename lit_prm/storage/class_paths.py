"""The class that a ``class_path`` of a configuration names, without making an object of it."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from inspect import isabstract
from pkgutil import resolve_name
from typing import Any

from lit_prm.storage.moved import today


def class_of(class_path: str, base: type) -> type[Any]:
    """The subclass of ``base`` at a dotted path; a bare name means an imported subclass, as in jsonargparse.

    Raises ValueError, with the known names, for a path that cannot be imported or is another kind of class.
    """
    try:
        found = resolve_name(class_path) if "." in class_path else _by_name(class_path, base)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(f"{class_path} cannot be imported ({error}). {_remedy(base)}") from error
    if not (isinstance(found, type) and issubclass(found, base)):
        raise ValueError(f"{class_path} is not a subclass of {base.__name__}. {_remedy(base)}")
    return found


def refuse_foreign_classes(content: Any, file: object) -> None:
    """Raise ValueError if ``content``, read from ``file``, names a class of a module that is not imported yet.

    Importing a module runs it, and the file may come from anywhere. Classes of ``lit_prm`` may be named, and those of
    modules that the program has imported by itself.
    """
    if foreign := sorted(module for module in modules_named(content) if not is_safe(f"{module}.Any")):
        raise ValueError(
            f"{file} names a class of {foreign[0]}, which is not part of lit_prm. Loading it would run that module, "
            f"and the file may come from anywhere. If you trust the module, add --import {foreign[0]}."
        )


def modules_named(content: Any) -> set[str]:
    """Modules of the classes that ``class_path`` values name, at any depth."""
    if isinstance(content, Mapping):
        module = str(content.get("class_path", "")).rpartition(".")[0]
        return ({module} if module else set()).union(*map(modules_named, content.values()))
    return set().union(*map(modules_named, content)) if isinstance(content, list | tuple) else set()


def modules_of(base: type) -> set[str]:
    """Modules of the imported subclasses of ``base``, which may be named without their module."""
    return {c.__module__ for c in _subclasses(base)}


def is_safe(class_path: str) -> bool:
    """True if resolving a dotted path imports nothing but modules of ``lit_prm``; a bare name imports nothing."""
    module = class_path.rpartition(".")[0]
    return not module or module in sys.modules or today(class_path).startswith("lit_prm.")


def class_path_of(named: type) -> str:
    """The dotted path of a class, as configurations and ``reward.json`` write it: by the package that exports it."""
    module, name = named.__module__, named.__qualname__
    while vars(sys.modules.get(parent := module.rpartition(".")[0], object)).get(name) is named:
        module = parent
    return f"{module}.{name}"


def known_names(base: type) -> list[str]:
    """Names of the public subclasses of ``base`` that are imported and can be made, in order."""
    return sorted({c.__name__ for c in _subclasses(base) if not isabstract(c) and not c.__name__.startswith("_")})


def _by_name(name: str, base: type) -> type:
    matches = [c for c in (base, *_subclasses(base)) if c.__name__ == name]
    if len(matches) != 1:
        raise ValueError(f"{len(matches)} imported classes have this name")
    return matches[0]


def _subclasses(base: type) -> list[type]:
    direct: list[type] = type.__subclasses__(base)
    return list(dict.fromkeys(c for below in direct for c in (below, *_subclasses(below))))


def _remedy(base: type) -> str:
    return f"Give one of {', '.join(known_names(base))}, or the dotted path of your own subclass of {base.__name__}."
