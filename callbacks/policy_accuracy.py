"""PolicyAccuracy: how often the policy of an implicit reward answers problems correctly itself."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from transformers import PreTrainedModel

from lit_prm.answers import told
from lit_prm.data.encoding import Encoder
from lit_prm.evaluation.candidates import CandidateSet
from lit_prm.evaluation.discrimination import with_interval
from lit_prm.generation.labeling import graded_group
from lit_prm.generation.local_sampler import Decoder
from lit_prm.models.probes import in_eval_mode
from lit_prm.models.reward_model import ImplicitReward


class PolicyAccuracy(Callback):
    """Samples and grades the policy's answers to the problems of test sets (Table 3 of the paper).

    Logged at the end of test, each with ``/low`` and ``/high`` of a 95 % interval over problems:
    ``policy/<set>/greedy`` is the share of right greedy answers, ``policy/<set>/sampled`` the share of right answers
    among ``samples`` at ``temperature``. Problems without a gold answer are left out. The samples depend on
    prompts and weights alone. ``sets`` names test sets; the default is the first one.

    Nothing is logged for reward models that are not an ``ImplicitReward`` and in a fast_dev_run.
    """

    def __init__(
        self, samples: int = 4, temperature: float = 0.7, max_new_tokens: int = 100, sets: Sequence[str] | None = None
    ) -> None:
        if samples < 1 or not temperature > 0:
            raise ValueError(
                f"samples is {samples} and temperature is {temperature}. There must be at least one sample, and the "
                "temperature must be above 0."
            )
        self.samples = samples
        self.temperature = temperature
        self.max_new_tokens = max_new_tokens
        self.sets = sets

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        reward_model = pl_module.reward_model
        if trainer.fast_dev_run or not isinstance(reward_model, ImplicitReward):  # type: ignore[attr-defined]
            return
        metrics: dict[str, float] = {}
        sharded = getattr(trainer.strategy, "zero_stage_3", False)  # then all ranks must generate together
        if trainer.is_global_zero or sharded:
            metrics = self._measured(trainer, reward_model.policy)
        metrics = trainer.strategy.broadcast(metrics)
        pl_module.log_dict(metrics, sync_dist=trainer.world_size > 1)

    def _measured(self, trainer: Trainer, policy: PreTrainedModel) -> dict[str, float]:
        encoder: Encoder = trainer.datamodule.encoder()  # type: ignore[attr-defined]
        known: dict[str, CandidateSet] = {c.name: c for c in trainer.datamodule.candidates("test")}  # type: ignore[attr-defined]
        metrics: dict[str, float] = {}
        with in_eval_mode(policy), trainer.precision_plugin.forward_context():
            for name in list(known)[:1] if self.sets is None else self.sets:
                if name not in known:
                    raise ValueError(
                        f"PolicyAccuracy: {name!r} is no test set. The test sets are: {', '.join(known)}. "
                        "Name some of them in sets."
                    )
                metrics |= self._set_metrics(known[name], encoder, policy)
        return metrics

    def _set_metrics(self, candidates: CandidateSet, encoder: Encoder, policy: PreTrainedModel) -> dict[str, float]:
        problems = [g.problem for g in candidates.groups if g.problem.answer is not None]
        prompts = [encoder.prompt_text(problem) for problem in problems]
        metrics: dict[str, float] = {}
        for how, temperature, n in (("greedy", 0.0, 1), ("sampled", self.temperature, self.samples)):
            decoder = Decoder(policy, encoder.tokenizer, temperature, self.max_new_tokens)
            groups = map(graded_group, problems, decoder.sample(prompts, n))
            with told(f"policy/{candidates.name}/{how}"):
                right = np.array([group.accuracy for group in groups])
            metrics |= with_interval(f"policy/{candidates.name}/{how}", right) if problems else {}
        return metrics
