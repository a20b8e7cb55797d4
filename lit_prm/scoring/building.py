"""Builds the scorer that a spec describes: reward model, reference, encoder, weights and identity."""

from __future__ import annotations

import sys
from argparse import ArgumentError
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from jsonargparse import ArgumentParser, set_parsing_settings
from jsonargparse._common import parsing_settings  # private: there is no other way to take a denylist back
from safetensors.torch import load_file

from lit_prm.data.encoding import Encoder
from lit_prm.data.steps import StepRule
from lit_prm.models.identity import identity_of, sources_of
from lit_prm.models.language_model import load_config, load_tokenizer, reading
from lit_prm.models.probes import why_not_shared
from lit_prm.models.reference import Reference, Uniform
from lit_prm.models.reward_model import MODULE_PREFIX, RewardModel, load_trained
from lit_prm.models.vocabulary import refuse_other_vocabulary
from lit_prm.models.weights import combined_hash
from lit_prm.models.zero_weights import put_weights
from lit_prm.scoring.model_scorer import ModelScorer
from lit_prm.scoring.sources import Options
from lit_prm.scoring.spec import Named, RewardSpec
from lit_prm.storage.class_paths import known_names, modules_named, modules_of
from lit_prm.storage.identity import refuse_mismatch


def build(spec: RewardSpec, options: Options | None = None) -> ModelScorer:
    """The scorer of a spec with its weights loaded; of the options those count that are not part of a spec."""
    options = options or Options()
    dtype, device = options.dtype, device_of(options.device)
    reward_model, encoder = reward_model_of(spec, dtype), encoder_of(spec)
    identity = scored_by(spec, reward_model, encoder)
    baseline = None if reward_model.references() or spec.reference is None else _reference_of(spec, dtype)
    for reference in [*reward_model.references(), *([baseline] if baseline else [])]:
        if reference.model_name:
            refuse_other_vocabulary(encoder, reference.model_name)
    whole_rows = _why_whole_rows(reward_model, baseline, device)
    if whole_rows:
        print(f"prompts are not shared: {whole_rows}", file=sys.stderr, flush=True)
    return ModelScorer(
        reward_model,
        encoder,
        identity=identity,
        baseline=baseline,
        device=device,
        budget=options.eval_tokens,
        detail=options.detail,
        whole_rows=whole_rows,
    )


def present_identity(spec: RewardSpec) -> dict[str, str]:
    """Hashes of the models that the spec names, as they are now; nothing is loaded."""
    model: RewardModel = instantiate(RewardModel, spec.reward_model)
    reference = _reference_of(spec, None)
    model.adopt(reference or Uniform())
    return identity_of(model, spec.tokenizer, reference)


def reward_model_of(spec: RewardSpec, dtype: str | None = None) -> RewardModel:
    """The reward model of a spec in eval mode, with its trained weights and the reference for scoring.

    Raises ValueError, before any weights are loaded, if base, reference or tokenizer are not those of the spec.
    """
    if spec.identity:
        present = present_identity(spec)
        refuse_mismatch(spec.identity, present, "the record of the reward model", "the files that are there", _REMEDY)
    model: RewardModel = instantiate(RewardModel, spec.reward_model)
    model.adopt(_reference_of(spec, dtype) or Uniform())
    if dtype:
        model.dtype = dtype
        for reference in model.references():
            reference.compute_in(dtype)
    model.replace_references(lambda reference: reference.read_only())
    model.configure_model()
    if spec.weights:
        _load_weights(model, spec.weights)
    return model.eval().requires_grad_(False)


def encoder_of(spec: RewardSpec) -> Encoder:
    """The encoder of training, with character spans: it also knows which text each token stands for."""
    steps = instantiate(StepRule, spec.steps)
    tokenizer, limit = load_tokenizer(spec.tokenizer), spec.max_length or _limit_of_models(spec)
    return Encoder(tokenizer, steps, max_length=limit, prompt_template=spec.prompt_template, spans=True)


def _limit_of_models(spec: RewardSpec) -> int:
    """Number of tokens that the policy and its references all have positions for; 2,048 if no configuration says."""
    model: RewardModel = instantiate(RewardModel, spec.reward_model)
    references = [*model.references(), *filter(None, [_reference_of(spec, None)])]
    names = [sources_of(model)[-1], *(reference.model_name for reference in references)]
    configs = [load_config(name).get_text_config() for name in names if name]
    return min(filter(None, (getattr(config, "max_position_embeddings", None) for config in configs)), default=2048)


