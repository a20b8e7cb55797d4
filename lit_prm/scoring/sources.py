"""Picks the spec of a source: a run, a checkpoint, an exported folder, an adapter, a released or any other model."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any, get_args

from lit_prm.evaluation.aggregates import refuse_unknown_aggregates
from lit_prm.models import adapters
from lit_prm.models.language_model import may_be_on_hub
from lit_prm.models.reward_model import REFERENCE_ARGUMENTS
from lit_prm.models.weights import ADAPTER_FILE
from lit_prm.scoring.base import Detail
from lit_prm.scoring.run_spec import is_run, spec_of_run
from lit_prm.scoring.spec import SPEC_FILE, Named, RewardSpec, arguments_of, class_by_name, named, read_spec


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What a caller of ``load`` may change; None keeps what the source says."""

    reference: str | None = None  # a folder or hub name; "none" for no reference
    beta: float | None = None
    steps: str | None = None  # a class name, or {"class_path": ..., "init_args": ...} as JSON
    aggregate: str | None = None
    max_length: int | None = None
    prompt_template: str | None = None
    dtype: str | None = None
    style: str | None = None  # of a released PRM
    separator: str | None = None  # behind each step of a PRM whose style takes one
    device: str = "auto"
    eval_tokens: int | None = None  # padded tokens of a batch
    detail: Detail = "tokens"

    def __post_init__(self) -> None:
        if self.detail not in get_args(Detail):
            raise ValueError(f"detail {self.detail!r} is unknown. Give one of {', '.join(get_args(Detail))}.")
        for name in ("max_length", "eval_tokens"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise ValueError(f"{name} {value} is not positive. Give a number of tokens, at least 1.")
        if self.separator == "":
            raise ValueError('separator "" is empty, so it marks no step. Give a text, for example a line break.')

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Options:
        """Options by name. Raises ValueError, with the nearest right name, for a name that is no option."""
        known = [field.name for field in fields(cls)]
        for name in values.keys() - set(known):
            near = get_close_matches(name, known, 1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise ValueError(f"load has no option {name!r}.{hint} The options are {', '.join(known)}.")
        return cls(**values)


def spec_of(source: str, options: Options = Options()) -> RewardSpec:
    """The spec that the source has by itself, changed by the options."""
    spec = _own_spec(source, options)
    values = {name: getattr(options, name) for name in ("aggregate", "max_length", "prompt_template")}
    spec = replace(spec, **{name: value for name, value in values.items() if value is not None})
    if options.aggregate:
        refuse_unknown_aggregates([options.aggregate])
    if options.steps:
        spec = replace(spec, steps=step_rule(options.steps))
    if options.beta is not None:
        spec = _with_beta(spec, options.beta)
    return spec if options.reference is None else _with_reference(spec, _reference(options.reference))


def has_known_reference(source: str) -> bool:
    """True for a run, a checkpoint and an export, which say how they score, for an adapter and for a known release."""
    described = is_run(source) or (Path(source) / SPEC_FILE).is_file()
    return described or adapters.is_adapter(source) or released_reference(source) is not None


def refuse_unknown_source(source: str) -> None:
    """Raise ValueError for a folder that holds nothing to score with, and for a name that cannot be on the hub."""
    path = Path(source).expanduser()
    if path.is_dir() and not any((path / name).is_file() for name in _DESCRIBED):
        inside = sorted(str(file.parent) for file in path.glob("*/config.yaml"))
        hint = f"It holds runs; give one of them, e.g. {inside[0]}" if inside else f"It has no {', '.join(_DESCRIBED)}"
        raise ValueError(f"{source} is not a run, an export or a model. {hint}.")
    if not path.exists() and (source.startswith("runs/") or not may_be_on_hub(source)):
        raise ValueError(f"{source} is neither a folder nor a hub name owner/model. Correct the path.")


_DESCRIBED = ("config.yaml", SPEC_FILE, "config.json", ADAPTER_FILE)


def step_rule(text: str) -> Named:
    """A step rule given by its class name or as JSON."""
    if not text.startswith("{"):
        return named(text)
    try:
        return class_by_name(json.loads(text))
    except ValueError as error:
        raise ValueError(
            f'--steps {text} names no class ({error}). Give a class name or {{"class_path": ...}}.'
        ) from None


def _own_spec(source: str, options: Options) -> RewardSpec:
    if is_run(source):
        return spec_of_run(source)
    if (Path(source) / SPEC_FILE).is_file():
        return read_spec(Path(source) / SPEC_FILE)
    if adapters.is_adapter(source):
        return _of_policy("lit_prm.models.adapters.AdaptedReward", source)
    if reference := released_reference(source):
        spec = _of_policy("lit_prm.models.reward_model.ImplicitReward", source, beta=0.05)
        steps = named("lit_prm.data.steps.Marked")
        return replace(spec, reference=_reference(reference), steps=steps, max_length=8192)
    if options.reference is None:
        raise ValueError(
            f"{source} is a language model, and its implicit reward is relative to another one. Give the model that it "
            "was trained from by --reference FOLDER or hub name; none makes the log-prob itself the reward."
        )
    return _of_policy("lit_prm.models.reward_model.ImplicitReward", source)


def _of_policy(class_path: str, policy: str, **arguments: Any) -> RewardSpec:
    reward_model = named(class_path, {"policy": policy, **arguments})
    steps = named("lit_prm.data.steps.BlankLine")
    return RewardSpec(reward_model=reward_model, tokenizer=policy, steps=steps, max_length=None)


def _with_beta(spec: RewardSpec, beta: float) -> RewardSpec:
    if not spec.reward_class.relative_to_reference:
        raise ValueError(f"beta {beta} was given, but {spec.reward_model['class_path']} has no beta. Leave it out.")
    own = arguments_of(spec.reward_model) | {"beta": beta}
    return replace(spec, reward_model=named(spec.reward_model["class_path"], own))


def _reference(name: str) -> Named:
    if name == "none":
        return named("lit_prm.models.reference.Uniform")
    return named("lit_prm.models.reference.Frozen", {"model": name})


def _with_reference(spec: RewardSpec, reference: Named) -> RewardSpec:
    """The spec with another reference, in place of every one that the reward model's own arguments name."""
    own = {k: v for k, v in arguments_of(spec.reward_model).items() if k not in REFERENCE_ARGUMENTS}
    own |= {"reference": reference} if spec.reward_class.relative_to_reference else {}
    reward_model = named(spec.reward_model["class_path"], own)
    identity = {name: value for name, value in spec.identity.items() if name != "reference"}
    return replace(spec, reward_model=reward_model, reference=reference, identity=identity)


# Released implicit PRMs whose config names neither reference nor step rule: the model that they were trained against,
# by the beginning of their names in lower case. They were trained on ``Step k:`` responses with beta 0.05. The authors'
# scripts multiply log-ratios by 0.001 instead, which orders responses in the same way. The card of EurusPRM-Stage2 uses
# accumulated rewards: these are the ``step_values``, whose last one is the sum.
_RELEASED = {"implicitprm": "meta-llama/Llama-3.1-8B-Instruct", "eurusprm": "Qwen/Qwen2.5-Math-7B-Instruct"}


def released_reference(source: str) -> str | None:
    """The model that a known released implicit PRM was trained against; None for any other model."""
    name = Path(source).name.lower()
    return next((model for start, model in _RELEASED.items() if name.startswith(start)), None)
