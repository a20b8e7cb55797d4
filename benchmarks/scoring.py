"""Responses and tokens per second of our scorer against a plain padded transformers loop, with policy and reference.

python -m benchmarks.scoring [--problems 20] [--dtype float32] [--threads 2] [--rounds 2] [--json FILE]
python -m benchmarks.scoring --model FOLDER --device cuda --dtype bfloat16          (on a GPU; never run yet)

The plain loop does what scripts commonly do: batches of eight in file order, padded to their longest response, full
logits of prompt and response, log-softmax, gather, for both models. Both sides have the same responses, weights, tokens
and precision. Rewards are compared before any time is shown (float32: to 1e-4 of the sums they are differences of).
Rounds alternate A B A B; shown are medians of wall and CPU seconds, without loading. The floor is the time of the
matrix products of both models that scoring needs, at the rate of matrices of their shapes on this machine.

The model is SmolLM2-135M unless --model names another. --data names a file of candidates; the default is
math500_candidates_n10.jsonl.gz in the folder LIT_PRM_DATA.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM

import lit_prm
from benchmarks.machine import clocks, product_rate
from lit_prm.data.batch import Encoded
from lit_prm.data.formats import read_groups
from lit_prm.data.records import Group
from lit_prm.scoring.model_scorer import ModelScorer
from lit_prm.training.worlds.smol import SmolLM2

SMOL, BETA = Path(".cache/smollm2"), 0.05


def main() -> None:
    asked = arguments()
    torch.set_num_threads(asked.threads)
    if asked.model == SMOL:
        SmolLM2(str(SMOL)).build(Path())
    groups = read_groups(str(asked.data)).groups[: asked.problems]
    with tempfile.TemporaryDirectory() as folder:
        compared = compare(perturbed(asked.model, Path(folder)), groups, asked)
    compared |= {"load": os.getloadavg()[0], "problems": len(groups), "threads": asked.threads, "dtype": asked.dtype}
    show(compared)
    if asked.json:
        asked.json.write_text(json.dumps(compared, indent=1) + "\n")


def compare(policy: str, groups: Sequence[Group], asked: argparse.Namespace) -> dict[str, Any]:
    options = {"reference": str(asked.model), "beta": BETA, "dtype": asked.dtype, "max_length": asked.max_length}
    scorer = lit_prm.load(policy, eval_tokens=asked.eval_tokens, device=asked.device, **options)
    assert isinstance(scorer, ModelScorer)
    models = [plain_model(name, asked.dtype).to(asked.device) for name in (policy, str(asked.model))]
    return measure(scorer, groups, scorer.encoder.encode(groups), models, asked)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    folder = Path(os.environ.get("LIT_PRM_DATA", "."))
    parser.add_argument("--data", type=Path, default=folder / "math500_candidates_n10.jsonl.gz", help="candidates")
    parser.add_argument("--model", type=Path, default=SMOL, help="folder of the reference")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--problems", type=int, default=20)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--batch-size", type=int, default=8, help="responses of a batch of the plain loop")
    parser.add_argument("--max-length", type=int, default=2048)
    parser.add_argument("--eval-tokens", type=int)
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


def perturbed(reference: Path, folder: Path) -> str:
    """A policy whose rewards are not zero: the reference's weights with a hundredth of noise."""
    model: Any = AutoModelForCausalLM.from_pretrained(reference)
    torch.manual_seed(0)
    with torch.no_grad():
        for weights in model.parameters():
            weights.mul_(1 + 0.01 * torch.randn_like(weights))
    model.save_pretrained(folder)
    for file in (*reference.glob("token*"), *reference.glob("*.jinja")):
        (folder / file.name).write_bytes(file.read_bytes())
    return str(folder)


def plain_model(name: str, dtype: str) -> Any:
    return AutoModelForCausalLM.from_pretrained(name, dtype=getattr(torch, dtype)).eval()


@torch.no_grad()
def plain(models: Sequence[Any], rows: Sequence[Encoded], batch_size: int) -> list[tuple[float, float]]:
    """Reward, and the reference's log-prob, of every response."""
    rewards = list[tuple[float, float]]()
    for start in range(0, len(rows), batch_size):
        batch = rows[start : start + batch_size]
        ids = torch.zeros((len(batch), max(len(r) for r in batch)), dtype=torch.long)
        mask, scored = torch.zeros_like(ids), torch.zeros_like(ids, dtype=torch.bool)
        for i, row in enumerate(batch):
            ids[i, : len(row)], mask[i, : len(row)] = torch.from_numpy(row.ids), 1
            scored[i, row.prompt_length : len(row)] = True
        policy, reference = (of_tokens(model, ids.to(model.device), mask.to(model.device)).cpu() for model in models)
        sums = [(x * scored[:, 1:]).double().sum(1) for x in (policy - reference, reference)]
        rewards += [(BETA * float(a), float(b)) for a, b in zip(*sums, strict=True)]
    return rewards


