"""The model card of an exported reward model: what it is, its training data, its results, how to use it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from lit_prm.evaluation.estimate import Estimate, level
from lit_prm.scoring.spec import Named, RewardSpec
from lit_prm.storage.run_files import read_record

TAGS = ["reward-model", "process-reward-model", "implicit-prm"]


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
    implicit = spec.reward_class.relative_to_reference
    parts = (
        f"---\n{yaml.safe_dump(_for_hub(facts, implicit), sort_keys=False, allow_unicode=True)}---\n",
        f"# {facts.name}\n\n{_what(facts, spec, implicit)}\n",
        f"## Scores\n\n{_facts_table(facts, spec)}\n",
        f"## Results\n\n{_results(facts)}\n",
        f"## Use\n\n{_USE}\n",
        f"## Data\n\n{_data(facts)}\n",
        f"## Limits\n\n{_LIMITS if implicit else _LIMITS_OF_HEADS}\n",
    )
    return "\n".join(parts)


# ---- for the hub --------------------------------------------------------------------------------


def _for_hub(facts: Facts, implicit: bool) -> dict[str, Any]:
    header: dict[str, Any] = {
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "tags": TAGS if implicit else TAGS[:2],
    }
    if re.fullmatch(r"(?!\.)[\w.-]+/[\w.-]+", facts.base_model):  # a name of the hub
        header["base_model"] = facts.base_model
    if results := [_indexed(test, n, value) for test, n, value in _best(facts.metrics)]:
        header["model-index"] = [{"name": facts.name, "results": results}]
    return header


def _indexed(test: str, n: int, value: float) -> dict[str, Any]:
    return {
        "task": {"type": "text-generation", "name": f"best of {n} candidates"},
        "dataset": {"name": test, "type": test},
        "metrics": [{"type": "accuracy", "name": f"accuracy of the best of {n}, %", "value": round(100 * value, 2)}],
    }


# ---- for people ---------------------------------------------------------------------------------


def _what(facts: Facts, spec: RewardSpec, implicit: bool) -> str:
    trained = f"trained from `{facts.base_model}`" + (f" with the loss {spec.loss}" if spec.loss else "")
    if implicit:
        return (
            f"An implicit process reward model, {trained}: the reward of a step is beta times the log-ratio of this "
            "model and its reference, summed over the step's tokens ([Yuan et al. 2025](https://arxiv.org/abs/2412.01981)).\n"
            "Its log-probs alone are not rewards: the reference named below is needed."
        )
    return (
        f"A reward model with a head (`head.safetensors`), {trained}: the value of a prefix, in log-odds of being "
        "right, is a linear function of the hidden state of its last token."
    )


def _facts_table(facts: Facts, spec: RewardSpec) -> str:
    rows = {
        "reward model": spec.reward_model["class_path"].rpartition(".")[2],
        "reference": _shown(spec.reference),
        "hash of the reference's weights": spec.reference_hash,
        "beta": spec.beta,
        "steps": _shown(spec.steps),
        "score of a response": f"{spec.aggregate} of its step rewards",
        "longest input": f"{spec.max_length} tokens",
        "prompt": f"`{spec.prompt_template!r}` in the chat template of the tokenizer",
        "trained by commit": facts.commit,
    }
    lines = [f"| {name} | {value} |" for name, value in rows.items() if value is not None]
    return "\n".join(["| | |", "|---|---|", *lines])


def _shown(part: Named | None) -> str | None:
    if part is None:
        return None
    arguments = ", ".join(f"{k}={v}" for k, v in part["init_args"].items() if v is not None)
    return f"`{part['class_path'].rpartition('.')[2]}({arguments})`"


def _results(facts: Facts) -> str:
    metrics = facts.metrics
    rows = [
        f"| {test} | {n} | {_of(metrics, f'bon/{test}/acc@{n}')} | {_of(metrics, f'majority/{test}/acc@{n}')} "
        f"| {_of(metrics, f'any/{test}/acc@{n}')} |"
        for test, n, _ in _best(metrics)
    ]
    if not rows:
        return "This run was not evaluated on candidates."
    head = ["| candidates | N | best of N, % | majority vote, % | any right, % |", "|---|---|---|---|---|"]
    note = "\nAccuracy of the chosen answer, the exact mean over all subsets of N, with 95 % intervals over problems."
    return "\n".join([*head, *rows, note])


def _best(metrics: Mapping[str, float]) -> Sequence[tuple[str, int, float]]:
    """Set, N and best-of-N accuracy by the primary aggregate, at the largest N of every candidate set."""
    best: dict[str, tuple[int, float]] = {}
    for key, value in metrics.items():
        match = re.fullmatch(r"bon/([^/]+)/acc@(\d+)", key)
        if match and int(match[2]) > best.get(match[1], (0, 0.0))[0]:
            best[match[1]] = (int(match[2]), value)
    return [(test, n, value) for test, (n, value) in best.items()]


def _of(metrics: Mapping[str, float], key: str) -> str:
    accuracy = Estimate.recorded(metrics, key)
    return level(accuracy.scaled(), ends=".0f") if accuracy else ""


def _data(facts: Facts) -> str:
    if not facts.digests:
        return "No record of the files was kept."
    rows = [f"| {role} | `{digest}` |" for role, digest in facts.digests.items()]
    return "\n".join(["| file | SHA-256 of its content |", "|---|---|", *rows])


_USE = """\
```python
import lit_prm

scorer = lit_prm.load(".")  # this folder
responses = ["Step 1: 3 + 4 = 7\\n\\nStep 2: 2 * 7 = 14", "Step 1: 2 * 3 + 4 = 10"]
for rewards in scorer.score_texts("What is 2 * (3 + 4)?", responses):
    print(rewards.reward, rewards.step_rewards)
```

On the command line: `python -m lit_prm score FOLDER rollouts.jsonl`. The weights are those of a causal language model:
`transformers.AutoModelForCausalLM.from_pretrained` loads them."""

_LIMITS = """\
- A reward is relative to the reference named above; with another reference it means nothing.
- It was trained on the correctness of final answers: a step's reward is credit for the outcome, not a proof check.
- Step rewards are sums over tokens, so long steps and responses reach lower minima.
- Rewards order responses of one problem; they are not calibrated between problems, nor outside the training data.
- Best-of-N gains may turn into losses at N far above those measured."""

_LIMITS_OF_HEADS = """\
- It was trained on the correctness of final answers, or on step labels made from it: it is no proof check.
- Rewards order responses of one problem; they are not calibrated outside the training data.
- Best-of-N gains may turn into losses at N far above those measured."""
