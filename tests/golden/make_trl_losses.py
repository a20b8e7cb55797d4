"""Writes trl_losses.json: losses and gradients of TRL's DPOTrainer and KTOTrainer on given per-sequence log-probs.

Run in an environment with `pip install trl==1.16.0`:  python tests/golden/make_trl_losses.py
The trainers' own `_compute_loss` is called on a model that returns given log-probs, so every line of
the objectives is TRL's.
"""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple
from unittest.mock import MagicMock

import torch
import transformers
import trl
from trl import DPOTrainer, KTOTrainer

BETA = 0.05
DESIRABLE = 1.25  # KTO's weight of right responses; of wrong ones it is 1


class Mismatched(NamedTuple):
    """Log-probs of prompts with the responses of other problems; [B] each."""

    policy: torch.Tensor
    reference: torch.Tensor


def outputs_of(logps: torch.Tensor) -> SimpleNamespace:
    """What a model would return for one-token sequences of these log-probs; [B] -> log_probs [B, 1]."""
    zeros = torch.zeros(len(logps), 1)
    return SimpleNamespace(log_probs=logps.unsqueeze(1), entropy=zeros, mean_logits=zeros, is_top1=zeros.bool())


def trainer_of(**settings: Any) -> MagicMock:
    trainer = MagicMock()
    trainer.configure_mock(
        beta=BETA, precompute_ref_logps=True, aux_loss_enabled=False, _total_train_tokens=0, _tp_size=1,
        _metrics={"train": defaultdict(list)}, **settings,
    )  # fmt: skip
    trainer.model.training = True
    trainer.accelerator.gather_for_metrics = trainer.accelerator.gather = lambda x: x
    trainer.accelerator.device = torch.device("cpu")
    return trainer


def trl_pair_loss(loss_type: str, chosen: torch.Tensor, rejected: torch.Tensor, ref: torch.Tensor) -> torch.Tensor:
    """One-token sequences, so that a sequence's log-prob is its token's; [P], [P], [2P] -> []."""
    trainer = trainer_of(
        ld_alpha=None, f_divergence_type="reverse_kl", loss_types=[loss_type], loss_weights=[1.0], use_weighting=False
    )
    outputs, half = outputs_of(torch.cat([chosen, rejected])), len(chosen)
    ids = torch.ones(2 * half, 2, dtype=torch.long)
    inputs = {
        "input_ids": ids, "attention_mask": ids, "completion_mask": torch.tensor([[0, 1]]).expand(2 * half, 2),
        "ref_chosen_logps": ref[:half], "ref_rejected_logps": ref[half:],
    }  # fmt: skip
    loss: torch.Tensor = DPOTrainer._compute_loss(trainer, lambda **_: outputs, inputs, False)
    return loss


def trl_kto_loss(policy: torch.Tensor, reference: torch.Tensor, labels: list[float], kl: Mismatched) -> torch.Tensor:
    """The same, beside as many mismatched sequences, which the model tells by their token; [B], [B] -> []."""
    trainer = trainer_of(loss_type="kto", calculate_KL=True, desirable_weight=DESIRABLE, undesirable_weight=1.0)
    trainer._compute_kl_logps = lambda model, batch: KTOTrainer._compute_kl_logps(trainer, model, batch)
    ids, mask = torch.ones(len(policy), 2, dtype=torch.long), torch.tensor([[0, 1]]).expand(len(policy), 2)
    inputs = {
        "input_ids": ids, "attention_mask": ids, "completion_mask": mask, "ref_logps": reference,
        "KL_input_ids": 2 * ids, "KL_attention_mask": ids, "KL_completion_mask": mask, "ref_KL_logps": kl.reference,
        "label": torch.tensor(labels) > 0.5,
    }  # fmt: skip

    def model(input_ids: torch.Tensor, **_: Any) -> SimpleNamespace:
        return outputs_of(kl.policy if int(input_ids[0, 0]) == 2 else policy)

    loss: torch.Tensor = KTOTrainer._compute_loss(trainer, model, inputs, False)
    return loss


