"""Which responses a run trains on: chosen by seed, changed by regimes, labelled, in problems that have a term."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from lightning import Trainer

from lit_prm.data.batch import Encoded
from lit_prm.data.data_report import drop_shared, refuse_shared, shared
from lit_prm.data.encoding import Encoder
from lit_prm.data.records import Group, Rollout
from lit_prm.data.regimes import Regime, subsample
from lit_prm.generation.labeling import Labeler
from lit_prm.generation.labeling.base import Labelled
from lit_prm.losses import Loss
from lit_prm.training.sources import Sources


@dataclass(frozen=True, kw_only=True)
class TrainChoice:
    """The choice of training data that the options of ``RolloutDataModule`` describe."""

    sources: Sources
    train: str
    evaluation: Mapping[str, str]  # every validation and test set
    files: Mapping[str, str]  # other files that regimes may read
    responses: int | None
    fraction: float
    regimes: Sequence[Regime]
    shared_problems: Literal["refuse", "drop", "allow"]
    seed: int

    def groups(self) -> tuple[Sequence[Group], dict[str, list[Group]]]:
        """The chosen groups, and those of the training file whose problem each evaluation set has too."""
        groups, in_both = self._without_shared(labelled(self.sources.read("train", self.train), self.train))
        chosen: Sequence[Group] = subsample(
            groups, fraction_of_problems=self.fraction, responses_per_problem=self.responses, seed=self.seed
        )
        for regime in self.regimes:
            chosen = regime(chosen, self._other, self.seed)
        return chosen, in_both

    def _other(self, name: str) -> Sequence[Group]:
        """The groups of another training file, by its name in ``files``."""
        if name not in self.files:
            known = ", ".join(self.files) or "none"
            raise ValueError(
                f"A regime of this experiment needs the file {name!r}, and data.files has: {known}. "
                f"Add --data.files.{name} PATH."
            )
        return self._without_shared(labelled(self.sources.read(name, self.files[name]), self.files[name]))[0]

    def _without_shared(self, groups: Sequence[Group]) -> tuple[Sequence[Group], dict[str, list[Group]]]:
        """The groups that may be trained on, and those of ``groups`` whose problem each evaluation set has too."""
        evaluation = {name: self.sources.read(name, path) for name, path in self.evaluation.items()}
        in_both = shared(groups, evaluation)
        if self.shared_problems == "drop":
            return drop_shared(groups, in_both), in_both
        refuse_shared(in_both, allow=self.shared_problems == "allow")
        return groups, in_both


def with_labels(groups: Sequence[Group], labeler: Labeler | None, encoder: Encoder, trainer: Trainer) -> Labelled:
    """The groups with the step labels of ``labeler``, and the tokens they cost; without a labeler the groups alone."""
    if labeler is None:
        return Labelled(list(groups), {})
    if not trainer.is_global_zero:  # the other ranks find rank zero's results in the cache
        trainer.strategy.barrier()
    try:
        return labeler.label(groups, encoder, trainer.strategy.root_device)
    finally:  # also after an error, for which the others wait too
        if trainer.is_global_zero:
            trainer.strategy.barrier()


def labelled(groups: Sequence[Group], source: str) -> list[Group]:
    """The groups without unlabelled responses; raises if ``source``, the file's name, has no labelled ones."""
    return _with(
        lambda response: response.correct is not None, groups,
        f"{source} has no labelled responses to train on. Give correctness (in rows of one response: label), or label "
        "the responses first.",
    )  # fmt: skip


def with_step_labels(groups: Sequence[Group], loss: Loss, source: str) -> list[Group]:
    """The groups without responses that lack step labels, if the loss trains on step labels; otherwise unchanged."""
    if loss.label != "steps":
        return list(groups)
    return _with(
        lambda response: bool(response.step_labels), groups,
        f"{type(loss).__name__} trains on labels of steps and {source} has none. Set data.labeler, for example to "
        "MathShepherd, or give step_labels beside steps.",
    )  # fmt: skip


def _with(usable: Callable[[Rollout], bool], groups: Sequence[Group], error: str) -> list[Group]:
    """The usable responses of the groups that have any. Raises ValueError with this text if no group has."""
    kept = [group.keep(i for i, r in enumerate(group.rollouts) if usable(r)) for group in groups]
    if not any(group.rollouts for group in kept):
        raise ValueError(error)
    return [group for group in kept if group.rollouts]


def with_a_term(encoded: Sequence[Encoded], loss: Loss) -> list[Encoded]:
    """The rows without problems that have no term in the loss because all their labels are equal, renumbered."""
    if not loss.contrast:
        return list(encoded)
    labels: dict[int, set[float]] = {}
    for row in encoded:
        labels.setdefault(row.group, set()).add(row.label)
    kept = [row for row in encoded if len(labels[row.group]) > 1]
    if not kept:
        raise ValueError(
            f"{type(loss).__name__} compares right with wrong responses and no problem has both. "
            "Raise data.responses, or train with CE, which needs no pairs."
        )
    return [replace(row, row=i) for i, row in enumerate(kept)]


def token_counts(rollouts: Sequence[Encoded]) -> dict[str, int]:
    """Number of responses, of their prompts' tokens and of their own tokens."""
    prompts = sum(row.prompt_length for row in rollouts)
    return {
        "rollout_responses": len(rollouts),
        "rollout_prompt_tokens": prompts,
        "rollout_response_tokens": sum(map(len, rollouts)) - prompts,
    }
