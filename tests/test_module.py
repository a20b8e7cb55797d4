from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import nullcontext
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from torch import Tensor
from torch.utils.data import DataLoader
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from lit_prm.data.batch import Batch, Encoded, collate
from lit_prm.data.batching import Cut, EncodedResponses
from lit_prm.data.encoding import Encoder
from lit_prm.data.records import Group, Problem, Rollout
from lit_prm.data.steps import BlankLine
from lit_prm.losses import Loss
from lit_prm.losses.ce import CE
from lit_prm.losses.dpo import DPO
from lit_prm.models.language_model import load_model
from lit_prm.models.reference import Frozen, Reference, Stored, Uniform
from lit_prm.models.reward_model import ImplicitReward
from lit_prm.training.module import LitPRM
from lit_prm.training.reward_metrics import reward_metrics
from lit_prm.training.schedule import WarmupCosine
from tests import reference as slow
from tests.conftest import small_llama
from tests.rounding import float32_bound, largest, network_bound

pytestmark = pytest.mark.filterwarnings("ignore:.*no `val_dataloader`")  # updates alone are looked at

BETA = 0.3
TOKENS = 400  # of all responses with their prompts, at most
RESPONSES = [
    [("Add.\n\n14", True), ("13", False), ("7 * 2 = 14", True)],
    [("Step 1: no\n\nStep 2: yes\n\nit is 3", False), ("3", True)],
    [("never", False), ("no\n\n9", False)],
    [("8 + 1\n\n= 9", True), ("1", False)],
]


@pytest.fixture(scope="module")
def rows(tokenizer: PreTrainedTokenizerFast) -> list[Encoded]:
    groups = [
        Group(
            problem=Problem(prompt=f"What is problem {p}?", id=str(p)),
            rollouts=tuple(Rollout(response=text, correct=right) for text, right in responses),
        )
        for p, responses in enumerate(RESPONSES)
    ]
    encoded = Encoder(tokenizer, BlankLine()).encode(groups)
    assert sum(map(len, encoded)) <= TOKENS
    return encoded


def sgd(params: Iterator[torch.nn.Parameter]) -> torch.optim.Optimizer:
    return torch.optim.SGD(params, lr=1.0)


