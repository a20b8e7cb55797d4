from __future__ import annotations

import random
from collections import Counter
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from lit_prm.data.batch import Batch
from lit_prm.data.encoding import Encoder
from lit_prm.data.steps import Newline
from lit_prm.models.language_model import load_model, load_tokenizer
from lit_prm.training.worlds.tinymath import sft
from lit_prm.training.worlds.tinymath.checker import error_kinds
from lit_prm.training.worlds.tinymath.problems import make_problem
from lit_prm.training.worlds.tinymath.sft import EXPERT_LR, SFT, Curriculum, Keep, Solutions, train_models
from lit_prm.training.worlds.tinymath.tokenizer import EOS, make_tokenizer

SETTINGS: dict[str, Any] = {
    "hidden": 32, "layers": 1, "steps": 6, "expert_steps": 2, "snapshots": {"generator": 3, "weaker": 1},
    "batch_size": 3, "lr": 3e-3, "seed": 0, "held_out": frozenset(), "fluent_errors": 1.0,
}  # fmt: skip


@pytest.fixture(scope="module")
def words() -> PreTrainedTokenizerFast:
    return make_tokenizer(samples=3000)


@pytest.fixture(scope="module")
def uninterrupted(words: PreTrainedTokenizerFast, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sft")
    train_models(words, folder=folder, **SETTINGS)
    return folder


def weights(folder: Path, name: str) -> dict[str, Tensor]:
    return load_file(folder / name / "model.safetensors")


def same(left: dict[str, Tensor], right: dict[str, Tensor]) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[k], right[k]) for k in left)


class Stop(Exception):
    pass


def stop_at(monkeypatch: pytest.MonkeyPatch, update: int) -> None:
    """The process ends, as far as files can tell, when the update of this number is about to begin."""
    original = SFT.training_step

    def step(self: SFT, batch: Any, batch_idx: int) -> Tensor:
        if self.global_step == update:
            raise Stop
        return original(self, batch, batch_idx)

    monkeypatch.setattr(SFT, "training_step", step)


# --- laws -----------------------------------------------------------------------------------------


MODELS = ("stronger", "base", "generator", "weaker")