def of_tokens(model: Any, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    logps = model(input_ids=ids, attention_mask=mask).logits[:, :-1].float().log_softmax(-1)
    return logps.gather(-1, ids[:, 1:].unsqueeze(-1)).squeeze(-1)  # type: ignore[no-any-return]


def measure(
    scorer: ModelScorer,
    groups: Sequence[Group],
    rows: Sequence[Encoded],
    models: Sequence[Any],
    asked: argparse.Namespace,
) -> dict[str, Any]:
    """Times of both, the scores of the first round compared before the second begins."""
    ways: dict[str, Callable[[], Any]] = {
        "plain": lambda: plain(models, rows, asked.batch_size),
        "ours": lambda: scorer.score(groups),
    }
    took: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for _ in range(asked.rounds):
        made = {}
        for name, run in ways.items():
            wall, cpu = clocks(asked.device)
            made[name] = run()
            end = clocks(asked.device)
            took[name].append((end[0] - wall, end[1] - cpu))
        far = refuse_other_scores(made["plain"], [r.reward for of_group in made["ours"] for r in of_group], asked.dtype)
    tokens = sum(len(row) - row.prompt_length for row in rows)
    found: dict[str, Any] = {"responses": len(rows), "response_tokens": tokens, "largest_difference": far}
    for name, times in took.items():
        wall, cpu = (statistics.median(column) for column in zip(*times, strict=True))
        found[name] = {"wall": wall, "cpu": cpu, "responses_per_s": len(rows) / wall, "tokens_per_s": tokens / wall}
    config = models[0].config
    sizes = config.hidden_size, config.intermediate_size
    floor = len(models) * multiplied(models[0], rows) / product_rate(getattr(torch, asked.dtype), *sizes, asked.device)
    found["ours"]["of_floor"] = floor / found["ours"]["cpu"]
    return found | {"faster": found["plain"]["wall"] / found["ours"]["wall"], "faster_cpu": cpu_ratio(found)}


def cpu_ratio(found: dict[str, Any]) -> float:
    return float(found["plain"]["cpu"] / found["ours"]["cpu"])


def refuse_other_scores(plain: Sequence[tuple[float, float]], ours: Sequence[float], dtype: str) -> float:
    """The largest difference of two rewards, as a share of beta times the log-probs they are differences of."""
    far = max(abs(a - b) / max(1.0, BETA * abs(logp)) for (a, logp), b in zip(plain, ours, strict=True))
    most = 1e-4 if dtype == "float32" else 2e-2
    if not far <= most:
        raise SystemExit(f"the two do not score alike: rewards differ by up to {far:.2g}, more than {most:g}")
    return far


def multiplied(model: Any, rows: Sequence[Encoded]) -> float:
    """Multiply-adds of one model: layers see each prompt once and each response, the head response tokens."""
    layers = sum(p.numel() for p in model.model.layers.parameters() if p.dim() == 2)
    head = model.get_output_embeddings().weight.numel()
    distinct = {row.key: row for row in rows}.values()
    prompts = {row.ids[: row.prompt_length].tobytes(): row.prompt_length for row in distinct}
    responses = sum(len(row) - row.prompt_length for row in distinct)
    return float(2 * ((sum(prompts.values()) + responses) * layers + responses * head))


def show(found: dict[str, Any]) -> None:
    for name in ("plain", "ours"):
        row = found[name]
        print(f"{name:<6} {row['responses_per_s']:7.2f} responses/s {row['tokens_per_s']:8.0f} tokens/s "
              f"{row['wall']:7.1f} s, {row['cpu']:.1f} CPU-s")  # fmt: skip
    print(
        f"{found['faster']:.2f} times as fast ({found['faster_cpu']:.2f} by CPU time), at "
        f"{found['ours']['of_floor']:.0%} of the floor; rewards alike to {found['largest_difference']:.1g}"
    )
    print(
        f"{found['responses']} responses of {found['problems']} problems, {found['threads']} thread(s), "
        f"{found['dtype']}, load {found['load']:.1f}"
    )


if __name__ == "__main__":
    main()
