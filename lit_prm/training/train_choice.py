"""Which problems and responses a run trains on: labelled ones, chosen by seed, changed by regimes, labelled by step."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

from lightning import Trainer

from lit_prm.data.data_report import drop_shared, refuse_shared, shared
from lit_prm.data.encoding import Encoder
from lit_prm.data.records import Group
from lit_prm.data.regimes import Regime, subsample
from lit_prm.generation.labeling import Labeler
from lit_prm.generation.labeling.base import Labelled
from lit_prm.training.sources import Sources
from lit_prm.training.trainable import labelled

Shared = Literal["refuse", "drop", "allow"]


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
    shared_problems: Shared
    seed: int

    def groups(self) -> tuple[Sequence[Group], dict[str, list[str]]]:
        """The chosen groups, and the ids of the training file's problems that each evaluation set has too."""
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

    def _without_shared(self, groups: Sequence[Group]) -> tuple[Sequence[Group], dict[str, list[str]]]:
        """The groups that may be trained on, and the problems that each evaluation set shares with ``groups``."""
        evaluation = {name: self.sources.read(name, path) for name, path in self.evaluation.items()}
        if self.shared_problems == "drop":
            return drop_shared(groups, evaluation), shared(groups, evaluation)
        refuse_shared(groups, evaluation, allow=self.shared_problems == "allow")
        return groups, shared(groups, evaluation)


def with_labels(groups: Sequence[Group], labeler: Labeler | None, encoder: Encoder, trainer: Trainer) -> Labelled:
    """The groups with the step labels of ``labeler``, and the tokens they cost; without a labeler the groups alone."""
    if labeler is None:
        return Labelled(list(groups), {})
    with rank_zero_first(trainer):
        return labeler.label(groups, encoder, trainer.strategy.root_device)


@contextmanager
def rank_zero_first(trainer: Trainer) -> Iterator[None]:
    """Run the block on rank zero, then on the other ranks, which find rank zero's results in the cache."""
    if not trainer.is_global_zero:
        trainer.strategy.barrier()
    try:
        yield
    finally:  # also after an error, for which the others wait too
        if trainer.is_global_zero:
            trainer.strategy.barrier()
