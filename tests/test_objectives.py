"""Every objective through the trainer: an update does not depend on how its global batch was cut (law 5)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning import Trainer
from torch import Tensor
from torch.utils.data import DataLoader
from transformers import PreTrainedTokenizerFast

from lit_prm.data.batch import Batch, Encoded, collate
from lit_prm.data.batching import Cut, EncodedResponses, mismatch
from lit_prm.data.encoding import Encoder
from lit_prm.data.records import Group, Problem, Rollout
from lit_prm.data.steps import BlankLine
from lit_prm.losses import Loss
from lit_prm.losses.ce import CE
from lit_prm.losses.dpo import DPO
from lit_prm.losses.kto import KTO
from lit_prm.losses.prefix_ce import PrefixCE
from lit_prm.losses.step_rank import StepRank
from lit_prm.losses.steps import StepCE
from lit_prm.models.language_model import load_model
from lit_prm.models.logps import token_logps
from lit_prm.models.reference import Frozen, Reference, Uniform
from lit_prm.models.reward_model import ImplicitReward, OutcomeHead, RewardModel, StepHead
from lit_prm.models.weights import weights_hash
from lit_prm.training.module import LitPRM
from lit_prm.training.schedule import WarmupCosine
from tests import reference as slow
from tests.rounding import largest, network_bound

pytestmark = pytest.mark.filterwarnings("ignore:.*no `val_dataloader`")

TEXTS = ["Add.\n\n14", "Step 1: no\n\nit is 3\n\n9", "7 * 2 = 14", "never\n\nno"]
LABELS = [(1, 0, 1), (0, 1), (0, 0), (1, 0), (1, 1, 0, 0), (0,), (1, 0), (0, 1)]  # of eight problems


def rollout(text: str, right: bool) -> Rollout:
    steps = tuple(BlankLine().split(text))
    marks = (1.0, 0.5, 0.0)[-len(steps) :] if not right else (1.0,) * len(steps)
    return Rollout(response=text, correct=right, steps=steps, step_labels=marks)


@pytest.fixture(scope="module")
def rows(tokenizer: PreTrainedTokenizerFast) -> list[Encoded]:
    groups = [
        Group(
            problem=Problem(prompt=f"What is problem {p}{'!' * p}?", id=str(p)),
            rollouts=tuple(rollout(TEXTS[(p + i) % 4] + "." * i, bool(right)) for i, right in enumerate(labels)),
        )
        for p, labels in enumerate(LABELS)
    ]
    return Encoder(tokenizer, BlankLine()).encode(groups)


def micro_batches(rows: list[Encoded], loss: Loss, cuts: int) -> DataLoader[Batch]:
    """The eight problems as one update, cut into so many micro-batches."""
    whole = tuple(row.row for row in rows)
    problems = np.array_split(np.arange(8), cuts)
    share = tuple(tuple(r.row for r in rows if r.group in part) for part in problems)
    parts = [Cut(part, whole, share if i == 0 else ()) for i, part in enumerate(share)]
    others = mismatch(rows, 0, 512) if loss.mismatched else ()
    return DataLoader(EncodedResponses(rows, others), sampler=parts, batch_size=None)


def sgd(params: Iterator[torch.nn.Parameter]) -> torch.optim.Optimizer:
    return torch.optim.SGD(params, lr=1.0)


def gradient(rows: list[Encoded], model: RewardModel, loss: Loss, cuts: int) -> tuple[dict[str, Tensor], float]:
    """The change one update with rate 1 makes, and its logged loss."""
    module = LitPRM(model, loss, Uniform(), optimizer=sgd, schedule=WarmupCosine(0, 1))
    trainer = Trainer(
        accelerator="cpu", max_epochs=1, accumulate_grad_batches=cuts, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, use_distributed_sampler=False,
    )  # fmt: skip
    module.configure_model()
    before = {name: value.detach().clone() for name, value in module.named_parameters()}
    trainer.fit(module, micro_batches(rows, loss, cuts))
    assert trainer.global_step == 1
    changes = {name: before[name] - value.detach() for name, value in module.named_parameters()}
    return changes, float(trainer.callback_metrics["train/loss"])


def implicit(folder: Path, reference: Path) -> RewardModel:
    return ImplicitReward(str(folder), Frozen(str(reference)), beta=0.3)


MODELS: dict[str, Callable[[Path, Path], RewardModel]] = {
    "implicit": implicit,
    "outcome head": lambda folder, _: OutcomeHead(str(folder)),
    "step head": lambda folder, _: StepHead(str(folder)),
}
CASES = [
    ("implicit", KTO(desirable=1.5)), ("implicit", DPO(per_problem=True)), ("implicit", PrefixCE(margin=0.5, late=1.0)),
    ("implicit", StepCE()), ("implicit", StepRank()), ("outcome head", CE()), ("outcome head", DPO()),
    ("step head", StepCE()), ("step head", PrefixCE(margin=0.0, normalise=False)),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "loss"), CASES, ids=[f"{k}-{type(loss).__name__}" for k, loss in CASES])
def test_an_update_does_not_depend_on_the_size_of_its_micro_batches(
    rows: list[Encoded], policy_folder: Path, reference_folder: Path, kind: str, loss: Loss
) -> None:
    """Micro-batches of 8, 4 and 1 problems, to float32's rounding."""
    whole, value = gradient(rows, MODELS[kind](policy_folder, reference_folder), loss, 1)
    most = max(map(largest, whole.values()))
    assert most > 1e-3
    tokens = sum(map(len, rows))
    rounding = network_bound(tokens, most, gradient=True)
    for cuts in (2, 8):
        parts, other = gradient(rows, MODELS[kind](policy_folder, reference_folder), loss, cuts)
        assert other == pytest.approx(value, abs=network_bound(tokens, max(1.0, value)))
        for name, change in whole.items():
            torch.testing.assert_close(parts[name], change, rtol=0, atol=rounding, msg=f"gradient of {name} differs")


