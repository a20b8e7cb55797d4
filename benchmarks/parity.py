"""Compares updates of TRL's trainers with those of our losses: three SGD steps, same weights, same token ids.

python -m benchmarks.parity [--json FILE]        (in the repository's root, with trl==1.16.0 installed)

TRL reads text and runs its own trainers (DPOTrainer, KTOTrainer) in float32; our side is our encoding, response
log-probs and losses in a bare loop. Printed: the largest difference of a response's log-prob and of a step's loss, and
the L2 distance of the two parameter updates as a share of their length. Exits with 1 beyond a tolerance.
"""

from __future__ import annotations

import argparse
import copy
import json
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import datasets
import numpy as np
import torch
import transformers
from torch import Tensor
from transformers import LlamaForCausalLM
from trl import DPOConfig, DPOTrainer, KTOConfig, KTOTrainer

from lit_prm.data.batch import Encoded, collate
from lit_prm.data.encoding import Encoder
from lit_prm.data.records import Group, Problem, Rollout
from lit_prm.data.steps import Newline
from lit_prm.losses import Loss
from lit_prm.losses.ce import CE
from lit_prm.losses.dpo import DPO
from lit_prm.losses.kto import KTO
from lit_prm.losses.nca import NCA
from lit_prm.models.logps import token_logps
from lit_prm.models.values import log_ratios, prefix_values, response_rewards
from tests.conftest import byte_tokenizer, small_llama

BETA, RATE, STEPS, PAIRS = 0.05, 1e-2, 3, 4  # pairs of one step
# float32 on both sides: one rounding of a log-prob of -170 is 1.5e-5, and a loss has beta times as much
TOLERANCE = {"log-probs": 1e-4, "losses": 5e-6, "update": 1e-4}


class Case(NamedTuple):
    """One objective by our name and by TRL's; TRL's loss is ``scale`` times the mean of our terms."""

    trl: str
    loss: Loss
    scale: float = 1.0


class Seen(NamedTuple):
    """Data of one training step of one side; B responses."""

    ids: list[list[int]]
    logps: Tensor  # [B]
    loss: float


