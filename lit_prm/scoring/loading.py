"""Scorers from what people have: a run, a checkpoint, an exported folder, a model and its reference."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lit_prm.data.steps import StepRule
from lit_prm.evaluation.aggregates import refuse_unknown_aggregates
from lit_prm.models import adapters
from lit_prm.models.language_model import may_be_on_hub
from lit_prm.models.reward_model import ImplicitReward, RewardModel
from lit_prm.scoring.base import Scorer
from lit_prm.scoring.building import build, device_of, encoder_of, made, reward_model_of
from lit_prm.scoring.check_samples import CHECK_FILE, verify_folder
from lit_prm.scoring.model_scorer import Detail
from lit_prm.scoring.released import release_of
from lit_prm.scoring.spec import SPEC_FILE, Named, RewardSpec, is_run, named, read_spec, spec_of_run

__all__ = ["Options", "build", "encoder_of", "load", "reward_model_of", "spec_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What a caller may say otherwise than the source does; None leaves it to the source."""

    reference: str | None = None  # a folder or hub name, "none" for no reference
    beta: float | None = None
    steps: str | None = None  # a class name, or {"class_path": ..., "init_args": ...} as JSON
    aggregate: str | None = None
    max_length: int | None = None
    prompt_template: str | None = None
    dtype: str | None = None
    style: str | None = None  # of a tag-token model
    device: str = "auto"
    eval_tokens: int | None = None
    detail: Detail = "tokens"


def load(source: str, **options: Any) -> Scorer:
    r"""The scorer of a run's folder, a checkpoint, an exported folder, a Hugging Face folder or hub name.

    A plain language model is an implicit reward relative to the ``reference`` that must then be given, unless it is
    an adapter or a known release; a tag-token model needs none. ``options`` are those of ``Options``.

    >>> import lit_prm
    >>> scorer = lit_prm.load(policy, reference=reference)
    >>> rewards = scorer.score_texts("What is 2 + 3?", ["2 + 3 = 5.\n\nThe answer is 5.", "It is 6."])
    >>> [len(r.step_rewards) for r in rewards]
    [2, 1]
    """
    asked = Options(**options)
    _refuse_no_source(source)
    from lit_prm.scoring.tags import style_of, tag_scorer

    described = is_run(source) or (Path(source) / SPEC_FILE).is_file()
    if not described and asked.reference is None and not _is_policy(source) and (asked.style or style_of(source)):
        rule = made(StepRule, _step_rule(asked.steps or "BlankLine"))
        given = {
            "max_length": asked.max_length, "prompt_template": asked.prompt_template, "dtype": asked.dtype,
            "budget": asked.eval_tokens,
        }  # fmt: skip
        named_ones: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
        where = device_of(asked.device)
        return tag_scorer(source, asked.style, rule, device=where, **named_ones)
    spec, how = spec_of(source, asked), {"dtype": asked.dtype, "device": asked.device, "detail": asked.detail}
    scorer = build(spec, eval_tokens=asked.eval_tokens, **how)  # type: ignore[arg-type]
    as_exported = not any((asked.beta, asked.reference, asked.max_length, asked.prompt_template, asked.steps))
    if as_exported and (Path(source) / CHECK_FILE).is_file():
        verify_folder(Path(source), scorer, scorer.encoder)
    return scorer


def _refuse_no_source(source: str) -> None:
    """A name that can only be a folder's must be that of a run, an export or a model."""
    path = Path(source).expanduser()
    if path.is_dir() and not any((path / name).is_file() for name in _DESCRIBED):
        inside = sorted(str(file.parent) for file in path.glob("*/config.yaml"))
        hint = f"; it holds runs: give {inside[0]}" if inside else f"; it has none of {', '.join(_DESCRIBED)}"
        raise ValueError(f"{source} is no run, no export and no model{hint}")
    if not path.exists() and (source.startswith("runs/") or not may_be_on_hub(source)):
        raise ValueError(f"{source}: no such folder, and no hub name owner/model; correct the path")


_DESCRIBED = ("config.yaml", SPEC_FILE, "config.json", adapters.ADAPTER_FILE)


def spec_of(source: str, asked: Options = Options()) -> RewardSpec:
    """What the source says of itself, with what is asked otherwise."""
    spec = _own_spec(source, asked)
    given: dict[str, Any] = {
        "aggregate": asked.aggregate,
        "max_length": asked.max_length,
        "prompt_template": asked.prompt_template,
    }
    spec = replace(spec, **{name: value for name, value in given.items() if value is not None})
    if asked.aggregate:
        refuse_unknown_aggregates([asked.aggregate])
    if asked.steps:
        spec = replace(spec, steps=_step_rule(asked.steps))
    if asked.beta is not None:
        spec = _with_beta(spec, asked.beta)
    return spec if asked.reference is None else _with_reference(spec, _reference(asked.reference))


def _own_spec(source: str, asked: Options) -> RewardSpec:
    if is_run(source):
        return spec_of_run(source)
    if (Path(source) / SPEC_FILE).is_file():
        return read_spec(Path(source) / SPEC_FILE)
    if adapters.is_adapter(source):
        reward = named("lit_prm.models.adapters.AdaptedReward", {"policy": source})
        return RewardSpec(reward_model=reward, tokenizer=source, steps=named("lit_prm.data.steps.BlankLine"))
    if release := release_of(source):
        return release.spec(source, reference=asked.reference)
    if asked.reference is None:
        raise ValueError(
            f"{source} is a language model, whose implicit reward is relative to another one; give the model that it "
            "was trained from: --reference FOLDER or hub name (none: the log-prob itself is the reward)"
        )
    reward = named("lit_prm.models.reward_model.ImplicitReward", {"policy": source})
    return RewardSpec(reward_model=reward, tokenizer=source, steps=named("lit_prm.data.steps.BlankLine"))


def _is_policy(source: str) -> bool:
    return adapters.is_adapter(source) or release_of(source) is not None


def _with_beta(spec: RewardSpec, beta: float) -> RewardSpec:
    if not _is_implicit(spec):
        raise ValueError(f"beta {beta} was given, but {spec.reward_model['class_path']} has none; leave it out")
    return spec.with_arguments(beta=beta)


def _reference(name: str) -> Named:
    return (
        named("lit_prm.models.reference.Uniform")
        if name == "none"
        else named("lit_prm.models.reference.Frozen", {"model": name})
    )


def _with_reference(spec: RewardSpec, reference: Named) -> RewardSpec:
    """Another reference, in place of all that the reward model's own arguments name."""
    own = {k: v for k, v in spec.reward_model.get("init_args", {}).items() if not k.endswith("reference")}
    own |= {"reference": reference} if _is_implicit(spec) else {}
    own_class = named(spec.reward_model["class_path"], own)
    return replace(spec, reward_model=own_class, reference=reference, reference_hash=None)


def _is_implicit(spec: RewardSpec) -> bool:
    return isinstance(made(RewardModel, spec.reward_model), ImplicitReward)


def _step_rule(text: str) -> Named:
    if not text.startswith("{"):
        return named(text)
    try:
        return dict(json.loads(text))
    except ValueError as error:
        raise ValueError(f'--steps {text} is no JSON ({error}); give a class name or {{"class_path": ...}}') from None