@pytest.mark.parametrize("cuts", [1, 4])
def test_an_update_without_pairs_has_loss_0_and_changes_no_weight(
    rows: list[Encoded], policy_folder: Path, reference_folder: Path, cuts: int
) -> None:
    right = [replace(row, label=1.0) for row in rows]
    changes, loss = gradient(right, implicit(policy_folder, reference_folder), DPO(), cuts)
    assert loss == 0
    assert all(not change.any() for change in changes.values())


def test_ktos_zero_point_is_the_mean_reward_of_every_mismatched_response(
    rows: list[Encoded], policy_folder: Path, reference_folder: Path
) -> None:
    """Also when it is clamped; here by the two models' roles exchanged, whose log-ratios have opposite signs."""
    zeros = []
    for policy, reference in ((policy_folder, reference_folder), (reference_folder, policy_folder)):
        module = LitPRM(implicit(policy, reference), KTO(), optimizer=sgd, schedule=WarmupCosine(0, 1))
        module.configure_model()
        batch = collate(mismatch(rows, 0, 512))
        with torch.no_grad():
            ratios = token_logps(load_model(str(policy)), batch) - token_logps(load_model(str(reference)), batch)
        expected = max(float(0.3 * ratios.sum(1).mean()), 0.0)
        first = next(iter(micro_batches(rows, KTO(), 4)))
        module._trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, barebones=False)
        zeros.append(float(module._zero_point(first)))
        assert zeros[-1] == pytest.approx(expected, abs=1e-4)
    assert max(zeros) > 0


def test_the_loss_of_kto_is_that_of_rewards_less_their_zero_point(
    rows: list[Encoded], policy_folder: Path, reference_folder: Path
) -> None:
    policy, frozen = load_model(str(policy_folder)), load_model(str(reference_folder))

    def rewards(of: list[Encoded]) -> Tensor:
        batch = collate(of)
        with torch.no_grad():
            return 0.3 * (token_logps(policy, batch) - token_logps(frozen, batch)).sum(1)

    models = implicit(policy_folder, reference_folder), implicit(reference_folder, policy_folder)
    signs = (1, -1)  # of the rewards, because the roles of the two models are exchanged; one zero point is clamped
    labels, mismatched = torch.tensor([row.label for row in rows]), rewards(mismatch(rows, 0, 512))
    found = [gradient(rows, model, KTO(), 1)[1] for model in models]
    wanted = [float(slow.kto(sign * rewards(rows), labels, sign * mismatched, 1.0, 1.0)) for sign in signs]
    assert found == pytest.approx(wanted, abs=1e-4)
    unshifted = [float(slow.kto(sign * rewards(rows), labels, torch.zeros(1), 1.0, 1.0)) for sign in signs]
    assert max(abs(a - b) for a, b in zip(wanted, unshifted, strict=True)) > 1e-2  # the zero point is seen


