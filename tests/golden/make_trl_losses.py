"""Writes trl_losses.json: losses and gradients of TRL's DPOTrainer on given per-sequence log-probs.

Run in an environment with `pip install trl==1.16.0`:  python tests/golden/make_trl_losses.py
The trainer's own `_compute_loss` is called on a model that returns chosen log-probs, so every line of
the objective is TRL's.
"""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import torch
import transformers
import trl
from trl import DPOTrainer

BETA = 0.05


def trl_loss(loss_type: str, chosen: torch.Tensor, rejected: torch.Tensor, ref: torch.Tensor) -> torch.Tensor:
    """One-token sequences, so that a sequence's log-prob is its token's; [P], [P], [2P] -> []."""
    logps = torch.cat([chosen, rejected]).unsqueeze(1)
    zeros = torch.zeros_like(logps).detach()
    outputs = SimpleNamespace(log_probs=logps, entropy=zeros, mean_logits=zeros, is_top1=zeros.bool())
    trainer = MagicMock()
    trainer.configure_mock(
        beta=BETA, ld_alpha=None, precompute_ref_logps=True, f_divergence_type="reverse_kl", loss_types=[loss_type],
        loss_weights=[1.0], use_weighting=False, aux_loss_enabled=False, _total_train_tokens=0, _tp_size=1,
        _metrics={"train": defaultdict(list)},
    )  # fmt: skip
    trainer.model.training = True
    trainer.accelerator.gather_for_metrics = trainer.accelerator.gather = lambda x: x
    ids = torch.ones(len(logps), 2, dtype=torch.long)
    half = len(chosen)
    inputs = {
        "input_ids": ids, "attention_mask": ids, "completion_mask": torch.tensor([[0, 1]]).expand(len(logps), 2),
        "ref_chosen_logps": ref[:half], "ref_rejected_logps": ref[half:],
    }  # fmt: skip
    loss: torch.Tensor = DPOTrainer._compute_loss(trainer, lambda **_: outputs, inputs, False)
    return loss


def case(name: str, loss_type: str, groups: list[tuple[int, int]], scale: float, seed: int) -> dict[str, Any]:
    """Problems with (right, wrong) responses; sigmoid sees all their pairs, bco_pair disjoint ones."""
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
    loss = trl_loss(loss_type, policy[w], policy[k], torch.cat([reference[w], reference[k]]))
    (gradient,) = torch.autograd.grad(loss, policy)
    return {
        "name": name, "loss_type": loss_type, "policy": policy.tolist(), "reference": reference.tolist(),
        "labels": labels, "group": group, "loss": loss.item(), "gradient": gradient.tolist(),
    }  # fmt: skip


cases = [
    case("sigmoid-one-problem", "sigmoid", [(4, 4)], 20.0, 0),
    case("sigmoid-uneven-problems", "sigmoid", [(1, 7), (3, 5), (2, 0), (6, 2)], 50.0, 1),
    case("sigmoid-far-apart", "sigmoid", [(2, 2), (1, 3)], 500.0, 2),
    case("bco-disjoint", "bco_pair", [(2, 2), (3, 3)], 20.0, 3),
    case("bco-far-apart", "bco_pair", [(4, 4)], 500.0, 4),
]
versions = {"trl": trl.__version__, "torch": torch.__version__, "transformers": transformers.__version__}
command = "python tests/golden/make_trl_losses.py"
out = Path(__file__).parent / "trl_losses.json"
out.write_text(json.dumps({"command": command, "versions": versions, "beta": BETA, "cases": cases}, indent=1) + "\n")
