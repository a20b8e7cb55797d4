"""Folders made once: each stage of a build is cached under the hash of all that determines it."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any


class Stages:
    """Builds named folders under ``root``, each at ``<name>-<hash>`` with a link ``<name>`` to it.

    The hash covers the settings of the stage, the sources and versions given here, and every stage made
    before it. A folder is complete whenever it exists: work goes on in ``.<name>-<hash>``, which an
    interrupted build finds again, and is renamed at the end.
    """

    def __init__(self, root: Path, sources: Mapping[str, str]) -> None:
        self.root = root
        self._chain = hashlib.sha256(json.dumps(dict(sources), sort_keys=True).encode())

    def make(self, name: str, settings: Mapping[str, Any], build: Callable[[Path], None]) -> Path:
        """The stage's folder, built by ``build(folder)`` unless it is there."""
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