def scored_by(spec: RewardSpec, reward_model: RewardModel, encoder: Encoder) -> dict[str, Any]:
    """Everything that the scores depend on, as JSON; weights by the hash of their content."""
    policy = str(getattr(reward_model, "policy_name", ""))
    references = reward_model.references() or [r for r in [_reference_of(spec, None)] if r is not None]
    return {
        "reward_model": type(reward_model).__name__,
        "policy": spec.weights or policy,
        "policy_weights": _weights(spec, reward_model),
        **(references[-1].identity() if references else {"reference": None}),
        "beta": getattr(reward_model, "beta", None),
        "loss": spec.loss,
        "template": encoder.identity,
        "prompt_template": spec.prompt_template,
        "steps": {**spec.steps, "class_path": f"{type(encoder.steps).__module__}.{type(encoder.steps).__qualname__}"},
        "max_length": encoder.max_length,
        "dtype": str(getattr(reward_model, "dtype", "float32")),
        "aggregate": spec.aggregate,
    }


_REMEDY = (
    "Put back the models that it was trained with, e.g. in the folder in which its run was started. If you mean "
    "another reference, name it by --reference."
)


def device_of(name: str) -> str:
    """The device that "auto" means on this machine. Raises ValueError for a device that torch does not have."""
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        kind = torch.device(name).type
    except RuntimeError:
        raise ValueError(
            f"device {name!r} is not a device of torch. Give auto, cpu, cuda, cuda:0 or mps by --device."
        ) from None
    if kind == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"device {name!r}: torch sees no GPU on this machine. Give cpu or auto.")
    return name


def instantiate(base: type, part: Named) -> Any:
    """The object of a class named as in configs; a bare name means an imported subclass of ``base``.

    No module is imported except those of ``lit_prm`` and those that ``class_path`` values of the part name.
    """
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--part", type=base)
    try:
        with _importing_only(modules_named(part) | modules_of(base)):
            return parser.instantiate(parser.parse_object({"part": dict(part)})).part
    except ArgumentError as error:
        reason = str(error).strip().splitlines()[-1].strip(" -")[:200]
        raise ValueError(
            f"{part.get('class_path')} cannot be built as a {base.__name__} ({reason}). Give one of "
            f"{', '.join(known_names(base))}, or the dotted path of your own class."
        ) from None


@contextmanager
def _importing_only(modules: set[str]) -> Iterator[None]:
    """Inside, jsonargparse imports what a value names from these modules and ``lit_prm`` alone.

    It takes other texts for class paths too, e.g. one in place of an object, and makes any class where a type is Any.
    """
    before = dict(parsing_settings)
    try:
        set_parsing_settings(import_path_denylist=["*"], import_path_allowlist=["lit_prm", *sorted(modules)])
        yield
    finally:
        parsing_settings.clear()
        parsing_settings.update(before)


def _weights(spec: RewardSpec, model: RewardModel) -> str:
    """The hash of all weights that were loaded: a checkpoint holds the trained ones, a head lies beside its policy."""
    own, *below = sources_of(model)
    head = [spec.weights] if spec.weights else []
    return combined_hash([*head, *([] if head and not head[0].endswith(".safetensors") else [own]), *below])


def _reference_of(spec: RewardSpec, dtype: str | None) -> Reference | None:
    if spec.reference is None:
        return None
    reference: Reference = instantiate(Reference, spec.reference)
    if dtype:
        reference.compute_in(dtype)
    return reference.read_only()


def _load_weights(model: RewardModel, file: str) -> None:
    """Load trained weights: ``reward_model.*`` of a checkpoint, or those that a safetensors file holds."""
    if not file.endswith(".safetensors"):
        load_trained(model, file)
        return
    with reading(file):
        stored = load_file(file)
    weights = {n.removeprefix(MODULE_PREFIX): w for n, w in stored.items() if n.startswith(MODULE_PREFIX)}
    if not weights:
        raise ValueError(f"{file} holds no weights named {MODULE_PREFIX}*. Export the run again.")
    put_weights(model, weights, may_miss=model.state_dict())


def _why_whole_rows(model: RewardModel, baseline: Reference | None, device: str) -> str | None:
    """Why one of the language models that score cannot share prompts; None if all can."""
    policy = getattr(model.to(device), "policy", None)
    references = [*model.references()[-1:], *([baseline] if baseline else [])]
    networks = [policy, *(reference.network(torch.device(device)) for reference in references)]
    return next((reason for n in networks if n is not None and (reason := why_not_shared(n))), None)
