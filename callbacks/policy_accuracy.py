"""The policy of an implicit reward judged as a policy: how often are its own answers right?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from transformers import PreTrainedModel

from lit_prm.data.encoding import Encoder
from lit_prm.evaluation.candidates import CandidateSet
from lit_prm.evaluation.discrimination import with_interval
from lit_prm.generation.labeling import graded_group
from lit_prm.generation.local_sampler import Decoder
from lit_prm.models.reward_model import ImplicitReward


class PolicyAccuracy(Callback):
    """Generates and grades answers to the problems of the named test sets (Table 3 of the paper).

    Logged at the end of test, each with ``/low`` and ``/high`` of a 95 % interval over problems:
    ``policy/<set>/greedy``, the share of right greedy answers, and ``policy/<set>/sampled``, that among
    ``samples`` answers at ``temperature``. Problems without a gold answer are left out. Other reward models
    have no policy to judge, and a fast_dev_run judges nothing. The draws depend on the
    prompts and the weights alone. ``sets`` names test sets; by default the first one.
    """

    def __init__(
        self,
        samples: int = 4,
        temperature: float = 0.7,
        max_new_tokens: int = 100,
        sets: Sequence[str] | None = None,
    ) -> None:
        if samples < 1 or not temperature > 0:
            raise ValueError(
                f"{samples} samples at temperature {temperature}: there must be at least one, at a temperature above 0"
            )
        self.samples = samples
        self.temperature = temperature
        self.max_new_tokens = max_new_tokens
        self.sets = sets

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        reward_model = pl_module.reward_model
        if trainer.fast_dev_run or not isinstance(reward_model, ImplicitReward):  # type: ignore[attr-defined]
            return
        found: dict[str, float] = {}
        if trainer.is_global_zero or _in_pieces(trainer):
            found = self._measured(trainer, reward_model.policy)
        found = trainer.strategy.broadcast(found)
        pl_module.log_dict(found, sync_dist=trainer.world_size > 1)

    def _measured(self, trainer: Trainer, policy: PreTrainedModel) -> dict[str, float]:
        encoder: Encoder = trainer.datamodule.encoder()  # type: ignore[attr-defined]
        known: dict[str, CandidateSet] = {c.name: c for c in trainer.datamodule.candidates("test")}  # type: ignore[attr-defined]
        found: dict[str, float] = {}
        mode = policy.training
        policy.eval()
        try:
            with trainer.precision_plugin.forward_context():
                for name in list(known)[:1] if self.sets is None else self.sets:
                    found |= self._of_set(_named(name, known), encoder, policy)
        finally:
            policy.train(mode)
        return found

    def _of_set(self, candidates: CandidateSet, encoder: Encoder, policy: PreTrainedModel) -> dict[str, float]:
        problems = [g.problem for g in candidates.groups if g.problem.answer is not None]
        prompts = [encoder.prompt_text(problem) for problem in problems]
        found: dict[str, float] = {}
        for how, temperature, n in (("greedy", 0.0, 1), ("sampled", self.temperature, self.samples)):
            decoder = Decoder(policy, encoder.tokenizer, temperature, self.max_new_tokens)
            groups = map(graded_group, problems, decoder.sample(prompts, n))
            right = np.array([group.accuracy for group in groups])
            found |= with_interval(f"policy/{candidates.name}/{how}", right) if problems else {}
        return found


def _named(name: str, known: dict[str, CandidateSet]) -> CandidateSet:
    if name not in known:
        raise ValueError(f"PolicyAccuracy: {name!r} is no test set, these are: {', '.join(known)}; name some of them")
    return known[name]


def _in_pieces(trainer: Trainer) -> bool:
    """Whether every rank holds a part of the weights, so that none can generate without the others."""
    return bool(getattr(trainer.strategy, "zero_stage_3", False))
