from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

from lit_prm.data.batch import collate
from lit_prm.data.encoding import Encoder
from lit_prm.data.records import Group, Problem, Rollout
from lit_prm.data.steps import EachToken, Newline
from lit_prm.generation.labeling import AutoPSV
from lit_prm.generation.labeling.autopsv import step_labels
from lit_prm.models.reward_model import StepHead

CPU = torch.device("cpu")
NAN = float("nan")
TEXTS = ("3 + 4 = 7\n7 * 2 = 14\nIt is \\boxed{14}", "Double\n4\nfour\nno\n14", "14", "1\n2\n3\n4\n5\n6\n7\n8")


def groups() -> list[Group]:
    return [
        Group(
            problem=Problem(prompt=f"Problem {g}?", id=f"p{g}"),
            rollouts=tuple(Rollout(response=text, correct=False) for text in TEXTS[2 * g : 2 * g + 2]),
        )
        for g in range(2)
    ]


@pytest.fixture
def encoder(tokenizer: PreTrainedTokenizerFast) -> Encoder:
    return Encoder(tokenizer, Newline())


@pytest.fixture
def verifier(policy_folder: Path) -> StepHead:
    """A verifier with an opinion, in memory."""
    made = StepHead(str(policy_folder))
    made.configure_model()
    torch.manual_seed(3)
    torch.nn.init.normal_(made.head.weight, std=0.3)
    return made.eval()


@pytest.fixture
def checkpoint(verifier: StepHead, tmp_path: Path) -> str:
    path = tmp_path / "runs/micro/osv-8resp/seed-0/checkpoints/last.ckpt"
    path.parent.mkdir(parents=True)
    torch.save({"state_dict": {f"reward_model.{k}": v for k, v in verifier.state_dict().items()}}, path)
    return str(path)


# --- the rule -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("confidences", "labels"),
    [
        ([0.8, 0.7, 0.9, 0.5], (1, 1, 1)),  # it falls by less than half
        ([0.8, 0.7, 0.34, 0.9], (1, 0, 0)),
        ([0.8, 0.39, 0.9], (0, 0)),
        ([0.8, 0.4], (1,)),  # by exactly half: not more
        ([1e-6, 0.9], (0,)),  # it begins with none
        ([0.8, 0.9, NAN, 0.4], (1, NAN, 0)),  # a step without a token is passed over
        ([0.8, 0.1, NAN, 0.4], (0, 0, 0)),
        ([0.8], ()),
    ],
)
def test_the_first_fall_by_more_than_half_is_the_first_error(
    confidences: list[float], labels: tuple[float, ...]
) -> None:
    assert step_labels(confidences, len(confidences) - 1, 0.5, 1e-5) == pytest.approx(labels, nan_ok=True)


@given(st.lists(st.floats(1e-7, 1.0), min_size=2, max_size=7), st.floats(0.05, 0.95))
def test_labels_are_ones_then_zeros_as_a_slow_loop_says(confidences: list[float], drop: float) -> None:
    wanted, wrong = [], False
    for before, after in pairwise(confidences):
        wrong = wrong or before < 1e-5 or (after - before) / before < -drop
        wanted.append(0.0 if wrong else 1.0)
    assert step_labels(confidences, len(wanted), drop, 1e-5) == tuple(wanted)


@given(st.lists(st.floats(0.01, 1.0), min_size=3, max_size=7), st.integers(1, 4))
def test_steps_that_are_cut_off_are_unknown_unless_after_the_error(confidences: list[float], more: int) -> None:
    known = step_labels(confidences, len(confidences) - 1, 0.5, 1e-5)
    rest = step_labels(confidences, len(known) + more, 0.5, 1e-5)
    assert rest[: len(known)] == known
    assert all(x == 0.0 if 0.0 in known else math.isnan(x) for x in rest[len(known) :])


# --- of a verifier --------------------------------------------------------------------------------


