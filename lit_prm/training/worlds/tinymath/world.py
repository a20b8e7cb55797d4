"""TinyMath: all data and models of an experiment, made from a seed on first use."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import torch
from filelock import FileLock, Timeout
from rich import print

from lit_prm.data.encoding import Encoder
from lit_prm.data.formats import read_groups, write_groups
from lit_prm.data.records import Group, Problem, Rollout
from lit_prm.data.steps import Newline
from lit_prm.generation.labeling import graded_group
from lit_prm.generation.local_sampler import LocalSampler
from lit_prm.models.language_model import load_tokenizer
from lit_prm.training.worlds.stages import Stages
from lit_prm.training.worlds.tinymath.checker import error_kinds, first_of
from lit_prm.training.worlds.tinymath.irrelevant import code, general, irrelevant_groups
from lit_prm.training.worlds.tinymath.problems import TinyProblem, make_problem
from lit_prm.training.worlds.tinymath.sft import train_models
from lit_prm.training.worlds.tinymath.solutions import write_problems
from lit_prm.training.worlds.tinymath.tokenizer import make_tokenizer

VERSION = "2"
"""Increase this with every change of code that changes a file of the world; cached worlds are then built again.

A golden test (``tests/tinymath/test_world.py``) fails when the texts change and the version does not.
"""


class SampledSplit(NamedTuple):
    """The ``model`` writes ``responses`` responses to each of the first ``problems`` of a split (None: all)."""

    split: str
    model: str
    responses: int
    problems: int | None = None


class TinyMath:
    """A small world of MATH-like problems with models, rollouts and candidates, made in minutes on two CPU cores.

    ``build`` writes these files under the root:

    - ``problems/{train,validation,test}.jsonl``
    - ``models/{base,generator,weaker,stronger}``: base is a Llama trained from scratch on the solutions of authors, of
      whom many hold misconceptions; generator is an earlier snapshot of its training and makes more mistakes; weaker
      is a still earlier one; stronger is base after ``expert_steps`` more updates on solutions of experts
    - ``rollouts/train.jsonl``, sampled from generator; ``rollouts/other.jsonl``, half as many, from weaker
    - ``candidates/{validation,test}.jsonl``, from generator; ``candidates/{weaker,stronger}.jsonl``, from weaker and
      stronger, to the first ``other_test_problems`` test problems
    - ``irrelevant/{general,code}.jsonl``: a right and a wrong response to instructions that no model was trained on.

    ``fluent_errors`` in [0, 1] scales the share of authors with misconceptions. At 0 all authors are experts, and the
    models' errors are slips alone. At 1 most errors are misconceptions, which the models write as fluently as right
    steps. The same settings, versions of libraries and machine give the same bytes.
    """

    def __init__(
        self,
        seed: int = 0,
        train_problems: int = 1200,
        validation_problems: int = 100,
        test_problems: int = 200,
        responses: int = 8,
        validation_candidates: int = 16,
        test_candidates: int = 64,
        other_test_problems: int = 60,
        irrelevant_problems: int = 400,
        temperature: float = 0.7,
        hidden: int = 96,
        layers: int = 3,
        steps: int = 1200,
        generator_steps: int = 1000,
        weaker_steps: int = 700,
        expert_steps: int = 150,
        fluent_errors: float = 1.0,
        batch_size: int = 24,
        lr: float = 3e-3,
        workers: int = 2,
    ) -> None:
        if not 0 < generator_steps <= steps:
            raise ValueError(
                f"generator_steps {generator_steps} is not within 1..{steps}. Give at most steps = {steps}"
            )
        if not 0 < weaker_steps < generator_steps:
            raise ValueError(
                f"weaker_steps {weaker_steps} is not within 1..{generator_steps - 1}. The weaker model is an earlier "
                f"snapshot than the generator of {generator_steps} steps: give a smaller number"
            )
        if expert_steps < 0:
            raise ValueError(f"expert_steps {expert_steps} is negative. Give 0 or more updates on experts' solutions")
        if not 0 <= fluent_errors <= 1:
            raise ValueError(
                f"fluent_errors {fluent_errors} is not within 0..1. Give 0 for authors without misconceptions, "
                "1 for the most"
            )
        self.seed = seed
        self.sizes = {"train": train_problems, "validation": validation_problems, "test": test_problems}
        self.irrelevant_problems = irrelevant_problems
        self.temperature = temperature
        self.rollouts = {
            "train": SampledSplit("train", "generator", responses),
            "other": SampledSplit("train", "weaker", max(responses // 2, 1)),
        }
        self.candidates = {
            "validation": SampledSplit("validation", "generator", validation_candidates),
            "test": SampledSplit("test", "generator", test_candidates),
            "weaker": SampledSplit("test", "weaker", test_candidates, other_test_problems),
            "stronger": SampledSplit("test", "stronger", test_candidates, other_test_problems),
        }
        self.training = {
            "hidden": hidden, "layers": layers, "steps": steps, "batch_size": batch_size, "lr": lr,
            "expert_steps": expert_steps, "fluent_errors": fluent_errors,
            "snapshots": {"generator": generator_steps, "weaker": weaker_steps},
        }  # fmt: skip
        self.workers = workers  # changes no file, so it is in no hash

    def build(self, root: Path) -> None:
        """Make the files that are missing; a second process waits for the first."""
        root.mkdir(parents=True, exist_ok=True)
        with _one_builder(root / ".lock"), _one_thread():
            stages = Stages(root, _versions())
            stages.make("problems", {"seed": self.seed, "sizes": self.sizes}, self._problems)
            stages.make("models", self.training, lambda folder: self._models(root, folder))
            for name, files in (("rollouts", self.rollouts), ("candidates", self.candidates)):
                settings = {"temperature": self.temperature, "files": files}
                stages.make(name, settings, partial(self._sample, root, files))
            stages.make("irrelevant", {"problems": self.irrelevant_problems}, self._irrelevant)

    def problem_texts(self) -> dict[str, list[TinyProblem]]:
        """The problems of every split; no text is in two of them."""
        rng = random.Random(f"problems-{self.seed}")
        seen: set[str] = set()
        return {split: [_fresh(rng, seen) for _ in range(size)] for split, size in self.sizes.items()}

    def _problems(self, folder: Path) -> None:
        rng = random.Random(f"solutions-{self.seed}")
        for split, problems in self.problem_texts().items():
            write_problems(folder / f"{split}.jsonl", split, problems, rng)

    def _models(self, root: Path, folder: Path) -> None:
        print(f"tinymath: training the base model ({self.training['steps']} updates)")
        held_out = frozenset(p.text for problems in self.problem_texts().values() for p in problems)
        train_models(make_tokenizer(), folder=folder, seed=self.seed, held_out=held_out, **self.training)  # type: ignore[arg-type]

    def _sample(self, root: Path, files: Mapping[str, SampledSplit], folder: Path) -> None:
        for name, sampled in files.items():
            target = folder / f"{name}.jsonl"
            if not target.exists():  # otherwise an interrupted build wrote all of it
                write_groups(target, self._responses(root, name, sampled))

    def _responses(self, root: Path, name: str, sampled: SampledSplit) -> list[Group]:
        exact = self.problem_texts()[sampled.split][: sampled.problems]
        written = read_groups(str(root / "problems" / f"{sampled.split}.jsonl")).groups
        problems = [g.problem for g in written[: sampled.problems]]
        model = str(root / "models" / sampled.model)
        encoder = Encoder(load_tokenizer(model), Newline())
        sampler = LocalSampler(
            model, temperature=self.temperature, max_new_tokens=100, workers=self.workers,
            seed=int.from_bytes(hashlib.sha256(f"{name}-{self.seed}".encode()).digest()[:4], "little"),
            progress=f"tinymath: {name} responses",
        )  # fmt: skip
        responses = sampler.sample([encoder.prompt_text(p) for p in problems], sampled.responses)
        return [_checked(p, q, r, sampled.model) for p, q, r in zip(exact, problems, responses, strict=True)]

    def _irrelevant(self, folder: Path) -> None:
        for draw in (general, code):
            groups = irrelevant_groups(draw, self.irrelevant_problems, f"{draw.__name__}-{self.seed}")
            write_groups(folder / f"{draw.__name__}.jsonl", groups)


def _checked(exact: TinyProblem, problem: Problem, responses: list[str], generator: str) -> Group:
    """Graded responses whose steps are their lines, with the exact first wrong step."""
    group, checked = graded_group(problem, responses, generator), list[Rollout]()
    for rollout in group.rollouts:
        kinds, steps = error_kinds(exact, rollout.response), tuple(Newline().split(rollout.response))
        checked.append(replace(rollout, steps=steps, first_error=first_of(kinds), error_kinds=kinds))
    return replace(group, rollouts=tuple(checked))


@contextmanager
def _one_builder(lock: Path) -> Iterator[None]:
    held = FileLock(lock)
    try:
        held.acquire(blocking=False)
    except Timeout:
        print(f"tinymath: another process is building {lock.parent}; waiting for it")
        held.acquire()
    try:
        yield
    finally:
        held.release()


@contextmanager
def _one_thread() -> Iterator[None]:
    """Use one torch thread: with more, sums round differently and the files depend on the machine's number of cores."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _fresh(rng: random.Random, seen: set[str]) -> TinyProblem:
    while (problem := make_problem(rng)).text in seen:
        pass
    seen.add(problem.text)
    return problem


def _versions() -> dict[str, str]:
    """Versions that determine the files besides the settings: of this world and of the libraries it uses."""
    return {"tinymath": VERSION} | {name: version(name) for name in ("torch", "transformers", "tokenizers")}
