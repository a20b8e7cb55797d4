"""RolloutDataModule: reads rollouts, chooses what to train on, checks and encodes it, and makes batches."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, cast

import torch
from lightning import LightningDataModule, Trainer
from lightning.pytorch.loops.progress import _ProcessedTracker
from lightning.pytorch.utilities import rank_zero_only
from rich.console import Console
from rich.text import Text
from torch.utils.data import DataLoader

from lit_prm.data.batch import Batch, Encoded
from lit_prm.data.batching import EncodedResponses, TokenBudget, Updates, mismatch
from lit_prm.data.data_report import DataReport
from lit_prm.data.encoding import Encoder
from lit_prm.data.regimes import Regime
from lit_prm.data.steps import BlankLine, StepRule
from lit_prm.evaluation.candidates import CandidateSet
from lit_prm.generation.labeling import Labeler
from lit_prm.losses import CE, Loss
from lit_prm.models.language_model import load_tokenizer
from lit_prm.scoring.planning import planned
from lit_prm.training.sources import CandidateSets, Sources, World, refuse_bad_sets
from lit_prm.training.trainable import TrainChoice, token_counts, with_a_term, with_labels, with_step_labels


class RolloutDataModule(LightningDataModule):
    """Labelled rollouts for training and named candidate sets for best-of-N.

    Paths are relative to ``root``; a name that is not a file's is that of a hub data set. Responses without a label
    are left out of training. Candidates without a label can be scored (``predict``), but not evaluated.

    The training data are chosen in this order. ``fraction`` and ``responses`` choose problems and responses by
    ``seed``; a smaller choice lies inside every larger one. ``regimes`` then change the choice one after the other
    and may read other named ``files``. At last ``labeler`` gives the steps their labels.

    ``batch_size`` is the number of responses per update over all devices. ``trainer.accumulate_grad_batches`` is the
    number of micro-batches that an update is cut into; it changes neither loss nor gradient. With ``share_prompts``
    training runs each prompt of a micro-batch once for all its responses: fewer tokens, equal rewards up to rounding.
    """

    def __init__(
        self,
        tokenizer: str,
        train: str,
        validation: dict[str, str] | None = None,
        test: dict[str, str] | None = None,
        files: dict[str, str] | None = None,
        root: str = ".",
        world: World | None = None,
        steps: StepRule | None = None,
        responses: int | None = None,
        fraction: float = 1.0,
        regimes: list[Regime] | None = None,
        labeler: Labeler | None = None,
        batch_size: int = 64,
        eval_tokens: int = 16384,
        max_length: int = 2048,
        prompt_template: str = "{prompt}",
        share_prompts: bool = False,
        limit_candidates: int | None = None,
        shared_problems: Literal["refuse", "drop", "allow"] = "refuse",
        bad_rows: Literal["raise", "skip"] = "raise",
        seed: int = 0,
    ) -> None:
        super().__init__()
        refuse_bad_sets(validation or {}, test or {}, files or {})
        self.tokenizer_name = tokenizer
        self.train_file = train
        self.sets = {"validate": validation or {}, "test": test or {}}
        self.root = Path(root).expanduser()
        self.world = world
        self.steps = steps or BlankLine()
        self.labeler = labeler
        self.batch_size = batch_size
        self.eval_tokens = eval_tokens
        self.max_length = max_length
        self.prompt_template = prompt_template
        self.share_prompts = share_prompts
        self.seed = seed
        self.report: DataReport | None = None
        self.sources = Sources(self.root, bad_rows)
        self._candidates = CandidateSets(self.sources, limit_candidates)
        self._choice = TrainChoice(
            sources=self.sources,
            train=train,
            evaluation={**self.sets["validate"], **self.sets["test"]},
            files=files or {},
            responses=responses,
            fraction=fraction,
            regimes=regimes or [],
            shared_problems=shared_problems,
            seed=seed,
        )
        self._train: list[Encoded] = []
        self._mismatched: list[Encoded] = []
        self._rollout_tokens: dict[str, int] = {}
        self._label_tokens: dict[str, int] = {}
        self._updates: Updates | None = None
        self._skip = 0

    def candidates(self, stage: str) -> list[CandidateSet]:
        """The candidate sets of "validate" or "test", in the order of their loaders."""
        return [self._candidates.by_name[name] for name in self.sets[stage]]

    def digests(self) -> dict[str, str]:
        """Content hash of every file that was read, by its role: "train" or the name of a set or file."""
        return self.sources.digests()

    def every_loader(self) -> list[DataLoader[Batch]]:
        """Loaders over this rank's share of all distinct responses, with which a stored reference is filled."""
        evaluated = (c.encoded for c in self._candidates.by_name.values())
        return [self._in_order(rows) for rows in (self._train, self._mismatched, *evaluated) if rows]

    def spent(self) -> dict[str, int]:
        """Number of tokens of the chosen rollouts, and of the samples that their step labels cost, for ``Costs``."""
        return self._rollout_tokens | {f"labelling_{kind}_tokens": n for kind, n in self._label_tokens.items()}

    def prepare_data(self) -> None:
        if self.world is not None:
            self.world.build(self.root)

    def setup(self, stage: str) -> None:
        stages = {"fit": ["validate"], "validate": ["validate"], "test": ["test"], "predict": ["test"]}[stage]
        encoder = self.encoder()
        for name, path in ((n, p) for s in stages for n, p in self.sets[s].items()):
            self._candidates.add(name, path, encoder, judged=stage != "predict", say=self._say)
        if stage == "fit":
            self._updates = None
            if not self._train:
                self._setup_train(encoder)

    def encoder(self) -> Encoder:
        """The encoder that training, validation and scoring share."""
        tokenizer = load_tokenizer(self.tokenizer_name)
        return Encoder(tokenizer, self.steps, max_length=self.max_length, prompt_template=self.prompt_template)

    def train_dataloader(self) -> DataLoader[Batch]:
        cuts, (rank, ranks) = self.trainer.accumulate_grad_batches if self.trainer else 1, self._rank
        self._updates = Updates(self._train, self.batch_size, cuts=cuts, rank=rank, ranks=ranks, seed=self.seed)
        self._updates.skip, self._skip = self._skip, 0
        rows = EncodedResponses(self._train, self._mismatched, share_prompts=self.share_prompts)
        return _loader(rows, self._updates)

    def val_dataloader(self) -> list[DataLoader[Batch]]:
        return self._eval_loaders("validate")

    def test_dataloader(self) -> list[DataLoader[Batch]]:
        return self._eval_loaders("test")

    predict_dataloader = test_dataloader

    def state_dict(self) -> dict[str, Any]:
        """Number of finished micro-batches of this epoch; a resumed epoch continues after them."""
        progress = cast(Trainer, self.trainer).fit_loop.epoch_loop.batch_progress
        done = cast(_ProcessedTracker, progress.current).processed
        return {"skip": 0 if progress.is_last_batch else done}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._skip = int(state_dict["skip"])
        if self._updates is not None:  # DeepSpeed loads a checkpoint after it has built the loader
            self._updates.skip, self._skip = self._skip, 0

    def _setup_train(self, encoder: Encoder) -> None:
        chosen, in_both = self._choice.groups()
        fitting = self.sources.fitting(encoder.written_out(chosen), encoder)
        too_long, chosen = len(chosen) - len(fitting), fitting
        with_steps = with_labels(chosen, self.labeler, encoder, cast(Trainer, self.trainer))
        self._label_tokens = with_steps.tokens
        groups = with_step_labels(with_steps.groups, self._loss, self.train_file)
        encoded = encoder.encode(groups)
        self._train = with_a_term(encoded, self._loss)
        if self._loss.mismatched:
            self._mismatched = mismatch(self._train, self.seed, self.max_length)
        self._rollout_tokens = token_counts(encoded)
        reading = self.sources.readings["train"]
        steps = Counter(encoder.steps_from(r) for g in groups for r in g.rollouts)
        self.report = DataReport.of(groups, encoded, reading=reading, steps=steps, shared=in_both, too_long=too_long)
        rank_zero_only(self.report.show)()

    @property
    def _loss(self) -> Loss:
        """The module's loss, which knows which labels and responses it needs; CE without a module."""
        module = getattr(self.trainer, "lightning_module", None)
        return getattr(module, "loss", None) or CE()

    def _eval_loaders(self, stage: str) -> list[DataLoader[Batch]]:
        module: Any = getattr(self.trainer, "lightning_module", None)
        may_share = hasattr(module, "may_share_prompts") and module.may_share_prompts()  # a module of one's own may not
        return [self._in_order(candidates.encoded, may_share) for candidates in self.candidates(stage)]

    def _in_order(self, encoded: Sequence[Encoded], may_share: bool = False) -> DataLoader[Batch]:
        """Batches of one rank: from problem to problem if that saves much, else longest responses first."""
        rank, ranks = self._rank
        batches, shares = zip(*planned(encoded, self.eval_tokens, may_share=may_share), strict=True)
        sampler = TokenBudget(encoded, self.eval_tokens, rank=rank, ranks=ranks, batches=batches)
        return _loader(EncodedResponses(encoded, share_prompts=shares[0]), sampler)

    @property
    def _rank(self) -> tuple[int, int]:
        """The rank of this process and the number of ranks; one rank without a trainer."""
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)

    @rank_zero_only
    def _say(self, line: str) -> None:
        Console().print(Text(line), soft_wrap=True)


def _loader(responses: EncodedResponses, sampler: Updates | TokenBudget) -> DataLoader[Batch]:
    """A loader with its own generator: from the global one, a resumed run's dropout would draw other numbers."""
    return DataLoader(responses, sampler=sampler, batch_size=None, generator=torch.Generator())
