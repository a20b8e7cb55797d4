"""Process reward models from outcome labels: train, judge and use them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lit_prm.storage import moved

if TYPE_CHECKING:
    from lit_prm.scoring.base import Scorer

moved.install()


def load(source: str, **options: Any) -> Scorer:
    """The scorer of a run, a checkpoint, an exported folder or a model; see ``lit_prm.scoring.loading.load``."""
    from lit_prm.scoring.loading import load

    return load(source, **options)
