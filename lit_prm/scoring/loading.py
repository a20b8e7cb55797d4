"""Loads a scorer in one call: picks the spec of a source, builds the scorer, checks an export."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lit_prm.data.steps import StepRule
from lit_prm.scoring import sources
from lit_prm.scoring.base import Scorer
from lit_prm.scoring.building import build, device_of, instantiate
from lit_prm.scoring.check_samples import read_check, verify_folder
from lit_prm.scoring.sources import Options
from lit_prm.scoring.tag_styles import style_of
from lit_prm.scoring.tags import TagScorer
from lit_prm.storage.schemas import about


def load(source: str | Path, **options: Any) -> Scorer:
    r"""The scorer of a run's folder, a checkpoint, an exported folder, a Hugging Face folder or hub name.

    A plain language model is an implicit reward relative to ``reference``, which must then be given, except for an
    adapter and for a known release. A model with a head of its own (a PRM, an outcome reward model) needs no reference.
    ``options`` are the fields of ``lit_prm.scoring.sources.Options``; another name raises ValueError, and so does an
    option that this source would ignore, except ``detail``.

    >>> import lit_prm
    >>> scorer = lit_prm.load(policy, reference=reference)
    >>> rewards = scorer.score_texts("What is 2 + 3?", ["2 + 3 = 5.\n\nThe answer is 5.", "It is 6."])
    >>> [len(r.step_rewards) for r in rewards]
    [2, 1]
    """
    source, chosen = os.path.expanduser(source), Options.of(options)
    sources.refuse_unknown_source(source)
    with about(source):
        if _is_tag_model(source, chosen):
            return _tag_scorer(source, chosen)
        _refuse(source, chosen, ("style", "separator"), "an implicit reward has no tags")
        spec, check = sources.spec_of(source, chosen), read_check(Path(source))
        scorer = build(spec, chosen)
        changed = (chosen.beta, chosen.reference, chosen.max_length, chosen.prompt_template, chosen.steps)
        if check and all(option is None for option in changed):
            verify_folder(Path(source), scorer, scorer.encoder)
        return scorer


def _is_tag_model(source: str, options: Options) -> bool:
    if options.reference is not None or sources.has_known_reference(source):
        return False
    return bool(options.style or style_of(source))


def _refuse(source: str, options: Options, names: Sequence[str], reason: str) -> None:
    """Raise ValueError for given options that would be ignored."""
    given = [f"--{name} {value}" for name in names if (value := getattr(options, name)) is not None]
    if given:
        raise ValueError(f"{' and '.join(given)} would be ignored for {source}: {reason}. Leave it out.")


def _tag_scorer(source: str, options: Options) -> Scorer:
    _refuse(source, options, ("beta",), "beta scales log-ratios, and a released PRM has a head of its own")
    values = {
        "max_length": options.max_length, "prompt_template": options.prompt_template, "dtype": options.dtype,
        "budget": options.eval_tokens, "separator": options.separator, "aggregate": options.aggregate,
    }  # fmt: skip
    given: dict[str, Any] = {name: value for name, value in values.items() if value is not None}
    rule = instantiate(StepRule, sources.step_rule(options.steps)) if options.steps else None
    return TagScorer(source, options.style, rule, device=device_of(options.device), **given)
