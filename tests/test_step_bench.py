"""StepBench: the protocol of ProcessBench on the candidate sets of a training that have labels of steps."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lightning import Trainer
from transformers import PreTrainedTokenizerFast

from callbacks.best_of_n import BestOfN
from callbacks.step_bench import StepBench, judge_named, labelled_steps
from lit_prm.data.formats import read_groups
from lit_prm.data.steps import EachToken, Newline, StepRule
from lit_prm.evaluation.first_error import cross_fitted_f1
from lit_prm.losses.ce import CE
from lit_prm.models.reference import Frozen
from lit_prm.models.reward_model import ImplicitReward
from lit_prm.reports.processbench.protocol import choose_threshold, judge_subset
from lit_prm.training.datamodule import RolloutDataModule
from lit_prm.training.module import LitPRM
from tests.candidate_sets import candidate_set, groups, scored

KEYS = {"f1", "error_acc", "correct_acc", "threshold", "step_auc"}


@pytest.fixture(scope="module")
def bench(micro_world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The test candidates of the micro world in the layout of ProcessBench."""
    rows = [
        {
            "problem": g.problem.text, "steps": [s.removesuffix("\n") for s in r.steps or ()], "label": r.first_error,
            "final_answer_correct": r.correct,
        }
        for g in read_groups(str(micro_world / "candidates/test.jsonl")).groups for r in g.rollouts
    ]  # fmt: skip
    file = tmp_path_factory.mktemp("bench") / "bench.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def ran(world: Path, bench: Path, *callbacks: Any, steps: StepRule | None = None, **settings: Any) -> dict[str, float]:
    """What is logged by one validation of an untrained model on three sets."""
    sets = {"v": "candidates/validation.jsonl", "w": "candidates/test.jsonl", "bench": str(bench)}
    data = RolloutDataModule(
        str(world / "models/base"), "rollouts/train.jsonl", validation=sets, test={"w": sets["w"]}, root=str(world),
        steps=steps or Newline(), batch_size=48, eval_tokens=400,
    )  # fmt: skip
    model = LitPRM(ImplicitReward(str(world / "models/base"), Frozen(str(world / "models/generator")), beta=2.0), CE())
    trainer = Trainer(
        accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, use_distributed_sampler=False, callbacks=list(callbacks), **settings,
    )  # fmt: skip
    trainer.validate(model, data, verbose=False)
    return {key: float(value) for key, value in trainer.callback_metrics.items()}


def of_set(found: dict[str, float], name: str) -> dict[str, float]:
    start = f"processbench/{name}/"
    return {key.removeprefix(start): value for key, value in found.items() if key.startswith(start)}


# --- laws -----------------------------------------------------------------------------------------


def test_the_threshold_of_the_named_set_judges_the_others_and_itself_is_cross_fitted(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    sets = {}
    for seed, name in enumerate(("a", "b")):
        candidates = candidate_set(tokenizer, groups((6, 5, 6, 4), seed))
        found = labelled_steps(candidates, scored(candidates, seed))
        assert found is not None
        sets[name] = found
    judged = judge_named(sets, "a")
    threshold = choose_threshold(*sets["a"])
    assert judged["b"].result.hits == judge_subset(*sets["b"], threshold).result.hits
    assert judged["b"].cross_fitted is None
    mine, (scores, (_, truth, problem)) = judged["a"].cross_fitted, sets["a"]
    assert mine is not None
    assert mine.hits.f1 == cross_fitted_f1(scores.values, scores.valid, truth, problem)
    other = sets["b"][1]._replace(first_error=np.roll(sets["b"][1].first_error, 1))
    assert judge_named({**sets, "b": (sets["b"][0], other)}, "a")["b"].threshold == threshold
    assert all(of.cross_fitted is not None for of in judge_named(sets, "elsewhere").values())


def test_a_response_that_repeats_counts_as_often_as_it_is_there(tokenizer: PreTrainedTokenizerFast) -> None:
    (group,) = groups((3,))
    twice = type(group)(problem=group.problem, rollouts=(*group.rollouts, group.rollouts[0]))
    candidates = candidate_set(tokenizer, [twice])
    assert len(candidates.encoded) == 3
    found = labelled_steps(candidates, scored(candidates))
    assert found is not None
    scores, labels = found
    assert scores.values[3].tolist() == scores.values[0].tolist()
    assert labels.first_error.tolist() == [r.first_error for r in twice.rollouts]
    assert scores.sizes.tolist() == [len(r.steps or ()) for r in twice.rollouts]


def test_sets_without_step_labels_and_models_that_score_last_steps_alone_are_left_out(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    candidates = candidate_set(tokenizer)
    given = scored(candidates)
    last_alone = given._replace(valid=given.valid & (np.cumsum(given.valid[:, ::-1], 1)[:, ::-1] == 1))
    assert labelled_steps(candidates, last_alone) is None
    bare = [
        type(g)(problem=g.problem, rollouts=tuple(type(r)(response=r.response, correct=r.correct) for r in g.rollouts))
        for g in groups()
    ]
    unlabelled = candidate_set(tokenizer, bare)
    assert labelled_steps(unlabelled, scored(unlabelled)) is None


# --- through the trainer --------------------------------------------------------------------------


def test_validation_logs_every_labelled_set_and_leaves_best_of_n_alone(
    micro_world: Path, bench: Path, tmp_path: Path
) -> None:
    found = ran(micro_world, bench, StepBench("v"), BestOfN(str(tmp_path)))
    for name in ("v", "w", "bench"):
        assert of_set(found, name).keys() == KEYS
    assert of_set(found, "w")["threshold"] == of_set(found, "bench")["threshold"] == of_set(found, "v")["threshold"]
    for key in ("f1", "error_acc", "correct_acc", "step_auc"):  # the same responses in two layouts
        assert of_set(found, "bench")[key] == pytest.approx(of_set(found, "w")[key], abs=0.05)
    assert "bon/v/acc@4" in found


def test_sets_says_which_are_logged(micro_world: Path, bench: Path) -> None:
    found = ran(micro_world, bench, StepBench("v", ["w"]))
    assert {key.split("/")[1] for key in found if key.startswith("processbench/")} == {"w"}


def test_tokens_are_no_labelled_steps(micro_world: Path, bench: Path) -> None:
    assert not [
        key for key in ran(micro_world, bench, StepBench("v"), steps=EachToken()) if key.startswith("processbench/")
    ]


def test_a_run_over_a_few_batches_logs_nothing(micro_world: Path, bench: Path) -> None:
    assert ran(micro_world, bench, StepBench(), fast_dev_run=True) == {}


def test_names_of_no_set_are_refused(micro_world: Path, bench: Path) -> None:
    with pytest.raises(ValueError, match=r"StepBench: gsm8k are no sets of .* The sets are: v, w, bench"):
        ran(micro_world, bench, StepBench("gsm8k"))
