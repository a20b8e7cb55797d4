"""Folders that are built once and cached under the hash of everything that determines their content."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any


class Stages:
    """Builds stages: folders ``<name>-<hash>`` under ``root``, each with a symbolic link ``<name>`` to it.

    The hash covers the settings of the stage, the ``sources`` (names and versions of whatever determines the files) and
    every stage made before. A folder with this name is complete: a build writes into ``.<name>-<hash>`` and renames
    that folder at the end. An interrupted build leaves it, and the next one continues there.
    """

    def __init__(self, root: Path, sources: Mapping[str, str]) -> None:
        self.root = root
        self._chain = hashlib.sha256(json.dumps(dict(sources), sort_keys=True).encode())

    def make(self, name: str, settings: Mapping[str, Any], build: Callable[[Path], None]) -> Path:
        """The folder of stage ``name``; if it does not exist, ``build(working_folder)`` writes its files first."""
        self._chain.update(json.dumps([name, dict(settings)], sort_keys=True).encode())
        folder = self.root / f"{name}-{self._chain.hexdigest()[:12]}"
        if not folder.exists():
            working = self.root / f".{folder.name}"
            working.mkdir(parents=True, exist_ok=True)
            build(working)
            os.replace(working, folder)
        self._link(name, folder)
        return folder

    def _link(self, name: str, folder: Path) -> None:
        link, fresh = self.root / name, self.root / f".{name}.link"
        if link.is_symlink() and os.readlink(link) == folder.name:
            return
        fresh.unlink(missing_ok=True)
        fresh.symlink_to(folder.name)
        os.replace(fresh, link)
