"""Right responses are right and wrong ones wrong, by rules written a second time."""

from __future__ import annotations

import random
import re
from collections.abc import Callable

import pytest
from transformers import PreTrainedTokenizerFast

from lit_prm.data.encoding import Encoder
from lit_prm.data.steps import Newline
from lit_prm.training.worlds.tinymath.irrelevant import InstructionPair, code, general, irrelevant_groups, run
from lit_prm.training.worlds.tinymath.problems import LARGEST
from lit_prm.training.worlds.tinymath.tokenizer import make_tokenizer

BOTH = pytest.mark.parametrize("draw", [general, code])


def pairs(draw: Callable[[random.Random], InstructionPair], size: int = 400) -> list[InstructionPair]:
    rng = random.Random("tests")
    return [draw(rng) for _ in range(size)]


def answer_of_general(instruction: str) -> list[str]:
    asked, listed = instruction.rstrip(".").split(": ")
    words = listed.split(", ")
    names = [w for w in words if w[0].isupper()]
    answers = {
        "Copy these words": words,
        "Write these words from last to first": list(reversed(words)),
        "Sort these words by the alphabet": sorted(words),
        "Keep the names in their order": names,
        "Keep the things in their order": [w for w in words if w not in names],
    }
    return answers[asked]


def answer_of_code(instruction: str) -> list[str]:
    """Python itself runs the program."""
    *program, last = instruction.split("\n")[1:]
    values: dict[str, int] = {}
    said = []
    for line in program:
        exec(line, {"__builtins__": {}}, values)
        said.append(f"{line[0]} is {values[line[0]]}")
    return [*said, f"It prints {values[last.removeprefix('print ')]}"]


def content(response: str) -> list[str]:
    """The lines behind the opening and before a closing, which are sentences."""
    return [line for line in response.split("\n") if not line.endswith(".")]


# --- laws -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("draw", "answer"), [(general, answer_of_general), (code, answer_of_code)])
def test_the_right_response_is_right_and_the_wrong_one_first_errs_where_it_is_said_to(
    draw: Callable[[random.Random], InstructionPair], answer: Callable[[str], list[str]]
) -> None:
    for pair in pairs(draw):
        wanted = answer(pair.instruction)
        assert content(pair.right) == wanted
        assert content(pair.wrong) != wanted
        lines = pair.wrong.split("\n")
        assert lines[1 : pair.error] == wanted[: pair.error - 1]
        assert lines[pair.error] != wanted[pair.error - 1]


def test_a_wrong_run_prints_something_else_and_no_number_is_out_of_range() -> None:
    for pair in pairs(code):
        assert pair.right.split("\n")[-1] != pair.wrong.split("\n")[-1]
        assert all(int(n) <= LARGEST for n in re.findall(r"\d+", pair.right + pair.wrong))
        assert "-" not in pair.right + pair.wrong


@BOTH
def test_groups_have_both_responses_with_their_lines_as_steps(draw: Callable[[random.Random], InstructionPair]) -> None:
    groups = irrelevant_groups(draw, 60, "s")
    assert len({g.problem.text for g in groups}) == len({g.problem.id for g in groups}) == 60
    assert 15 < sum(g.rollouts[0].correct is True for g in groups) < 45  # the place does not tell
    for rollout in (r for g in groups for r in g.rollouts):
        assert rollout.steps == tuple(Newline().split(rollout.response))
        assert len(rollout.steps) > 2 or rollout.correct is False
        assert rollout.first_error is not None
        assert (rollout.first_error == -1) == rollout.correct
        assert rollout.first_error < len(rollout.steps)


@BOTH
def test_the_seed_decides_and_fewer_are_the_first_of_more(draw: Callable[[random.Random], InstructionPair]) -> None:
    def texts(size: int, seed: str) -> list[str]:
        return [g.problem.text for g in irrelevant_groups(draw, size, seed)]

    assert texts(20, "s") == texts(40, "s")[:20]
    assert texts(20, "s") != texts(20, "t")
    assert irrelevant_groups(draw, 20, "s") == irrelevant_groups(draw, 20, "s")


@BOTH
def test_no_wording_tells_which_response_is_right(draw: Callable[[random.Random], InstructionPair]) -> None:
    """Openings are as often those of right as of wrong responses."""
    drawn = pairs(draw, 1500)
    for opening in {p.right.split("\n")[0] for p in drawn}:
        right = sum(p.right.startswith(opening) for p in drawn)
        wrong = sum(p.wrong.startswith(opening) for p in drawn)
        assert abs(right - wrong) < 5 * (right + wrong) ** 0.5


@pytest.fixture(scope="module")
def words() -> PreTrainedTokenizerFast:
    return make_tokenizer(samples=5000)


@BOTH
def test_the_tokenizer_knows_every_word_and_no_text_is_cut(
    draw: Callable[[random.Random], InstructionPair], words: PreTrainedTokenizerFast
) -> None:
    rows = Encoder(words, Newline(), max_length=256).encode(irrelevant_groups(draw, 400, "other"))
    assert not any(row.truncated for row in rows)
    assert all(words.unk_token_id not in row.ids for row in rows)


def test_an_instruction_that_is_drawn_again_is_passed_over() -> None:
    def draw(rng: random.Random) -> InstructionPair:
        return InstructionPair(f"Say {rng.randrange(5)}.", "yes", "no", 0)

    assert len({g.problem.text for g in irrelevant_groups(draw, 5, "s")}) == 5


# --- cases ------------------------------------------------------------------------------------------


def test_a_slip_is_carried_on_and_a_value_out_of_range_gives_nothing() -> None:
    program = [("a", ("3",)), ("b", ("a", "*", "4")), ("a", ("b",)), ("b", ("b", "-", "a"))]
    assert run(program, "a") == ["a is 3", "b is 12", "a is 12", "b is 0", "It prints 12"]
    assert run(program, "a", slip=(0, 1)) == ["a is 4", "b is 16", "a is 16", "b is 0", "It prints 16"]
    assert run([("a", ("3",)), ("a", ("a", "-", "4"))], "a") == []
    assert run([("a", ("99",)), ("a", ("a", "*", "4"))], "a") == []
