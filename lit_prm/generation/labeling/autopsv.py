"""AutoPSV: a step is wrong if the verifier's confidence falls over it."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import torch
from lightning.fabric.utilities import move_data_to_device
from rich.progress import track

from lit_prm.data.batch import Encoded
from lit_prm.data.batching import EncodedResponses, TokenBudget
from lit_prm.data.encoding import Encoder
from lit_prm.data.records import Group, Rollout
from lit_prm.generation.labeling.base import Labeler, Labelled, refuse_tokens_as_steps, steps_of
from lit_prm.models.identity import refuse_other_base
from lit_prm.models.reward_model import RewardModel, load_trained
from lit_prm.models.values import step_values


class AutoPSV(Labeler):
    """Labels steps by the confidence of an outcome verifier (Lu et al. 2024, section 4).

    Confidence is sigmoid(value). The first error is the first step over which the confidence falls by more than the
    share ``drop``, or at whose start it is 0. Steps before the first error are labelled 1, the others 0. The
    confidence at the start of a step is that at the end of the step before; for the first step it is that at its first
    token, as in the authors' code, since a verifier gives no value to a prompt. Steps without a token (cut off by
    max_length) are labelled nan, or 0 after an error.

    ``checkpoint`` is a Lightning checkpoint of ``verifier``; ``tokens`` is the size of a batch, with padding.
    """

    NONE = 1e-5  # confidence that counts as 0 in the authors' code

    def __init__(self, verifier: RewardModel, checkpoint: str, drop: float = 0.5, tokens: int = 16384) -> None:
        if not 0 < drop < 1:
            raise ValueError(
                f"drop {drop} is not between 0 and 1. It is the share of confidence lost; the authors use 0.5."
            )
        self.verifier = verifier
        self.checkpoint = checkpoint
        self.drop = drop
        self.tokens = tokens

    def label(self, groups: Sequence[Group], encoder: Encoder, device: torch.device) -> Labelled:
        refuse_tokens_as_steps(encoder)
        encoded = encoder.encode(groups)
        confidences = iter(self._confidences(encoded, device))
        labelled = [
            replace(group, rollouts=tuple(self._labelled(r, encoder, next(confidences)) for r in group.rollouts))
            for group in groups
        ]
        return Labelled(labelled, {"scored": sum(map(len, encoded))})

    def _labelled(self, rollout: Rollout, encoder: Encoder, confidences: Sequence[float]) -> Rollout:
        steps = steps_of(rollout, encoder)
        labels = step_labels(confidences, len(steps), self.drop, self.NONE)
        return replace(rollout, steps=steps, step_labels=labels, error_kinds=None)

    @torch.no_grad()
    def _confidences(self, encoded: Sequence[Encoded], device: torch.device) -> list[list[float]]:
        """Confidence at the first token of each response and at the end of each of its steps; nan without a token."""
        verifier = self._loaded().to(device)
        out: list[list[float]] = [[] for _ in encoded]
        responses, cuts = EncodedResponses(encoded), TokenBudget(encoded, self.tokens)
        for cut in track(cuts, "confidence in steps", len(cuts), transient=True):
            batch = move_data_to_device(responses[cut], device)
            values = verifier(batch)
            first = values.gather(1, batch.prompt_length.unsqueeze(1))
            ends, valid = step_values(values, batch.step)
            rows = torch.cat([first, ends.masked_fill(~valid, float("nan"))], dim=1).sigmoid().tolist()
            for i, row in zip(cut.rows, rows, strict=True):
                out[i] = row
        return out

    def _loaded(self) -> RewardModel:
        """The verifier with the checkpoint's weights, in eval mode. The caller frees it."""
        path = Path(self.checkpoint)
        if not path.exists():
            raise ValueError(
                f"The verifier's checkpoint {self.checkpoint} does not exist. Train the verifier first"
                + (f": make exp NAME={path.parts[-4]}" if path.parts[-2:-1] == ("checkpoints",) else "")
            )
        verifier = copy.deepcopy(self.verifier)
        refuse_other_base(verifier, self.checkpoint)
        verifier.configure_model()
        load_trained(verifier, self.checkpoint)
        return verifier.eval()


def step_labels(confidences: Sequence[float], steps: int, drop: float, none: float) -> tuple[float, ...]:
    """Labels of ``steps`` steps: 1 before the first error, 0 from it on, nan for a step without a confidence before it.

    ``confidences`` holds the confidence at the start and at the end of each step. A nan or missing end is skipped: the
    next step is compared with the last confidence that exists.
    """
    start, *ends = confidences
    defined = [(s, p) for s, p in enumerate(ends[:steps]) if p == p]
    pairs = zip(defined, pairwise([start, *(p for _, p in defined)]), strict=True)
    error = next((s for (s, _), (a, b) in pairs if abs(a) < none or (b - a) / a < -drop), steps)
    scored = {s for s, _ in defined}
    return tuple(0.0 if s >= error else 1.0 if s in scored else float("nan") for s in range(steps))
