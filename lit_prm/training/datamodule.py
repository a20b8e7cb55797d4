"""RolloutDataModule: files to groups, choice of data regime, checks, batches."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, Protocol, cast

import torch
from lightning import LightningDataModule, Trainer
from lightning.pytorch.loops.progress import _ProcessedTracker
from lightning.pytorch.utilities import rank_zero_only
from rich.console import Console
from rich.text import Text
from torch.utils.data import DataLoader

from lit_prm.data.batch import Batch, Encoded
from lit_prm.data.batching import EncodedResponses, TokenBudget, Updates, mismatch
from lit_prm.data.data_report import DataReport, drop_shared, refuse_shared, shared
from lit_prm.data.encoding import Encoder
from lit_prm.data.formats import Reading, read_groups
from lit_prm.data.formats.sources import names_file
from lit_prm.data.records import Group
from lit_prm.data.regimes import Regime, subsample
from lit_prm.data.steps import BlankLine, StepRule
from lit_prm.evaluation.candidates import CandidateSet
from lit_prm.generation.labeling import Labeler
from lit_prm.losses import Loss
from lit_prm.losses.ce import CE
from lit_prm.models.language_model import load_tokenizer
from lit_prm.training.trainable import labelled, token_counts, with_a_term, with_step_labels

_SETS: dict[tuple[object, ...], CandidateSet] = {}  # by the content of their files and the encoder's
MOST_SETS = 32


class World(Protocol):
    """Makes the files of a data root on first use, e.g. the embedded ``TinyMath``."""

    def build(self, root: Path) -> None:
        """Leave every file under ``root``; return at once when they are there."""
        ...


class RolloutDataModule(LightningDataModule):
    """Labelled rollouts for training and named candidate sets for best-of-N.

    Paths are relative to ``root``; a name that is no file is a hub data set. Unlabelled responses are not
    trained on; candidates without labels can be scored, not judged. ``fraction`` and ``responses`` choose
    problems and responses by ``seed``, nested: smaller choices lie inside larger; ``regimes`` then change what was
    chosen, one after the other, with the help of other named ``files``; at last a ``labeler`` gives steps
    their labels. With ``share_prompts`` training runs each prompt once for all its responses of a micro-batch: fewer
    tokens, the same rewards up to rounding. ``batch_size`` counts responses per update, over all devices;
    ``trainer.accumulate_grad_batches`` says into how many micro-batches an update is cut, and changes nothing else.
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
        _refuse_unfit_names({**(validation or {}), **(test or {})})
        _refuse_ambiguous(validation or {}, test or {}, files or {})
        self.tokenizer_name = tokenizer
        self.train_file = train
        self.files = files or {}
        self.sets = {"validate": validation or {}, "test": test or {}}
        self.root = Path(root).expanduser()
        self.world = world
        self.steps = steps or BlankLine()
        self.responses = responses
        self.fraction = fraction
        self.regimes = regimes or []
        self.labeler = labeler
        self.batch_size = batch_size
        self.eval_tokens = eval_tokens
        self.max_length = max_length
        self.prompt_template = prompt_template
        self.share_prompts = share_prompts
        self.limit_candidates = limit_candidates
        self.shared_problems = shared_problems
        self.bad_rows = bad_rows
        self.seed = seed
        self.report: DataReport | None = None
        self._readings: dict[str, Reading] = {}
        self._train: list[Encoded] = []
        self._mismatched: list[Encoded] = []
        self._rollout_tokens: dict[str, int] = {}
        self._label_tokens: dict[str, int] = {}
        self._candidates: dict[str, CandidateSet] = {}
        self._updates: Updates | None = None
        self._skip = 0

    # --- what others ask for -------------------------------------------------------------------

    def candidates(self, stage: str) -> list[CandidateSet]:
        """The candidate sets of "validate" or "test", in the order of their loaders."""
        return [self._candidates[name] for name in self.sets[stage]]

    def digests(self) -> dict[str, str]:
        """Content hash of every file read, by its role."""
        return {role: reading.digest for role, reading in self._readings.items()}

    def every_loader(self) -> list[DataLoader[Batch]]:
        """A rank's share of every distinct response of training and evaluation, for references that are stored."""
        evaluated = (c.encoded for c in self._candidates.values())
        return [self._in_order(rows) for rows in (self._train, self._mismatched, *evaluated) if rows]

    def spent(self) -> dict[str, int]:
        """Tokens that the training data cost: the rollouts that regime and labeler left, and their step labels."""
        return self._rollout_tokens | {f"labelling_{kind}_tokens": n for kind, n in self._label_tokens.items()}

    # --- hooks of Lightning ----------------------------------------------------------------------

    def prepare_data(self) -> None:
        if self.world is not None:
            self.world.build(self.root)

    def setup(self, stage: str) -> None:
        stages = {"fit": ["validate"], "validate": ["validate"], "test": ["test"], "predict": ["test"]}[stage]
        encoder = self.encoder()
        for name, path in ((n, p) for s in stages for n, p in self.sets[s].items()):
            self._setup_candidates(name, path, encoder, judged=stage != "predict")
        if stage == "fit":
            self._updates = None
            if not self._train:
                self._setup_train(encoder)

    def encoder(self) -> Encoder:
        """The encoder of training, validation and scoring alike."""
        return Encoder(
            load_tokenizer(self.tokenizer_name),
            self.steps,
            max_length=self.max_length,
            prompt_template=self.prompt_template,
        )

    def train_dataloader(self) -> DataLoader[Batch]:
        trainer = self.trainer
        self._updates = Updates(
            self._train,
            self.batch_size,
            cuts=trainer.accumulate_grad_batches if trainer else 1,
            rank=trainer.global_rank if trainer else 0,
            ranks=trainer.world_size if trainer else 1,
            seed=self.seed,
        )
        self._updates.skip, self._skip = self._skip, 0
        rows = EncodedResponses(self._train, self._mismatched, share_prompts=self.share_prompts)
        return _loader(rows, self._updates)

    def val_dataloader(self) -> list[DataLoader[Batch]]:
        return self._eval_loaders("validate")

    def test_dataloader(self) -> list[DataLoader[Batch]]:
        return self._eval_loaders("test")

    def predict_dataloader(self) -> list[DataLoader[Batch]]:
        return self._eval_loaders("test")

    def state_dict(self) -> dict[str, Any]:
        """How many micro-batches of the epoch are done, so that a resumed epoch goes on with the next."""
        progress = cast(Trainer, self.trainer).fit_loop.epoch_loop.batch_progress
        done = cast(_ProcessedTracker, progress.current).processed
        return {"skip": 0 if progress.is_last_batch else done}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._skip = int(state_dict["skip"])
        if self._updates is not None:  # DeepSpeed reads a checkpoint after the loader was made
            self._updates.skip, self._skip = self._skip, 0

    # --- steps of setup ----------------------------------------------------------------------------

    def _read(self, role: str, path: str) -> Sequence[Group]:
        if role not in self._readings:
            local = self.root / Path(path).expanduser()
            source = str(local if local.exists() or names_file(path) else path)
            self._readings[role] = read_groups(source, on_bad=self.bad_rows)
        return self._readings[role].groups

    def _setup_candidates(self, name: str, path: str, encoder: Encoder, *, judged: bool) -> None:
        known = self._candidates.get(name)
        if known is not None and (known.judged or not judged):
            return
        every = self._read(name, path)
        groups = [g for g in every if g.rollouts]
        address = (name, self._readings[name].digest, self.limit_candidates, encoder.identity, judged)
        if address not in _SETS:  # experiments that one process runs share them
            made = CandidateSet.of(name, groups[: self.limit_candidates], encoder, judged=judged)
            if len(_SETS) >= MOST_SETS:
                _SETS.clear()
            _SETS[address] = made
        self._candidates[name] = _SETS[address]
        left = len(every) - len(groups)
        self._say(self._candidates[name].summary() + (f", {left} problems without responses left out" if left else ""))

    def _setup_train(self, encoder: Encoder) -> None:
        chosen, both = self._chosen()
        chosen = with_step_labels(self._with_labels(chosen, encoder), self._loss, self.train_file)
        encoded = encoder.encode(chosen)
        self._train = with_a_term(encoded, self._loss)
        if self._loss.mismatched:
            self._mismatched = mismatch(self._train, self.seed, self.max_length)
        self._rollout_tokens = token_counts(encoded)
        self.report = DataReport.of(
            chosen,
            reading=self._readings["train"],
            prompt_tokens=[e.prompt_length for e in encoded],
            response_tokens=[len(e) - e.prompt_length for e in encoded],
            truncated=sum(e.truncated for e in encoded),
            shared=both,
            unlabelled=sum(r.correct is None for g in self._readings["train"].groups for r in g.rollouts),
            steps=Counter(encoder.steps_from(r) for g in chosen for r in g.rollouts),
            steps_per_response=[len(set(e.step.tolist())) for e in encoded],
        )
        self._show(self.report)

    def _chosen(self) -> tuple[Sequence[Group], dict[str, list[str]]]:
        """The groups of this data regime, and the problems that evaluation sets shared with the file."""
        groups, both = self._without_shared(labelled(self._read("train", self.train_file), self.train_file))
        chosen: Sequence[Group] = subsample(
            groups, fraction_of_problems=self.fraction, responses_per_problem=self.responses, seed=self.seed
        )
        for regime in self.regimes:
            chosen = regime(chosen, self._others, self.seed)
        return chosen, both

    def _others(self, name: str) -> Sequence[Group]:
        """Another file to train on, by its name at this scale."""
        if name not in self.files:
            known = ", ".join(self.files) or "none"
            raise ValueError(
                f"a regime of this experiment needs the file {name!r}, data.files has: {known}; "
                f"add --data.files.{name} PATH"
            )
        return self._without_shared(labelled(self._read(name, self.files[name]), self.files[name]))[0]

    def _with_labels(self, groups: Sequence[Group], encoder: Encoder) -> Sequence[Group]:
        """The groups with what the labeler says of their steps."""
        if self.labeler is None:
            return groups
        trainer = cast(Trainer, self.trainer)
        with _one_after_the_other(trainer):
            made = self.labeler.label(groups, encoder, trainer.strategy.root_device)
        self._label_tokens = made.tokens
        return made.groups

    @property
    def _loss(self) -> Loss:
        """What is trained, which knows what labels and rows it needs."""
        module = getattr(self.trainer, "lightning_module", None)
        return getattr(module, "loss", None) or CE()

    def _without_shared(self, groups: Sequence[Group]) -> tuple[Sequence[Group], dict[str, list[str]]]:
        """The groups to train on, and the problems that each evaluation set shared with those given."""
        evaluation = {name: self._read(name, path) for sets in self.sets.values() for name, path in sets.items()}
        if self.shared_problems == "drop":
            return drop_shared(groups, evaluation), shared(groups, evaluation)
        refuse_shared(groups, evaluation, allow=self.shared_problems == "allow")
        return groups, shared(groups, evaluation)

    def _eval_loaders(self, stage: str) -> list[DataLoader[Batch]]:
        return [self._in_order(candidates.encoded) for candidates in self.candidates(stage)]

    def _in_order(self, encoded: Sequence[Encoded]) -> DataLoader[Batch]:
        """A rank's batches, longest responses first."""
        rank, ranks = (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)
        sampler = TokenBudget(encoded, self.eval_tokens, rank=rank, ranks=ranks)
        return _loader(EncodedResponses(encoded), sampler)

    @rank_zero_only
    def _show(self, report: DataReport) -> None:
        report.show()

    @rank_zero_only
    def _say(self, line: str) -> None:
        Console().print(Text(line), soft_wrap=True)


