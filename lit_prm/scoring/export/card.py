"""The model card of an exported reward model: what it is, its training data, its results, how to use it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

from lit_prm.evaluation.estimate import Estimate, level
from lit_prm.scoring.spec import Named, RewardSpec
from lit_prm.storage.run_files import read_record

Best = tuple[str, int, float]  # candidate set, N, accuracy


@dataclass(frozen=True, kw_only=True)
class Facts:
    """Facts about a run for its model card, without weights; empty for a run that left no record."""

    name: str
    base_model: str
    commit: str | None = None
    digests: Mapping[str, str] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)


def facts_of(run: Path, name: str, base_model: str) -> Facts:
    """Reads the facts from ``summary.json`` and ``data.json`` in a run's folder."""
    summary, data = read_record(run / "summary.json"), read_record(run / "data.json")
    commit = summary.get("commit")
    return Facts(
        name=str(summary.get("name", name)),
        base_model=base_model,
        commit=f"{commit} with changes" if commit and summary.get("dirty") else commit,
        digests=data.get("digests", {}),
        metrics=summary.get("metrics", {}),
    )


def card(facts: Facts, spec: RewardSpec) -> str:
    """The text of the folder's README.md: YAML for the hub, then Markdown for people."""
    texts = yaml.safe_load((files("lit_prm.scoring.export") / "card.yaml").read_text(encoding="utf-8"))
    kind = texts["implicit" if spec.reward_class.relative_to_reference else "head"]
    trained = f"trained from `{facts.base_model}`" + (f" with the loss {spec.loss}" if spec.loss else "")
    best = _best(facts.metrics)
    results = _rows(_results(facts.metrics, best))
    data = _rows((role, f"`{digest}`") for role, digest in facts.digests.items())
    page: str = texts["page"]
    return page.format(
        for_hub=yaml.safe_dump(_for_hub(facts, kind["tags"], best), sort_keys=False, allow_unicode=True),
        name=facts.name,
        what=kind["what"].format(trained=trained),
        facts=_rows((name, value) for name, value in _facts(facts, spec).items() if value is not None),
        results=texts["results"].format(rows=results) if results else texts["no_results"],
        data=texts["data"].format(rows=data) if data else texts["no_data"],
        limits=kind["limits"],
    )


def _for_hub(facts: Facts, tags: Sequence[str], best: Sequence[Best]) -> dict[str, Any]:
    header: dict[str, Any] = {"library_name": "transformers", "pipeline_tag": "text-generation", "tags": tags}
    if re.fullmatch(r"(?!\.)[\w.-]+/[\w.-]+", facts.base_model):  # a name of the hub
        header["base_model"] = facts.base_model
    if best:
        header["model-index"] = [{"name": facts.name, "results": [_indexed(*result) for result in best]}]
    return header


def _indexed(test: str, n: int, value: float) -> dict[str, Any]:
    return {
        "task": {"type": "text-generation", "name": f"best of {n} candidates"},
        "dataset": {"name": test, "type": test},
        "metrics": [{"type": "accuracy", "name": f"accuracy of the best of {n}, %", "value": round(100 * value, 2)}],
    }


def _rows(rows: Iterable[Iterable[object]]) -> str:
    """Rows of a table in Markdown."""
    return "\n".join(f"| {' | '.join(map(str, row))} |" for row in rows)


def _facts(facts: Facts, spec: RewardSpec) -> dict[str, Any]:
    return {
        "reward model": spec.reward_model["class_path"].rpartition(".")[2],
        "reference": _shown(spec.reference),
        "hash of the reference's weights": spec.identity.get("reference"),
        "beta": spec.beta,
        "steps": _shown(spec.steps),
        "score of a response": f"{spec.aggregate} of its step rewards",
        "longest input": f"{spec.max_length} tokens" if spec.max_length else "as many tokens as the models take",
        "prompt": f"`{spec.prompt_template!r}` in the chat template of the tokenizer",
        "trained by commit": facts.commit,
    }


def _shown(part: Named | None) -> str | None:
    if part is None:
        return None
    arguments = ", ".join(f"{k}={v}" for k, v in part["init_args"].items() if v is not None)
    return f"`{part['class_path'].rpartition('.')[2]}({arguments})`"


def _results(metrics: Mapping[str, float], best: Sequence[Best]) -> Iterator[Sequence[object]]:
    for test, n, _ in best:
        recorded = (Estimate.recorded(metrics, f"{curve}/{test}/acc@{n}") for curve in ("bon", "majority", "any"))
        yield (test, n, *(level(accuracy.scaled(), ends=".0f") if accuracy else "" for accuracy in recorded))


def _best(metrics: Mapping[str, float]) -> Sequence[Best]:
    """Set, N and best-of-N accuracy by the primary aggregate, at the largest N of every candidate set."""
    best: dict[str, tuple[int, float]] = {}
    for key, value in metrics.items():
        match = re.fullmatch(r"bon/([^/]+)/acc@(\d+)", key)
        if match and int(match[2]) > best.get(match[1], (0, 0.0))[0]:
            best[match[1]] = (int(match[2]), value)
    return [(test, n, value) for test, (n, value) in best.items()]
