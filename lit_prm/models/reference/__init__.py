"""Where reference log-probs come from: a frozen model, a file filled once, or no model at all."""

from lit_prm.models.reference.base import Frozen, Reference, Uniform
from lit_prm.models.reference.stored import Stored
from lit_prm.models.weights import weights_id

__all__ = ["Frozen", "Reference", "Stored", "Uniform", "weights_id"]