def _loader(responses: EncodedResponses, sampler: Updates | TokenBudget) -> DataLoader[Batch]:
    """A loader that draws from a generator of its own: a resumed run makes fewer, and its dropout must not notice."""
    return DataLoader(responses, sampler=sampler, batch_size=None, generator=torch.Generator())


@contextmanager
def _one_after_the_other(trainer: Trainer) -> Iterator[None]:
    """Rank zero works first, so that others find in its cache what it made."""
    if not trainer.is_global_zero:
        trainer.strategy.barrier()
    try:
        yield
    finally:  # others wait, for an error, too
        if trainer.is_global_zero:
            trainer.strategy.barrier()


def _refuse_unfit_names(sets: dict[str, str]) -> None:
    """A set's name is part of metric names and file names."""
    for name in sets:
        if not re.fullmatch(r"[A-Za-z0-9_.-]+", name):
            raise ValueError(
                f"candidate set {name!r}: a name has letters A-Z, digits, _ . and - only, since metrics and files "
                f"are called by it; call it {re.sub('[^A-Za-z0-9_.-]+', '-', name)!r}, say"
            )


def _refuse_ambiguous(validation: dict[str, str], test: dict[str, str], files: dict[str, str]) -> None:
    """A set's name stands for one file in metrics and digests, where "train" is the training data."""
    for name in {**validation, **test}:
        if name in {"train", *files} or validation.get(name, test.get(name)) != test.get(name, validation.get(name)):
            raise ValueError(f"candidate set {name!r} is the name of two files; call one of them something else")