def case(name: str, loss_type: str, groups: list[tuple[int, int]], scale: float, seed: int) -> dict[str, Any]:
    """Problems with (right, wrong) responses; sigmoid and nca_pair see all their pairs, bco_pair disjoint ones."""
    generator = torch.Generator().manual_seed(seed)
    labels = [float(k < right) for right, wrong in groups for k in range(right + wrong)]
    group = [g for g, (right, wrong) in enumerate(groups) for _ in range(right + wrong)]
    reference = -200 * torch.rand(len(labels), generator=generator)
    policy = (reference + scale * torch.randn(len(labels), generator=generator)).requires_grad_()
    ups = [i for i, label in enumerate(labels) if label > 0.5]
    downs = [i for i, label in enumerate(labels) if label < 0.5]
    pairs = [(i, j) for i in ups for j in downs if group[i] == group[j]]
    if loss_type == "bco_pair":
        pairs = list(zip(ups, downs, strict=True))
    w, k = (torch.tensor(side) for side in zip(*pairs, strict=True))
    loss = trl_pair_loss(loss_type, policy[w], policy[k], torch.cat([reference[w], reference[k]]))
    (gradient,) = torch.autograd.grad(loss, policy)
    return {
        "name": name, "loss_type": loss_type, "policy": policy.tolist(), "reference": reference.tolist(),
        "labels": labels, "group": group, "loss": loss.item(), "gradient": gradient.tolist(),
    }  # fmt: skip


def kto_case(name: str, drift: float, scale: float, seed: int) -> dict[str, Any]:
    """Unpaired responses; the mean log-ratio of mismatched ones is about ``drift``."""
    generator = torch.Generator().manual_seed(seed)
    labels = [1.0, 0.0, 0.0, 1.0, 1.0, 0.0, 0.0]
    reference, kl_reference = -200 * torch.rand(2, len(labels), generator=generator)
    policy = (reference + scale * torch.randn(len(labels), generator=generator)).requires_grad_()
    kl_policy = kl_reference + drift + scale * torch.randn(len(labels), generator=generator)
    loss = trl_kto_loss(policy, reference, labels, Mismatched(kl_policy, kl_reference))
    (gradient,) = torch.autograd.grad(loss, policy)
    return {
        "name": name, "loss_type": "kto", "policy": policy.tolist(), "reference": reference.tolist(),
        "labels": labels, "group": list(range(len(labels))), "loss": loss.item(), "gradient": gradient.tolist(),
        "desirable": DESIRABLE, "kl_policy": kl_policy.tolist(), "kl_reference": kl_reference.tolist(),
    }  # fmt: skip


cases = [
    case("sigmoid-one-problem", "sigmoid", [(4, 4)], 20.0, 0),
    case("sigmoid-uneven-problems", "sigmoid", [(1, 7), (3, 5), (2, 0), (6, 2)], 50.0, 1),
    case("sigmoid-far-apart", "sigmoid", [(2, 2), (1, 3)], 500.0, 2),
    case("bco-disjoint", "bco_pair", [(2, 2), (3, 3)], 20.0, 3),
    case("bco-far-apart", "bco_pair", [(4, 4)], 500.0, 4),
    case("nca-one-problem", "nca_pair", [(4, 4)], 20.0, 5),
    case("nca-uneven-problems", "nca_pair", [(1, 7), (3, 5), (2, 0), (6, 2)], 50.0, 6),
    case("nca-far-apart", "nca_pair", [(2, 2), (1, 3)], 500.0, 7),
    kto_case("kto-above-zero", 30.0, 20.0, 8),
    kto_case("kto-below-zero", -30.0, 20.0, 9),
    kto_case("kto-far-apart", 150.0, 100.0, 10),
]
versions = {"trl": trl.__version__, "torch": torch.__version__, "transformers": transformers.__version__}
command = "python tests/golden/make_trl_losses.py"
out = Path(__file__).parent / "trl_losses.json"
out.write_text(json.dumps({"command": command, "versions": versions, "beta": BETA, "cases": cases}, indent=1) + "\n")