@pytest.mark.parametrize("stops", [(5,), (2, 7), (3, 5)])
def test_a_training_stopped_and_started_again_ends_bit_for_bit_as_one_never_stopped(
    words: PreTrainedTokenizerFast, uninterrupted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    stops: tuple[int, ...],
) -> None:  # fmt: skip
    monkeypatch.setattr(Keep, "EVERY", 2)
    for update in stops:
        with monkeypatch.context() as context:
            stop_at(context, update)
            with pytest.raises(Stop):
                train_models(words, folder=tmp_path, **SETTINGS)
    done: list[int] = []
    monkeypatch.setattr(SFT, "on_train_batch_start", lambda self, *_: done.append(self.global_step))
    train_models(words, folder=tmp_path, **SETTINGS)
    assert done == list(range(stops[-1] // 2 * 2, 8))  # it goes on, it does not begin again
    for name in MODELS:
        assert same(weights(tmp_path, name), weights(uninterrupted, name))


def test_a_training_killed_while_saving_its_last_weights_saves_them(
    words: PreTrainedTokenizerFast, uninterrupted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Keep, "EVERY", 2)
    with monkeypatch.context() as context:
        context.setattr(LlamaForCausalLM, "save_pretrained", _kill_at_the_end(LlamaForCausalLM.save_pretrained))
        with pytest.raises(Stop):
            train_models(words, folder=tmp_path, **SETTINGS)
    train_models(words, folder=tmp_path, **SETTINGS)
    for name in MODELS:
        assert same(weights(tmp_path, name), weights(uninterrupted, name))


def _kill_at_the_end(save: Any) -> Any:
    def killed(self: object, folder: Path) -> None:
        if folder.name == "stronger":
            raise Stop
        save(self, folder)

    return killed


def test_every_snapshot_is_what_the_one_training_was_after_its_updates(
    words: PreTrainedTokenizerFast, uninterrupted: Path, tmp_path: Path
) -> None:
    """A shorter training would not end with it: its learning rate had not come down yet."""
    train_models(words, folder=tmp_path, **{**SETTINGS, "snapshots": {f"after-{n}": n for n in range(1, 9)}})
    for name, updates in (("weaker", 1), ("generator", 3), ("base", 6), ("stronger", 8)):
        assert same(weights(uninterrupted, name), weights(tmp_path, f"after-{updates}"))
    assert not same(weights(uninterrupted, "generator"), weights(uninterrupted, "weaker"))
    assert not same(weights(uninterrupted, "generator"), weights(uninterrupted, "base"))
    assert {p.name for p in uninterrupted.iterdir()} == set(MODELS)  # no checkpoint is left


def test_every_model_loads_with_the_tokenizer_beside_them(uninterrupted: Path) -> None:
    for name in MODELS:
        model, tokenizer = load_model(str(uninterrupted / name)), load_tokenizer(str(uninterrupted / name))
        assert model.config.vocab_size == len(tokenizer)
        assert tokenizer.eos_token == EOS
        assert tokenizer.chat_template


def test_training_lowers_the_loss_and_leaves_the_caller_s_random_numbers_alone(
    words: PreTrainedTokenizerFast, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    losses: list[float] = []
    original = SFT.training_step

    def step(self: SFT, batch: Any, batch_idx: int) -> Tensor:
        loss = original(self, batch, batch_idx)
        losses.append(float(loss.detach()))
        return loss

    monkeypatch.setattr(SFT, "training_step", step)
    before = torch.random.get_rng_state()
    train_models(words, folder=tmp_path, **{**SETTINGS, "steps": 40, "batch_size": 8})
    assert torch.equal(torch.random.get_rng_state(), before)
    assert losses[0] == pytest.approx(torch.log(torch.tensor(float(len(words)))), abs=0.5)  # it knew nothing
    assert sum(losses[-5:]) / 5 < losses[0] - 1


# --- what it is trained on ------------------------------------------------------------------------


def test_skipping_batches_is_going_on_behind_them(
    words: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Solutions, "POOL", 4)
    encoder = Encoder(words, Newline(), max_length=256)

    def batches(skip: int) -> list[Batch]:
        authors, experts = (Solutions(encoder, 2, name, frozenset(), errors) for name, errors in (("a", 1), ("b", 0)))
        return list(islice(Curriculum(authors, experts, steps=6, skip=skip), 11 - skip))

    whole = batches(0)
    for skip in (0, 3, 4, 6, 9):
        for left, right in zip(batches(skip), whole[skip:], strict=True):
            assert torch.equal(left.ids, right.ids)


def test_problems_come_as_drawn_but_for_the_held_out_ones_each_with_an_author_s_solution(
    words: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = random.Random(1)
    problems = [make_problem(rng) for _ in range(300)]
    barred = {p.text for p in problems[::3]}
    them = iter(problems)
    monkeypatch.setattr(sft, "make_problem", lambda _: next(them))
    encoder = Encoder(words, Newline(), max_length=256)
    authors, experts = (Solutions(encoder, 2, "a", frozenset(barred), errors) for errors in (1.0, 0.0))
    wanted = [p for p in problems if p.text not in barred]
    kinds: Counter[str] = Counter()
    for i, problem in enumerate(wanted):
        group = (experts if i < 50 else authors)._draw(rng)
        assert group.problem.text == problem.text
        kinds.update((("expert " if i < 50 else "") + k) for k in error_kinds(problem, group.rollouts[0].response))
    assert kinds.keys() == {"expert ", "", "misconception"}


def test_the_learning_rate_rises_and_falls_twice_the_second_time_lower() -> None:
    factors = [SFT(torch.nn.Linear(1, 1), 1.0, 100, 50)._factor(update) for update in range(150)]  # type: ignore[arg-type]
    assert max(factors[:100]) == pytest.approx(1)
    assert max(factors[100:]) == pytest.approx(EXPERT_LR)
    assert factors[99] < 0.03
    assert factors[149] < 0.03 * EXPERT_LR
