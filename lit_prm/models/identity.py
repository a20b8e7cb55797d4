"""The identity of the models that a reward model is made from, without loading them."""

from __future__ import annotations

from lit_prm.models.adapters import AdaptedReward, AdapterOff, base_of, is_adapter
from lit_prm.models.reference import Reference
from lit_prm.models.reward_model import RewardModel
from lit_prm.models.weights import combined_hash, tokenizer_hash, weights_hash
from lit_prm.models.zero_weights import content_of
from lit_prm.storage.identity import identity_in, refuse_mismatch


def sources_of(model: RewardModel) -> list[str]:
    """Folders or hub names that a reward model loads weights from: the policy's, and the one below its adapter."""
    policy = str(getattr(model, "policy_name", ""))
    if isinstance(model, AdaptedReward):
        return [policy, model.base_name]
    return [policy, base_of(policy)] if policy and is_adapter(policy) else [policy]


def identity_of(model: RewardModel, tokenizer: str, reference: Reference | None = None) -> dict[str, str]:
    """Hashes of what a reward model is made from, by the names of ``storage.identity.Identity``.

    ``reference`` is that of a model whose rewards are relative to none, such as a value head: the baselines of
    evaluation use it. ``training reference`` is there if it is not the one for scoring.
    """
    references = model.references() or ([reference] if reference else [])
    scoring, training = references[-1:], references[:1]
    found = {
        "base": _base_of(model),
        "reference": _weights_of(scoring[0], model) if scoring else None,
        "training reference": _weights_of(training[0], model) if training and training[0] is not scoring[0] else None,
        "tokenizer": tokenizer_hash(tokenizer),
    }
    return {name: value for name, value in found.items() if value}


def refuse_other_base(model: RewardModel, checkpoint: str) -> None:
    """Raise ValueError, with both hashes, if the model is made from another base than a run's checkpoint records.

    A checkpoint leaves out the weights that are not trained: with another base they would make another model.
    """
    saved, base = identity_in(content_of(checkpoint), checkpoint), _base_of(model)
    remedy = "Give the model that the checkpoint's run was trained from, or the checkpoint of a run with this model."
    refuse_mismatch(saved, {"base": base} if base else {}, f"the checkpoint {checkpoint}", "the model", remedy)


def _base_of(model: RewardModel) -> str | None:
    return combined_hash(sources_of(model)) if any(sources_of(model)) else None


def _weights_of(reference: Reference, model: RewardModel) -> str | None:
    if isinstance(reference, AdapterOff) and isinstance(model, AdaptedReward):
        return weights_hash(model.base_name)
    return reference.identity().get("reference_weights")