def one_update(
    loader: object, folder: Path, reference: Reference, loss: Loss, accumulate: int = 1
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The gradient of one update as the trainer makes it, and what was logged of it."""
    model = LitPRM(ImplicitReward(str(folder), reference, beta=BETA), loss, optimizer=sgd, schedule=WarmupCosine(0, 1))
    trainer = Trainer(
        accelerator="cpu", max_epochs=1, accumulate_grad_batches=accumulate, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, use_distributed_sampler=False,
    )  # fmt: skip
    trainer.fit(model, loader)
    assert trainer.global_step == 1
    before = dict(load_model(str(folder)).named_parameters())
    assert model.policy is not None
    after = {name: value.detach() for name, value in model.policy.named_parameters()}
    return {n: before[n].detach() - v for n, v in after.items()}, dict(trainer.callback_metrics)


def cuts(rows: list[Encoded], *problems: tuple[int, ...]) -> DataLoader[Batch]:
    """Micro-batches of these problems in this order, all of one update."""
    whole = tuple(range(len(rows)))
    parts = [Cut(tuple(r.row for p in part for r in rows if r.group == p), whole) for part in problems]
    return DataLoader(EncodedResponses(rows), sampler=parts, batch_size=None)


def close(left: dict[str, Tensor], right: dict[str, Tensor]) -> None:
    most = max(map(largest, left.values()))
    assert most > 1e-3  # there is a gradient
    rounding = network_bound(TOKENS, most, gradient=True)
    for name, value in left.items():
        torch.testing.assert_close(value, right[name], rtol=0, atol=rounding, msg=f"gradient of {name} differs")


# --- law 3 ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", [CE(), DPO()])
def test_the_first_loss_is_ln_2_when_the_policy_is_the_reference(
    rows: list[Encoded], policy_folder: Path, loss: Loss
) -> None:
    _, logged = one_update(cuts(rows, (0, 1, 2, 3)), policy_folder, Frozen(str(policy_folder)), loss)
    # the same kernels on the same batch leave rewards of 0
    assert float(logged["train/loss"]) == pytest.approx(math.log(2), abs=float32_bound(8, 1.0))
    assert float(logged["rewards/margins"]) == pytest.approx(0, abs=float32_bound(8, 1.0))


# --- law 5 ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", [CE(), DPO()])
def test_one_update_does_not_depend_on_how_it_is_cut_ordered_padded_or_where_its_reference_comes_from(
    rows: list[Encoded], policy_folder: Path, reference_folder: Path, tmp_path: Path, loss: Loss
) -> None:
    live = Frozen(str(reference_folder))
    whole, logged = one_update(cuts(rows, (0, 1, 2, 3)), policy_folder, live, loss)
    stored = Stored(str(reference_folder), str(tmp_path / "r.sqlite"))
    padded = DataLoader(Padded([collate(rows)]), batch_size=None)
    others = {
        "cut": one_update(cuts(rows, (0, 3), (1, 2)), policy_folder, live, loss, accumulate=2),
        "one part without a pair": one_update(cuts(rows, (2,), (3, 0, 1)), policy_folder, live, loss, accumulate=2),
        "order": one_update(cuts(rows, (3, 1, 0, 2)), policy_folder, live, loss),
        "padding": one_update(padded, policy_folder, live, loss),
        "store": one_update(cuts(rows, (0, 1, 2, 3)), policy_folder, stored, loss),
    }
    rounding = network_bound(TOKENS, BETA * 100)  # sums of log-probs are up to a hundred
    for gradient, metrics in others.values():
        close(whole, gradient)
        for name in ("train/loss", "train/auc", "rewards/margins", "rewards/accuracies", "rewards/length_correlation"):
            torch.testing.assert_close(metrics[name], logged[name], rtol=0, atol=rounding)


class Padded(EncodedResponses):
    """Batches with eleven more columns of padding, of an id that means something."""

    def __init__(self, batches: list[Batch]) -> None:
        self.batches = batches

    def __getitem__(self, index: int) -> Batch:  # type: ignore[override]
        batch = self.batches[index]
        wide = torch.nn.functional.pad
        return batch._replace(ids=wide(batch.ids, (0, 11), value=7), step=wide(batch.step, (0, 11), value=-1))

    def __len__(self) -> int:
        return len(self.batches)


# --- a slow, obvious reference --------------------------------------------------------------------


@pytest.mark.parametrize("loss", [CE(), DPO()])
def test_the_logged_loss_is_that_of_rewards_computed_token_by_token(
    rows: list[Encoded], policy_folder: Path, reference_folder: Path, loss: Loss
) -> None:
    policy, frozen = load_model(str(policy_folder)), load_model(str(reference_folder))
    _, logged = one_update(cuts(rows, (0, 1), (2, 3)), policy_folder, Frozen(str(reference_folder)), loss, 2)
    rewards = torch.tensor([
        BETA * (sum(slow.token_logps(policy, r.ids.tolist(), r.prompt_length))
                - sum(slow.token_logps(frozen, r.ids.tolist(), r.prompt_length)))
        for r in rows
    ])  # fmt: skip
    labels, group = torch.tensor([r.label for r in rows]), torch.tensor([r.group for r in rows])
    wanted = slow.ce(rewards, labels) if isinstance(loss, CE) else slow.dpo(rewards, labels, group)
    assert float(logged["train/loss"]) == pytest.approx(float(wanted), rel=1e-4)
    assert float(logged["rewards/chosen"]) == pytest.approx(float(rewards[labels > 0].mean()), rel=1e-4)
    assert float(logged["rewards/rejected"]) == pytest.approx(float(rewards[labels < 1].mean()), rel=1e-4)


def test_scores_of_a_batch_are_its_rewards_steps_and_reference_steps(
    rows: list[Encoded], policy_folder: Path, reference_folder: Path
) -> None:
    model = LitPRM(ImplicitReward(str(policy_folder), Frozen(str(reference_folder)), beta=BETA), CE())
    model.configure_model()
    with torch.no_grad():
        scores = model.score(collate(rows[::-1]))
    frozen = load_model(str(reference_folder))
    assert scores.row.tolist() == [r.row for r in rows[::-1]]
    sums, rounding = (scores.steps * scores.valid).sum(1), float32_bound(8, largest(scores.steps))
    torch.testing.assert_close(sums, scores.reward, rtol=0, atol=rounding)
    for i, row in enumerate(rows[::-1]):
        steps = slow.step_rewards(slow.token_logps(frozen, row.ids.tolist(), row.prompt_length), row.step.tolist())
        assert scores.valid[i].nonzero().squeeze(1).tolist() == sorted(steps)
        for s, value in steps.items():
            assert float(scores.reference_steps[i, s]) == pytest.approx(value, abs=1e-3)


# --- what is reported of an update ----------------------------------------------------------------


def slow_metrics(rewards: list[float], labels: list[float], group: list[int], tokens: list[int]) -> dict[str, float]:
    right = [r for r, label in zip(rewards, labels, strict=True) if label]
    wrong = [r for r, label in zip(rewards, labels, strict=True) if not label]
    pairs = [(w, k) for w, k in product(range(len(rewards)), repeat=2)
             if group[w] == group[k] and labels[w] and not labels[k]]  # fmt: skip
    auc = [1.0 if r > w else 0.5 if r == w else 0.0 for r in right for w in wrong]
    return {
        "train/auc": float(np.mean(auc)),
        "rewards/chosen": float(np.mean(right)),
        "rewards/rejected": float(np.mean(wrong)),
        "rewards/margins": float(np.mean(right) - np.mean(wrong)),
        "rewards/accuracies": float(np.mean([rewards[w] > rewards[k] for w, k in pairs])),
        "rewards/length_correlation": float(np.corrcoef(rewards, tokens)[0, 1]),
    }


@pytest.mark.parametrize("scale", [0.1, 1.0, 40.0])
def test_reward_metrics_equal_loops_over_pairs_at_any_scale_of_rewards(scale: float) -> None:
    rng = np.random.default_rng(int(scale * 10))
    rewards = (scale * rng.normal(size=12).round(1)).tolist()  # some ties
    labels, group = rng.integers(0, 2, 12).astype(float).tolist(), (np.arange(12) // 4).tolist()
    tokens = rng.integers(3, 20, 12).tolist()
    found = reward_metrics(torch.tensor(rewards), torch.tensor(labels), torch.tensor(group), torch.tensor(tokens))
    assert {k: float(v) for k, v in found.items()} == {
        k: pytest.approx(v, abs=1e-5) for k, v in slow_metrics(rewards, labels, group, tokens).items()
    }


def test_auc_of_large_rewards_is_not_lost_in_a_sigmoid() -> None:
    found = reward_metrics(torch.tensor([30.0, 40.0]), torch.tensor([0.0, 1.0]), torch.zeros(2), torch.tensor([3, 3]))
    assert float(found["train/auc"]) == 1


def test_what_is_undefined_is_absent() -> None:
    def names(labels: list[float], group: list[int], rewards: list[float], tokens: list[int]) -> set[str]:
        tensors = (torch.tensor(x) for x in (rewards, labels, group, tokens))
        return {name.split("/")[1] for name in reward_metrics(*tensors)}

    assert names([1.0] * 3, [0] * 3, [1.0, 2.0, 3.0], [4, 5, 7]) == {"length_correlation"}
    both = {"auc", "chosen", "rejected", "margins"}
    assert names([1.0, 0.0, 0.0], [0, 1, 2], [1.0, 2.0, 3.0], [4, 4, 4]) == both
    assert names([1.0, 0.0, 0.0], [0, 0, 1], [2.0, 2.0, 2.0], [4, 5, 6]) == both | {"accuracies"}


def test_weights_are_loaded_once_and_only_when_configured(policy_folder: Path) -> None:
    model = LitPRM(ImplicitReward(str(policy_folder), Frozen(str(policy_folder))), CE())
    assert model.policy is None
    assert list(model.parameters()) == []
    model.configure_model()
    policy = model.policy
    model.configure_model()
    assert model.policy is policy
    assert isinstance(model.reference, Frozen)


# --- what cannot go on ----------------------------------------------------------------------------


@pytest.mark.parametrize(("batches", "refused"), [(3, True), (4, False)])
def test_an_epoch_that_ends_within_an_update_is_refused(
    batches: int, refused: bool, rows: list[Encoded], policy_folder: Path
) -> None:
    trainer = Trainer(
        accelerator="cpu", max_epochs=1, accumulate_grad_batches=2, limit_train_batches=batches, logger=False,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    model = LitPRM(ImplicitReward(str(policy_folder), Uniform(), beta=BETA), CE(), optimizer=sgd)
    if refused:
        model.on_fit_start = lambda: pytest.fail("references would have been asked")  # type: ignore[method-assign]
    with (
        pytest.raises(ValueError, match=r"3 micro-batches, in the middle of an update.*multiple of 2")
        if refused
        else nullcontext()
    ):
        trainer.fit(model, cuts(rows, (0, 3), (1, 2), (0, 3), (1, 2)))


def test_a_policy_is_untrained_in_its_first_fit_only(rows: list[Encoded], policy_folder: Path) -> None:
    found = []

    class Asks(Callback):
        def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
            assert isinstance(pl_module, LitPRM)
            found.append(pl_module.untrained_policy())

    model = LitPRM(ImplicitReward(str(policy_folder), Uniform(), beta=BETA), CE(), optimizer=sgd)
    for _ in range(2):
        trainer = Trainer(
            accelerator="cpu", max_epochs=1, logger=False, enable_checkpointing=False, callbacks=[Asks()],
            enable_progress_bar=False, enable_model_summary=False,
        )  # fmt: skip
        trainer.fit(model, cuts(rows, (0, 1, 2, 3)))
    assert found == [model.policy, None]


def test_in_bfloat16_a_policy_that_is_its_reference_earns_nothing_however_far(tmp_path: Path) -> None:
    """Rotary frequencies cast with the weights would turn far positions of the policy alone."""
    small_llama(0).save_pretrained(tmp_path)
    ids = torch.randint(400, (1, 500), generator=torch.Generator().manual_seed(0)).int().numpy()[0]
    far = [Encoded(ids, 100, np.zeros(400, np.int32), 1.0, 0, 0)]
    model = LitPRM(ImplicitReward(str(tmp_path), Frozen(str(tmp_path)), beta=BETA), CE(), optimizer=sgd)
    trainer = Trainer(
        accelerator="cpu", max_epochs=1, precision="bf16-true", logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(model, cuts(far, (0,)))
    assert trainer.callback_metrics["train/loss"] == pytest.approx(math.log(2), abs=float32_bound(4, 1.0))


def test_a_checkpoint_of_another_model_is_refused(policy_folder: Path) -> None:
    model = LitPRM(ImplicitReward(str(policy_folder), Frozen(str(policy_folder))), CE())
    model.configure_model()
    with pytest.raises(ValueError, match="not those of this model"):
        model.load_state_dict({"other.weight": torch.zeros(1)}, strict=model.strict_loading)


@pytest.mark.parametrize("beta", [0.0, -1.0, math.nan, math.inf])
def test_a_beta_that_scales_nothing_is_refused(beta: float) -> None:
    with pytest.raises(ValueError, match="is not positive and finite"):
        ImplicitReward("x", Frozen("x"), beta=beta)


def test_a_reference_whose_log_probs_would_be_misread_is_refused(
    rows: list[Encoded], policy_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = LlamaForCausalLM.forward

    def capped(self: LlamaForCausalLM, *args: Any, **options: Any) -> Any:
        out = plain(self, *args, **options)
        out.logits = 2 * torch.tanh(out.logits / 2)
        return out

    monkeypatch.setattr(LlamaForCausalLM, "forward", capped)
    with pytest.raises(ValueError, match="changes its logits after the output head"):
        Frozen(str(policy_folder)).logps(collate(rows))
