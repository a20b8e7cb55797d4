"""Where reference log-probs come from: a frozen model, a store filled once, or nothing."""

from lit_prm.models.reference.base import Frozen, Reference, Uniform
from lit_prm.models.reference.stored import Stored, weights_id

__all__ = ["Frozen", "Reference", "Stored", "Uniform", "weights_id"]
