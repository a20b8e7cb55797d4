"""Released PRMs: each style reads at its own places, as a slow restatement of its authors' script does."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import pytest
from safetensors.torch import load_file, save_file

from lit_prm.data.records import Group, Problem, Rollout
from lit_prm.data.steps import BlankLine
from lit_prm.evaluation.aggregates import aggregated
from lit_prm.scoring.rewards import Rewards
from lit_prm.scoring.tag_layouts import InputLayout, TaggedInput, tagged, token_ids
from lit_prm.scoring.tag_styles import STYLES, style_of
from lit_prm.scoring.tags import TagScorer
from tests.released_prms import MAKERS, SLOW, skywork
from tests.rounding import network_bound

RESPONSES = (
    "Step 1: Add 3 and 4 to get 7.\n\nStep 2: Double it: 7 * 2 = 14.\n\nThe answer is \\boxed{14}.",
    "Just 14.",
    "First a + b - c ки, then <extra_0>.\n\n最后 除以 2.\n\n\nStep 7: done",
)
QUESTION = "What is 2 * (3 + 4)?"
GROUPS = [
    Group(problem=Problem(prompt=QUESTION, id="p"), rollouts=tuple(Rollout(response=r) for r in RESPONSES)),
    Group(
        problem=Problem(prompt=({"role": "user", "content": "1+1?"},), id="q"),
        rollouts=(Rollout(response="It is\n2.", steps=("It is\n", "2.")),),
    ),
]
# of log-odds, differences of two logits of up to 8, behind up to 120 tokens; one token beside is 600 times as far
ROUNDING = network_bound(120, 2 * 8.0)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    made = {make: tmp_path_factory.mktemp("tags") / make.__name__ for make in set(MAKERS.values())}
    for make, folder in made.items():
        make(folder)
    return {name: made[make] for name, make in MAKERS.items()}


@pytest.fixture(params=["math-shepherd", "rlhflow", "qwen", "skywork"])
def style(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def scorer_of(folders: dict[str, Path], style: str, **options: Any) -> TagScorer:
    return TagScorer(str(folders[style]), style, BlankLine(), **options)


# ---- tests --------------------------------------------------------------------------------------


def rewards(found: list[list[Rewards]]) -> list[list[float | None]]:
    return [list(r.step_rewards) for group in found for r in group]


@pytest.mark.parametrize("style", list(SLOW))
def test_every_style_equals_its_slow_restatement(folders: dict[str, Path], style: str) -> None:
    found = scorer_of(folders, style).score(GROUPS)
    for group, of_group in zip(GROUPS, found, strict=True):
        for rollout, made in zip(group.rollouts, of_group, strict=True):
            steps = list(rollout.steps or BlankLine().split(rollout.response))
            slow = SLOW[style](folders[style], group.problem.text, steps)
            # a sigmoid is at most a quarter as steep, and there are up to three in a product
            assert chances(made) == pytest.approx(slow, abs=ROUNDING / 4)
            assert aggregated(made.step_rewards)["product"] == pytest.approx(math.prod(slow), abs=ROUNDING)
            assert made.reward == made.step_rewards[-1]
            assert len(set(slow)) == len(slow)  # a stand-in that answers alike everywhere proves nothing


def test_a_conversation_is_refused_and_a_system_message_is_the_formats_own(
    folders: dict[str, Path], style: str
) -> None:
    scorer, group = scorer_of(folders, style), GROUPS[0]
    user = {"role": "user", "content": group.problem.text}
    alone, told = (replace(group, problem=replace(group.problem, prompt=chat)) for chat in (
        (user,), ({"role": "system", "content": "Be brief."}, user)))  # fmt: skip
    assert scorer.score([alone]) == scorer.score([told]) == scorer.score([group])
    for turns in ([user, {"role": "assistant", "content": "5"}, user], [user, {"role": "assistant", "content": "So"}]):
        talk = replace(group, problem=replace(group.problem, prompt=tuple(turns)))
        for refuse in (scorer.score, scorer.check):
            with pytest.raises(
                ValueError, match=f"is a conversation of user, assistant.* format {style} takes one question"
            ):
                refuse([talk])
    with pytest.raises(ValueError, match="this scorer takes text alone"):
        scorer.score(
            [replace(group, rollouts=(replace(group.rollouts[0], message={"role": "assistant", "name": "x"}),))]
        )


def chances(made: Rewards) -> list[float]:
    return [1 / (1 + math.exp(-x)) for x in made.step_rewards if x is not None]


def test_steps_tile_the_response(folders: dict[str, Path], style: str) -> None:
    for group, found in zip(GROUPS, scorer_of(folders, style).score(GROUPS), strict=True):
        for rollout, made in zip(group.rollouts, found, strict=True):
            assert "".join(rollout.response[a:b] for a, b in made.step_spans) == rollout.response
            assert len(chances(made)) == len(made.step_spans)
            assert made.step_values == made.step_rewards
            assert not made.truncated
            assert made.tokens > 0


def test_company_and_order_change_nothing(folders: dict[str, Path], style: str) -> None:
    """Law 5: alone, all together, and in the other order."""
    together = rewards(scorer_of(folders, style).score(GROUPS))
    alone = rewards(scorer_of(folders, style, budget=1).score(GROUPS))
    backwards = rewards(scorer_of(folders, style).score([g.keep(range(len(g.rollouts))[::-1]) for g in GROUPS[::-1]]))
    assert [x for r in alone for x in r] == pytest.approx([x for r in together for x in r], abs=ROUNDING)
    assert [x for r in backwards[::-1] for x in r] == pytest.approx([x for r in together for x in r], abs=ROUNDING)


def test_what_does_not_fit_has_no_reward_and_the_rest_is_as_before(folders: dict[str, Path], style: str) -> None:
    whole = scorer_of(folders, style)
    row = whole._row(GROUPS[0].problem, BlankLine().split(RESPONSES[0]))
    second = int((row.step == 1).nonzero()[0][0])
    short = scorer_of(folders, style, max_length=second + 1)
    all_of, some_of = whole.score(GROUPS[:1])[0][0], short.score(GROUPS[:1])[0][0]
    assert some_of.truncated
    assert some_of.step_rewards[2] is None
    assert some_of.step_rewards[:2] == pytest.approx(all_of.step_rewards[:2], abs=ROUNDING)
    assert some_of.reward == some_of.step_rewards[1]
    nothing = scorer_of(folders, style, max_length=4).score(GROUPS[:1])[0][0]
    assert (nothing.reward, set(nothing.step_rewards), nothing.truncated) == (0.0, {None}, True)


def test_an_empty_response_has_no_steps(folders: dict[str, Path], style: str) -> None:
    empty = Group(problem=Problem(prompt="1+1?", id="p"), rollouts=(Rollout(response=""),))
    made = scorer_of(folders, style).score([empty])[0][0]
    assert (made.reward, made.step_rewards, made.step_spans) == (0.0, (), ())


@dataclass(frozen=True)
class Beside(InputLayout):
    layout: InputLayout

    def lay_out(self, tokenizer: Any, question: str, steps: Sequence[str]) -> TaggedInput:
        ids, at = self.layout.lay_out(tokenizer, question, steps)
        return TaggedInput(ids, {step: i - 1 for step, i in at.items()})


def test_reading_one_token_beside_the_tag_is_another_number(folders: dict[str, Path], style: str) -> None:
    """The off-by-one of the paper's baseline (training read before the separator, evaluation at it)."""
    scorer = scorer_of(folders, style)
    right = rewards(scorer.score(GROUPS))
    scorer.style = replace(scorer.style, layout=Beside(scorer.style.layout))
    wrong = rewards(scorer.score(GROUPS))
    apart = [
        abs(cast(float, a) - cast(float, b))
        for x, y in zip(right, wrong, strict=True)
        for a, b in zip(x, y, strict=True)
    ]
    assert min(apart) > 100 * ROUNDING