@pytest.mark.parametrize("head", [OutcomeHead, StepHead])
def test_a_head_starts_at_reward_zero_and_reads_what_training_reads(
    rows: list[Encoded], policy_folder: Path, head: type[OutcomeHead] | type[StepHead]
) -> None:
    module = LitPRM(head(str(policy_folder)), CE())
    module.configure_model()
    batch = collate(rows)
    assert module.score(batch).reward.tolist() == [0.0] * len(rows)
    torch.nn.init.normal_(module.reward_model.head.weight)  # type: ignore[union-attr, arg-type]
    with torch.no_grad():
        scores, values = module.score(batch), module(batch)
        view = module._view(values, batch)
    torch.testing.assert_close(scores.steps, view.step_rewards)
    for i, row in enumerate(rows):
        ends = [max(t for t, s in enumerate(row.step) if s == k) + row.prompt_length for k in sorted(set(row.step))]
        read = values[i, ends]
        if head is OutcomeHead:  # only the last one counts, and it is the reward of the response
            assert scores.valid[i].sum() == 1
            assert float(scores.steps[i].sum()) == float(scores.reward[i]) == float(values[i, len(row) - 1])
        else:
            torch.testing.assert_close(scores.steps[i, scores.valid[i]], read)
        assert int(scores.reference_valid[i].sum()) == len(ends)


def test_a_reference_may_differ_between_training_and_scoring(
    rows: list[Encoded], policy_folder: Path, reference_folder: Path
) -> None:
    frozen: Reference = Frozen(str(reference_folder))
    batch = collate(rows)

    def rewards(training: bool, **own: Any) -> Tensor:
        module = LitPRM(ImplicitReward(str(policy_folder), beta=1.0, **own), CE(), frozen)
        module.configure_model()
        module.reward_model.train(training)
        with torch.no_grad():
            return module.score(batch).reward

    with_it, without = rewards(True), rewards(True, reference=Uniform())
    assert not torch.allclose(with_it, without)
    torch.testing.assert_close(rewards(False, scoring_reference=Uniform()), without)
    torch.testing.assert_close(rewards(True, scoring_reference=Uniform()), with_it)
    torch.testing.assert_close(rewards(True, training_reference=Uniform()), without)
    torch.testing.assert_close(rewards(False, training_reference=Uniform()), with_it)


def test_an_implicit_reward_without_any_reference_is_told_how_to_say_so(policy_folder: Path) -> None:
    with pytest.raises(ValueError, match=r"Set model\.reference; .*Uniform means no reference model"):
        ImplicitReward(str(policy_folder)).references()


def test_a_second_stage_starts_from_the_first_ones_weights(
    rows: list[Encoded], policy_folder: Path, reference_folder: Path, tmp_path: Path
) -> None:
    first = LitPRM(implicit(reference_folder, policy_folder), CE())
    first.configure_model()
    torch.save({"state_dict": first.state_dict()}, tmp_path / "last.ckpt")
    second = LitPRM(implicit(policy_folder, policy_folder), StepCE(), start=str(tmp_path / "last.ckpt"))
    second.configure_model()
    with torch.no_grad():
        torch.testing.assert_close(second.score(collate(rows)).reward, first.score(collate(rows)).reward)
    for base, refused in ((weights_hash(str(policy_folder)), False), ("0" * 64, True)):
        torch.save({"state_dict": first.state_dict(), "identity": {"base": base}}, tmp_path / "last.ckpt")
        second = LitPRM(implicit(policy_folder, policy_folder), StepCE(), start=str(tmp_path / "last.ckpt"))
        told = r"last\.ckpt and the model do not belong together: the hashes are base 000000000000 against \w{12}\."
        with pytest.raises(ValueError, match=told) if refused else nullcontext():
            second.configure_model()
    lost = LitPRM(implicit(policy_folder, policy_folder), StepCE(), start=str(tmp_path / "no.ckpt"))
    with pytest.raises(ValueError, match=r"no\.ckpt to start from\. First run the experiment of the first stage"):
        lost.configure_model()
