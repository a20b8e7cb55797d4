"""TinyMath: everything an experiment reads, made on first use from a seed."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

import torch
from filelock import FileLock, Timeout
from rich import print

from lit_prm.encoding import Encoder
from lit_prm.formats import read_groups, write_groups
from lit_prm.labeling import graded_group
from lit_prm.models import load_tokenizer
from lit_prm.records import Group, Problem, Rollout
from lit_prm.sampling import LocalSampler
from lit_prm.steps import Newline
from lit_prm.tinymath.checker import first_error
from lit_prm.tinymath.problems import TinyProblem, make_problem
from lit_prm.tinymath.sft import train_base
from lit_prm.tinymath.solutions import write_problems
from lit_prm.tinymath.stages import Stages
from lit_prm.tinymath.tokenizer import make_tokenizer


class TinyMath:
    """A world of MATH-like problems small enough to live in: problems, base model, rollouts, candidates.

    Under the root lie ``problems/{train,validation,test}.jsonl``, ``models/{base,generator}``,
    ``rollouts/train.jsonl`` and ``candidates/{validation,test}.jsonl``. The generator is an earlier snapshot
    of the base's training, so it errs where the base need not. The same settings, versions and machine
    give the same bytes.
    """

    def __init__(
        self,
        seed: int = 0,
        train_problems: int = 1600,
        validation_problems: int = 100,
        test_problems: int = 200,
        responses: int = 8,
        validation_candidates: int = 16,
        test_candidates: int = 64,
        temperature: float = 0.7,
        hidden: int = 96,
        layers: int = 3,
        steps: int = 1000,
        generator_steps: int = 600,
        batch_size: int = 24,
        lr: float = 3e-3,
        workers: int = 2,
    ) -> None:
        if not 0 < generator_steps <= steps:
            raise ValueError(f"generator_steps {generator_steps} is not within 1..steps = {steps}")
        self.seed = seed
        self.sizes = {"train": train_problems, "validation": validation_problems, "test": test_problems}
        self.samples = {"train": responses, "validation": validation_candidates, "test": test_candidates}
        self.temperature = temperature
        self.training = {
            "hidden": hidden, "layers": layers, "steps": steps, "generator_steps": generator_steps,
            "batch_size": batch_size, "lr": lr,
        }  # fmt: skip
        self.workers = workers  # says how fast, not what: in no hash

    def build(self, root: Path) -> None:
        """Make what is not there; a second process waits for the first."""
        root.mkdir(parents=True, exist_ok=True)
        with _one_builder(root / ".lock"), _one_thread():
            stages = Stages(root, _sources())
            stages.make("problems", {"seed": self.seed, "sizes": self.sizes}, self._problems)
            stages.make("models", self.training, lambda folder: self._models(root, folder))
            sampled = {"temperature": self.temperature, "samples": self.samples}
            stages.make("rollouts", sampled, lambda folder: self._sample(root, folder, "train"))
            stages.make("candidates", {}, lambda folder: self._candidates(root, folder))

    def problem_texts(self) -> dict[str, list[TinyProblem]]:
        """The problems of every split; no text occurs twice."""
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
        train_base(make_tokenizer(), folder=folder, seed=self.seed, held_out=held_out, **self.training)  # type: ignore[arg-type]

    def _candidates(self, root: Path, folder: Path) -> None:
        for split in ("validation", "test"):
            self._sample(root, folder, split)

    def _sample(self, root: Path, folder: Path, split: str) -> None:
        target = folder / f"{split}.jsonl"
        if target.exists():  # an interrupted build wrote it, whole
            return
        problems = self.problem_texts()[split]
        asked = [g.problem for g in read_groups(str(root / "problems" / f"{split}.jsonl")).groups]
        generator = str(root / "models" / "generator")
        encoder = Encoder(load_tokenizer(generator), Newline())
        sampler = LocalSampler(
            generator, temperature=self.temperature, max_new_tokens=100, workers=self.workers,
            seed=int.from_bytes(hashlib.sha256(f"{split}-{self.seed}".encode()).digest()[:4], "little"),
            progress=f"tinymath: {split} responses",
        )  # fmt: skip
        responses = sampler.sample([encoder.prompt_text(p) for p in asked], self.samples[split])
        write_groups(target, [_judged(p, q, r) for p, q, r in zip(problems, asked, responses, strict=True)])


def _judged(problem: TinyProblem, asked: Problem, responses: list[str]) -> Group:
    """Graded responses with their lines as steps and the first wrong one, known exactly."""
    group = graded_group(asked, responses, generator="tinymath")
    rollouts = (
        Rollout(
            response=r.response, correct=r.correct, answer=r.answer, generator=r.generator,
            steps=tuple(Newline().split(r.response)), first_error=first_error(problem, r.response),
        )
        for r in group.rollouts
    )  # fmt: skip
    return Group(problem=asked, rollouts=tuple(rollouts))


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
    """Sums over several threads round differently: the files would depend on the cores of the machine."""
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


# Modules whose code decides what is in the files, besides this package.
_DECISIVE = (
    "answers", "encoding", "equivalence", "formats", "labeling", "models", "records", "sampling", "schedule", "steps",
)  # fmt: skip


def _sources() -> dict[str, str]:
    """What determines the files besides settings: our code that makes them, and the versions it runs on."""
    package = Path(__file__).parent
    above = [
        path for name in _DECISIVE for path in (package.parent.glob(f"{name}.py"), package.parent.glob(f"{name}/*.py"))
    ]
    files = sorted({*package.glob("*.py"), *(file for found in above for file in found)})
    sources = {str(f.relative_to(package.parent)): hashlib.sha256(f.read_bytes()).hexdigest() for f in files}
    return sources | {name: version(name) for name in ("torch", "transformers", "tokenizers")}
