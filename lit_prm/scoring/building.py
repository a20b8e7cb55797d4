"""The scorer that a spec describes: classes by their names, weights, encoder, and the identity of it all."""

from __future__ import annotations

import hashlib
import sys
from argparse import ArgumentError
from collections.abc import Mapping
from inspect import isabstract
from typing import Any

import torch
from jsonargparse import ArgumentParser
from safetensors.torch import load_file

from lit_prm.data.encoding import Encoder
from lit_prm.data.steps import StepRule
from lit_prm.models import adapters
from lit_prm.models.language_model import load_tokenizer
from lit_prm.models.probes import why_not_shared
from lit_prm.models.reference import Reference, Uniform
from lit_prm.models.reward_model import MODULE_PREFIX, RewardModel, load_trained
from lit_prm.models.weights import weights_hash
from lit_prm.models.zero_weights import put_weights
from lit_prm.scoring.model_scorer import Detail, ModelScorer
from lit_prm.scoring.spec import Named, RewardSpec


def build(
    spec: RewardSpec,
    *,
    dtype: str | None = None,
    device: str = "auto",
    eval_tokens: int | None = None,
    detail: Detail = "tokens",
) -> ModelScorer:
    """The scorer a spec describes, its weights loaded; ``dtype`` replaces that of policy and reference."""
    where = device_of(device)
    reward_model, encoder = reward_model_of(spec, dtype), encoder_of(spec)
    identity = identity_of(spec, reward_model, encoder)
    _refuse_other_reference(spec, identity)
    baseline = None if reward_model.references() or spec.reference is None else _reference_of(spec, dtype)
    whole = _why_whole_rows(reward_model, baseline, where)
    if whole:
        print(f"prompts are not shared: {whole}", file=sys.stderr, flush=True)
    return ModelScorer(
        reward_model,
        encoder,
        identity=identity,
        baseline=baseline,
        device=where,
        budget=eval_tokens,
        detail=detail,
        whole_rows=whole,
    )


def reward_model_of(spec: RewardSpec, dtype: str | None = None) -> RewardModel:
    """The reward model of a spec in eval mode, with trained weights and the reference that scoring is relative to."""
    model: RewardModel = made(RewardModel, spec.reward_model)
    model.adopt(_reference_of(spec, dtype) or Uniform())
    if dtype:
        model.dtype = dtype
        for reference in model.references():
            reference.compute_in(dtype)
    model.ask_through(lambda reference: reference.read_only())
    model.configure_model()
    if spec.weights:
        _load_weights(model, spec.weights)
    return model.eval().requires_grad_(False)


def encoder_of(spec: RewardSpec) -> Encoder:
    """The encoder of training, which also says what text each token stands for."""
    steps = made(StepRule, spec.steps)
    tokenizer = load_tokenizer(spec.tokenizer)
    return Encoder(tokenizer, steps, max_length=spec.max_length, prompt_template=spec.prompt_template, spans=True)


def identity_of(spec: RewardSpec, reward_model: RewardModel, encoder: Encoder) -> dict[str, Any]:
    """All that the scores hang on, as JSON; weights by the hash of their content."""
    policy = str(getattr(reward_model, "policy_name", ""))
    references = reward_model.references() or [r for r in [_reference_of(spec, None)] if r is not None]
    return {
        "reward_model": type(reward_model).__name__,
        "policy": spec.weights or policy,
        "policy_weights": _weights(spec, reward_model, policy),
        **(references[-1].identity() if references else {"reference": None}),
        "beta": getattr(reward_model, "beta", None),
        "loss": spec.loss,
        "template": encoder.identity,
        "prompt_template": spec.prompt_template,
        "steps": {**spec.steps, "class_path": _full_name(type(encoder.steps))},
        "max_length": spec.max_length,
        "dtype": str(getattr(reward_model, "dtype", "float32")),
        "aggregate": spec.aggregate,
    }


def _weights(spec: RewardSpec, model: RewardModel, policy: str) -> str:
    """The hash of all that was loaded: a checkpoint holds what was trained, a head stands beside its policy."""
    names = [spec.weights, policy]
    if spec.weights and not spec.weights.endswith(".safetensors"):
        names = [spec.weights]
    if isinstance(model, adapters.AdaptedReward):
        names.append(model.base_name)
    elif adapters.is_adapter(policy):
        names.append(adapters.base_of(policy))
    found = [weights_hash(name) for name in dict.fromkeys(names) if name]
    return found[0] if len(found) == 1 else hashlib.sha256("".join(found).encode()).hexdigest()


def _full_name(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def device_of(name: str) -> str:
    """The device that "auto" means here; one that torch does not see is refused."""
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        kind = torch.device(name).type
    except RuntimeError:
        raise ValueError(f"device {name!r} is none of auto, cpu, cuda, cuda:0, mps; correct --device") from None
    if kind == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"device {name!r}: torch sees no GPU here; use cpu or auto")
    return name


def _reference_of(spec: RewardSpec, dtype: str | None) -> Reference | None:
    if spec.reference is None:
        return None
    source: Reference = made(Reference, spec.reference)
    if dtype:
        source.compute_in(dtype)
    return source.read_only()


def made(kind: type, part: Named) -> Any:
    """The object of a class named as in configs; a bare name is found among the known subclasses."""
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--part", type=kind)
    try:
        return parser.instantiate(parser.parse_object({"part": dict(part)})).part
    except ArgumentError as error:
        why = str(error).strip().splitlines()[-1].strip(" -")[:200]
        raise ValueError(
            f"{part.get('class_path')} makes no {kind.__name__} ({why}); known: {', '.join(_known(kind))}, or the "
            "dotted path of your own class"
        ) from None


def _known(kind: type) -> list[str]:
    below: list[type] = kind.__subclasses__()
    names = [name for found in below for name in ([] if isabstract(found) else [found.__name__]) + _known(found)]
    return sorted({name for name in names if not name.startswith("_")})


def _load_weights(model: RewardModel, file: str) -> None:
    """Take trained weights: ``reward_model.*`` of a checkpoint, or what a safetensors file holds of the model."""
    if not file.endswith(".safetensors"):
        load_trained(model, file)
        return
    stored = load_file(file)
    found = {n.removeprefix(MODULE_PREFIX): w for n, w in stored.items() if n.startswith(MODULE_PREFIX)}
    if not found:
        raise ValueError(f"{file} holds no weights named {MODULE_PREFIX}*; export the run again")
    put_weights(model, found, may_miss=model.state_dict())


def _refuse_other_reference(spec: RewardSpec, identity: Mapping[str, Any]) -> None:
    found = identity.get("reference_weights")
    if spec.reference_hash and found and found != spec.reference_hash:
        raise ValueError(
            f"the reference {identity['reference']} has weights {found[:12]}, the reward was trained against "
            f"{spec.reference_hash[:12]}; give that model by --reference, which says that another is meant"
        )


def _why_whole_rows(model: RewardModel, baseline: Reference | None, device: str) -> str | None:
    """Why prompts are not shared by one of the language models that are asked, None where all can."""
    policy = getattr(model.to(device), "policy", None)
    asked = [*model.references()[-1:], *([baseline] if baseline else [])]
    networks = [policy, *(reference.network(torch.device(device)) for reference in asked)]
    return next((reason for n in networks if n is not None and (reason := why_not_shared(n))), None)
