"""Objectives on rewards and outcome labels, one file each.

Every file of this folder is imported here, so that configs may name a loss by its bare class name:
adding a loss is adding a file.
"""

from importlib import import_module
from pkgutil import iter_modules

from lit_prm.losses.base import Loss

for _found in iter_modules(__path__):
    import_module(f"{__name__}.{_found.name}")

__all__ = ["Loss"]
