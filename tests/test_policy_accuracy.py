from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
import torch
from lightning import Trainer

from callbacks.policy_accuracy import PolicyAccuracy
from lit_prm.data.formats import write_groups
from lit_prm.data.records import Group, Problem, Rollout
from lit_prm.generation.local_sampler import Decoder
from lit_prm.losses.ce import CE
from lit_prm.models.reference import Uniform
from lit_prm.models.reward_model import ImplicitReward, OutcomeHead, RewardModel
from lit_prm.training.datamodule import RolloutDataModule
from lit_prm.training.module import LitPRM

ANSWERS = ("1", "2", None, "1")


class Asked(NamedTuple):
    prompts: int
    n: int
    temperature: float
    training: bool


@pytest.fixture
def candidates(tmp_path: Path) -> Path:
    rollouts = (Rollout(response="no", correct=False, answer=None),)
    groups = [
        Group(problem=Problem(prompt=f"Problem {i}", id=f"p{i}", answer=answer), rollouts=rollouts)
        for i, answer in enumerate(ANSWERS)
    ]
    write_groups(tmp_path / "test.jsonl", groups)
    return tmp_path / "test.jsonl"


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Asked]:
    """What a decoder was asked, whose every response is 1 when greedy, else 1 in a quarter."""
    seen: list[Asked] = []

    def sample(self: Decoder, prompts: list[str], n: int, seed: int = 0) -> list[list[str]]:
        seen.append(Asked(len(prompts), n, self.temperature, self.model.training))
        said = "1222" if self.temperature else "1"
        return [[f"\\boxed{{{said[k % 4]}}}" for k in range(n)] for _ in prompts]

    monkeypatch.setattr(Decoder, "sample", sample)
    return seen


def judged(
    candidates: Path, policy: Path, callback: PolicyAccuracy, reward_model: RewardModel | None = None, **settings: Any
) -> dict[str, float]:
    data = RolloutDataModule(str(policy), "none.jsonl", test={"test": str(candidates)})
    model = LitPRM(reward_model or ImplicitReward(str(policy)), CE(), Uniform())
    trainer = Trainer(
        accelerator="cpu", devices=1, logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, callbacks=[callback], **settings,
    )  # fmt: skip
    trainer.test(model, data, verbose=False)
    return {name: float(v) for name, v in trainer.callback_metrics.items() if name.startswith("policy/")}


def test_the_share_of_right_answers_over_problems_with_a_gold_one(
    candidates: Path, policy_folder: Path, asked: list[Asked]
) -> None:
    found = judged(candidates, policy_folder, PolicyAccuracy(samples=8, temperature=0.6))
    assert found["policy/test/greedy"] == pytest.approx(2 / 3)
    assert found["policy/test/sampled"] == pytest.approx((0.25 + 0.75 + 0.25) / 3)
    assert found["policy/test/sampled/low"] < found["policy/test/sampled"] < found["policy/test/sampled/high"]
    assert asked == [Asked(3, 1, 0.0, False), Asked(3, 8, 0.6, False)]


def test_a_policy_really_speaks_and_stays_in_its_mode(candidates: Path, policy_folder: Path) -> None:
    callback = PolicyAccuracy(samples=2, max_new_tokens=4)
    reward_model = ImplicitReward(str(policy_folder))
    first = judged(candidates, policy_folder, callback, reward_model)
    assert set(first) == {f"policy/test/{how}{end}" for how in ("greedy", "sampled") for end in ("", "/low", "/high")}
    assert reward_model.policy.training
    assert judged(candidates, policy_folder, callback) == first


def test_a_model_in_train_mode_is_given_back_in_it(
    candidates: Path, policy_folder: Path, asked: list[Asked], monkeypatch: pytest.MonkeyPatch
) -> None:
    reward_model = ImplicitReward(str(policy_folder))
    reward_model.configure_model()
    callback = PolicyAccuracy()
    trainer = Trainer(accelerator="cpu", devices=1, logger=False, enable_checkpointing=False, callbacks=[callback])
    data = RolloutDataModule(str(policy_folder), "none.jsonl", test={"test": str(candidates)})
    data.setup("test")
    monkeypatch.setattr(trainer, "datamodule", data, raising=False)
    for mode in (True, False):
        reward_model.policy.train(mode)
        callback._measured(trainer, reward_model.policy)
        assert reward_model.policy.training == mode
    assert not any(a.training for a in asked)


@pytest.mark.parametrize("in_pieces", [False, True])
def test_other_ranks_hear_what_the_first_found(in_pieces: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """They generate only where the first rank could not without them."""
    measured: list[str] = []
    logged: list[dict[str, float]] = []

    def measure(*_: object) -> dict[str, float]:
        measured.append("here")
        return {"mine": 0.0}

    monkeypatch.setattr(PolicyAccuracy, "_measured", measure)
    strategy = SimpleNamespace(broadcast=lambda _: {"first": 0.5}, zero_stage_3=in_pieces)
    rank_1: Any = SimpleNamespace(fast_dev_run=False, is_global_zero=False, world_size=2, strategy=strategy)
    reward_model = ImplicitReward("none")
    reward_model.policy = torch.nn.Identity()  # type: ignore[assignment]
    module: Any = SimpleNamespace(reward_model=reward_model, log_dict=lambda found, sync_dist: logged.append(found))
    PolicyAccuracy().on_test_epoch_end(rank_1, module)
    assert logged == [{"first": 0.5}]
    assert measured == ["here"] * in_pieces


def test_other_reward_models_have_no_policy_to_judge(candidates: Path, policy_folder: Path, asked: list[Asked]) -> None:
    assert judged(candidates, policy_folder, PolicyAccuracy(), OutcomeHead(str(policy_folder))) == {}
    assert asked == []


def test_a_run_over_one_batch_judges_nothing(candidates: Path, policy_folder: Path, asked: list[Asked]) -> None:
    assert judged(candidates, policy_folder, PolicyAccuracy(), fast_dev_run=True) == {}
    assert asked == []


def test_an_unknown_set_is_refused_with_those_there_are(candidates: Path, policy_folder: Path) -> None:
    with pytest.raises(ValueError, match=r"'math' is no test set\. The test sets are: test\."):
        judged(candidates, policy_folder, PolicyAccuracy(sets=["math"]))


@pytest.mark.parametrize("settings", [{"samples": 0}, {"temperature": 0.0}])
def test_no_draws_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="at least one sample, and the temperature must be above 0"):
        PolicyAccuracy(**settings)