def test_a_tokenizer_of_another_style_is_refused(folders: dict[str, Path]) -> None:
    with pytest.raises(ValueError, match="style rlhflow: the format is a chat, but the tokenizer has no chat template"):
        TagScorer(str(folders["math-shepherd"]), "rlhflow", BlankLine()).score(GROUPS)
    with pytest.raises(ValueError, match=r"holds no score\.0\.weight"):
        TagScorer(str(folders["skywork"]), "qwen", BlankLine())
    merged = scorer_of(folders, "math-shepherd").tokenizer
    with pytest.raises(ValueError, match="no token '▁ки' ends where the tag ends in 'a кит'"):
        tagged(merged, "a", [" кит"], "", token_ids(merged, " ки")[-1], special=True)


def test_the_style_is_found_or_asked_for(folders: dict[str, Path], tmp_path: Path) -> None:
    found = {name: style_of(str(folders[name])) for name in ("math-shepherd", "rlhflow", "qwen", "skywork", "trl")}
    assert found == {"math-shepherd": None, "rlhflow": None, "qwen": "qwen", "skywork": "skywork", "trl": "trl"}
    for released, style in (
        ("math-shepherd-mistral-7b-prm", "math-shepherd"),
        ("Llama3.1-8B-PRM-Mistral-Data", "rlhflow"),
        ("ReasonFlux-PRM-7B", "reasonflux"),  # though its architecture is that of Qwen's
        ("PURE-PRM-7B", "pure"),
        ("Qwen2.5-Math-7B-Instruct-PRM-0.2", "trl-blank-line"),
        ("Llama3.1-Math-PRM", "er-prm"),
        ("VersaPRM-Base-8B", "versaprm"),
        ("Mistral-7b-PRM-Math-Shepherd", "openrlhf"),
    ):
        (tmp_path / released).symlink_to(folders[style])
        assert style_of(str(tmp_path / released)) == style
    with pytest.raises(ValueError, match=f"Give one of --style {', '.join(STYLES)}"):
        TagScorer(str(folders["rlhflow"]), None, BlankLine())
    with pytest.raises(ValueError, match="style 'orm' is unknown"):
        TagScorer(str(folders["rlhflow"]), "orm", BlankLine())


def test_missing_weights_are_refused_by_name(folders: dict[str, Path], tmp_path: Path) -> None:
    """Transformers would fill them with random numbers."""
    folder = tmp_path / "skywork"
    skywork(folder)
    file = next(f for f in folder.glob("*.safetensors") if "model.norm.weight" in load_file(f))
    save_file({k: v for k, v in load_file(file).items() if k != "model.norm.weight"}, file, metadata={"format": "pt"})
    index = json.loads((folder / "model.safetensors.index.json").read_text())
    del index["weight_map"]["model.norm.weight"]
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ValueError, match=r"lacks 1 weights of a Qwen2Model, e\.g\. norm\.weight"):
        TagScorer(str(folder), None, BlankLine())


def test_the_identity_is_json_and_names_what_matters(folders: dict[str, Path], style: str) -> None:
    identity = scorer_of(folders, style, prompt_template="Solve: {prompt}").identity
    assert json.loads(json.dumps(identity)) == identity
    aggregate = "mean-probability" if style == "rlhflow" else "min"
    known = (identity["style"], identity["aggregate"], identity["prompt_template"])
    assert known == (style, aggregate, "Solve: {prompt}")