def test_labels_are_those_of_the_checkpoint_one_response_at_a_time(
    verifier: StepHead, checkpoint: str, policy_folder: Path, encoder: Encoder
) -> None:
    """Slow reference: no batch, confidence read at the last token of every step by hand."""
    made = AutoPSV(StepHead(str(policy_folder)), checkpoint, drop=0.2, tokens=80).label(groups(), encoder, CPU)
    rows = encoder.encode(groups())
    rollouts = [r for g in made.groups for r in g.rollouts]
    assert [r.response for r in rollouts] == list(TEXTS)
    for row, rollout in zip(rows, rollouts, strict=True):
        assert rollout.steps == tuple(Newline().split(rollout.response))
        with torch.no_grad():
            p = verifier(collate([row])).sigmoid()[0].tolist()
        start = row.prompt_length
        ends = [start + max(t for t, s in enumerate(row.step) if s == k) for k in range(len(rollout.steps or ()))]
        wanted = step_labels([p[start], *(p[end] for end in ends)], len(ends), 0.2, 1e-5)
        assert rollout.step_labels == wanted
    assert {x for r in rollouts for x in r.step_labels or ()} == {0.0, 1.0}
    assert made.tokens == {"scored": sum(len(row) for row in rows)}


def test_a_step_that_was_cut_off_is_unknown(
    checkpoint: str, policy_folder: Path, tokenizer: PreTrainedTokenizerFast
) -> None:
    whole = Encoder(tokenizer, Newline()).encode(groups())[3]
    short = Encoder(tokenizer, Newline(), max_length=whole.prompt_length + 5)
    labeler = AutoPSV(StepHead(str(policy_folder)), checkpoint, drop=0.99)
    labels = labeler.label(groups()[1:], short, CPU).groups[0].rollouts[1].step_labels
    assert labels is not None
    assert len(labels) == 8
    assert labels[0] == 1.0
    assert math.isnan(labels[-1])


def test_the_labeler_keeps_no_weights(checkpoint: str, policy_folder: Path, encoder: Encoder) -> None:
    labeler = AutoPSV(StepHead(str(policy_folder)), checkpoint)
    first = labeler.label(groups(), encoder, CPU)
    assert list(labeler.verifier.parameters()) == []
    assert not labeler._loaded().training
    assert labeler.label(groups(), encoder, CPU) == first


# --- refusals -------------------------------------------------------------------------------------


def test_a_verifier_of_another_base_than_its_checkpoint_is_refused(
    verifier: StepHead, checkpoint: str, policy_folder: Path, encoder: Encoder
) -> None:
    content = torch.load(checkpoint, weights_only=True)
    torch.save(content | {"identity": {"base": "0" * 64}}, checkpoint)
    with pytest.raises(ValueError, match=r"the hashes are base 000000000000 against \w{12}\."):
        AutoPSV(StepHead(str(policy_folder)), checkpoint).label(groups(), encoder, CPU)


def test_a_missing_checkpoint_names_the_experiment_to_run_first(policy_folder: Path, encoder: Encoder) -> None:
    labeler = AutoPSV(StepHead(str(policy_folder)), "runs/tiny/osv-8resp/seed-0/checkpoints/last.ckpt")
    with pytest.raises(ValueError, match=r"checkpoint runs/tiny/.* does not exist\. .* make exp NAME=osv-8resp$"):
        labeler.label(groups(), encoder, CPU)
    with pytest.raises(ValueError, match=r"checkpoint here\.ckpt does not exist\. Train the verifier first$"):
        AutoPSV(StepHead(str(policy_folder)), "here.ckpt").label(groups(), encoder, CPU)


def test_weights_of_another_model_are_refused(checkpoint: str, policy_folder: Path, encoder: Encoder) -> None:
    state = torch.load(checkpoint)["state_dict"]
    torch.save({"state_dict": {k: v for k, v in state.items() if "head" not in k}}, checkpoint)
    with pytest.raises(ValueError, match=r"last\.ckpt: The weights are not those of this StepHead: .*head\.weight"):
        AutoPSV(StepHead(str(policy_folder)), checkpoint).label(groups(), encoder, CPU)


@pytest.mark.parametrize("drop", [0.0, 1.0, NAN])
def test_a_drop_that_is_no_share_is_refused(drop: float) -> None:
    with pytest.raises(ValueError, match="is not between 0 and 1"):
        AutoPSV(StepHead("none"), "none", drop=drop)


def test_tokens_as_steps_are_refused(policy_folder: Path, tokenizer: Any) -> None:
    with pytest.raises(ValueError, match="EachToken makes every token a step"):
        AutoPSV(StepHead(str(policy_folder)), "none").label(groups(), Encoder(tokenizer, EachToken()), CPU)