CASES = (Case("sigmoid", DPO()), Case("nca_pair", NCA()), Case("bco_pair", CE(), 2.0), Case("kto", KTO(1.25, 0.75)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")  # of settings TRL makes itself
    transformers.logging.set_verbosity_error()
    datasets.disable_progress_bars()
    problems = groups()
    rows = [compare(case, problems) for case in CASES]
    print(f"{'TRL':<10}{'ours':<6}" + "".join(f"{name:>12}" for name in TOLERANCE))
    for row in rows:
        print(f"{row['trl']:<10}{row['ours']:<6}" + "".join(f"{row[name]:12.1e}" for name in TOLERANCE))
    print(f"{'tolerance':<16}" + "".join(f"{most:12.1e}" for most in TOLERANCE.values()))
    if asked.json:
        asked.json.write_text(json.dumps({"tolerance": TOLERANCE, "rows": rows}, indent=1) + "\n")
    if any(not row[name] <= most for row in rows for name, most in TOLERANCE.items()):  # nan is beyond any tolerance
        raise SystemExit(1)


def compare(case: Case, problems: Sequence[Group]) -> dict[str, Any]:
    start = small_llama(0)
    theirs, ours = copy.deepcopy(start), copy.deepcopy(start)
    pairs = list(zip(train_theirs(case, theirs, problems), train_ours(case, ours, problems), strict=True))
    assert len(pairs) == STEPS
    assert all(a.ids == b.ids for a, b in pairs), f"{case.trl}: the two sides saw different token ids"
    their_update, our_update = (flat(model) - flat(start) for model in (theirs, ours))
    return {
        "trl": case.trl,
        "ours": type(case.loss).__name__,
        "log-probs": max(float((a.logps - b.logps).abs().max()) for a, b in pairs),
        "losses": max(abs(a.loss - b.loss) for a, b in pairs),
        "update": float((their_update - our_update).norm() / their_update.norm()),
    }


def groups() -> list[Group]:
    """Problems with one right and one wrong response of different lengths."""
    return [
        Group(
            problem=Problem(id=str(i), prompt=f"What is {i} and {i + 3}?", answer=str(2 * i + 3)),
            rollouts=(
                Rollout(response=f"Add {i} and {i + 3}.\nThe answer is {2 * i + 3}.", correct=True),
                Rollout(response=f"Take {i}{', and again' * (i % 4)}.\nThe answer is {i}.", correct=False),
            ),
        )
        for i in range(STEPS * PAIRS)
    ]


def in_steps(rows: Sequence[Any]) -> Iterator[list[Any]]:
    """The responses of each step, reordered from alternating right and wrong to all right before all wrong."""
    for start in range(0, len(rows), 2 * PAIRS):
        step = rows[start : start + 2 * PAIRS]
        yield [*step[::2], *step[1::2]]


def train_ours(case: Case, model: LlamaForCausalLM, problems: Sequence[Group]) -> Iterator[Seen]:
    reference, optimizer = small_llama(1), torch.optim.SGD(model.parameters(), lr=RATE)
    for items in in_steps(Encoder(byte_tokenizer(), Newline()).encode(problems)):
        with torch.no_grad():
            zero = case.loss.zero_point(logps_and_rewards(model, reference, rotated(items))[1])
        logps, rewards = logps_and_rewards(model, reference, items)
        labels, group = torch.tensor([i.label for i in items]), torch.tensor([i.group for i in items])
        loss = case.scale * case.loss(rewards - zero, labels, group).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        yield Seen([item.ids.tolist() for item in items], logps, float(loss.detach()))


def logps_and_rewards(policy: Any, reference: Any, items: Sequence[Encoded]) -> tuple[Tensor, Tensor]:
    """Summed log-probs, detached, and r(y) of B responses; [B], [B]."""
    batch = collate(items)
    logps = token_logps(policy, batch)
    with torch.no_grad():
        base = token_logps(reference, batch)
    return logps.detach().sum(1), response_rewards(prefix_values(BETA * log_ratios(logps, base)), batch.length)


def rotated(items: Sequence[Encoded]) -> list[Encoded]:
    """Every prompt with the response of the row before: the mismatched rows of TRL's KTOTrainer."""
    before = [items[-1], *items[:-1]]
    return [
        Encoded(
            ids=np.concatenate([a.ids[: a.prompt_length], b.ids[b.prompt_length :]]),
            prompt_length=a.prompt_length, step=b.step, label=a.label, group=a.group, row=a.row,
        )
        for a, b in zip(items, before, strict=True)
    ]  # fmt: skip


def train_theirs(case: Case, model: LlamaForCausalLM, problems: Sequence[Group]) -> Iterator[Seen]:
    kto = case.trl == "kto"
    with tempfile.TemporaryDirectory() as folder:
        settings: dict[str, Any] = dict(
            output_dir=folder, beta=BETA, learning_rate=RATE, lr_scheduler_type="constant", optim="sgd",
            max_grad_norm=0.0, weight_decay=0.0, per_device_train_batch_size=2 * PAIRS if kto else PAIRS,
            max_steps=STEPS, train_sampling_strategy="sequential", gradient_checkpointing=False, bf16=False,
            use_cpu=True, report_to="none", save_strategy="no", logging_strategy="no", disable_tqdm=True,
        )  # fmt: skip
        if isinstance(case.loss, KTO):
            weights = {"desirable_weight": case.loss.desirable, "undesirable_weight": case.loss.undesirable}
            trainer = recording(KTOTrainer)
            args: Any = KTOConfig(**settings, **weights)
        else:
            trainer, args = recording(DPOTrainer), DPOConfig(**settings, loss_type=[case.trl])
        run = trainer(
            model=model, ref_model=small_llama(1), args=args, processing_class=byte_tokenizer(),
            train_dataset=unpaired(problems) if kto else paired(problems),
        )  # fmt: skip
        run.remove_callback(transformers.PrinterCallback)
        run.train()
        yield from run.seen


def recording(trainer: Any) -> Any:
    """The trainer, extended to record inputs and outputs of its loss."""

    class Recording(trainer):  # type: ignore[misc]
        def _compute_loss(self, model: Any, inputs: dict[str, Tensor], return_outputs: bool) -> Any:
            found: list[Tensor] = []

            def watched(**given: Any) -> Any:
                outputs = model(**given)
                found.append(outputs.log_probs.detach().sum(1))
                return outputs

            loss = super()._compute_loss(watched, inputs, return_outputs)
            masks = zip(inputs["input_ids"], inputs["attention_mask"], strict=True)
            ids = [row[mask.bool()].tolist() for row, mask in masks]
            self.seen = [*getattr(self, "seen", []), Seen(ids, found[-1], float(loss.detach()))]  # the KL's come first
            return loss

    return Recording


def paired(problems: Sequence[Group]) -> datasets.Dataset:
    rows = [
        {"prompt": prompt_of(g), "chosen": g.rollouts[0].response, "rejected": g.rollouts[1].response} for g in problems
    ]
    return datasets.Dataset.from_list(rows)


def unpaired(problems: Sequence[Group]) -> datasets.Dataset:
    rows = [
        {"prompt": prompt_of(g), "completion": r.response, "label": r.correct} for g in problems for r in g.rollouts
    ]
    return datasets.Dataset.from_list([row for step in in_steps(rows) for row in step])


def prompt_of(group: Group) -> str:
    """The text before a response; TRL adds the end-of-turn token after it."""
    return Encoder(byte_tokenizer(), Newline()).prompt_text(group.problem)


def flat(model: LlamaForCausalLM) -> Tensor:
    """All parameters; [weights]."""
    return torch.cat([p.detach().double().flatten() for p in model.parameters()])


if __name__ == "__main__":
    main()
