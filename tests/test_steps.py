"""Steps tile any text under every rule; every token has the step its first character lies in."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lit_prm.data.steps import BlankLine, EachToken, Marked, Newline, Pattern, Sentence, StepRule, laid, step_of_tokens

RULES: list[StepRule] = [Marked(), BlankLine(), Newline(), Sentence(), EachToken(), Pattern(r"\d"), Pattern(r"(?=x)|$")]

# pieces on which rules decide, beside arbitrary unicode
PIECES = st.sampled_from(
    [
        "Step 1:",
        "Step 22: ",
        "\n",
        "\r\n",
        "\n \n",
        "\n\n\n",
        " ",
        "\t",
        "\u2028",
        "\u00a0",
        "x = 3.5.",
        "e.g. ",
        "Why? ",
        '." ',
    ]
)
TEXTS = st.one_of(st.lists(st.one_of(PIECES, st.text(max_size=5)), max_size=12).map("".join), st.text(max_size=40))


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: type(rule).__name__)
@given(text=TEXTS)
def test_steps_tile_any_text_and_none_is_white_space_alone(rule: StepRule, text: str) -> None:
    steps = rule.split(text)
    assert "".join(steps) == text
    assert all(steps)
    assert all(step.strip() for step in steps) or (len(steps) == 1 and not text.strip())


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: type(rule).__name__)
@given(text=TEXTS)
def test_every_step_but_the_first_begins_where_the_rule_says(rule: StepRule, text: str) -> None:
    ends = [len("".join(rule.split(text)[:i])) for i in range(1, len(rule.split(text)))]
    assert set(ends) <= set(rule.starts(text))


@pytest.mark.parametrize("text", ["", " ", "\r\n\r\n", "\n\n \n\n", "\u2003\n\n\u2003"])
@pytest.mark.parametrize("rule", RULES, ids=lambda rule: type(rule).__name__)
def test_nothing_but_white_space_is_one_step_and_no_text_is_none(rule: StepRule, text: str) -> None:
    assert rule.split(text) == ([text] if text else [])


@pytest.mark.parametrize(
    ("rule", "steps"),
    [
        (Marked(), ["Intro.\n", "Step 1: Add, see Step 2: below.\n\nMore.\n\n", "  Step 2: Go.\n", "Step 10: 14."]),
        (Marked(), ["## Step 1: Add\n3 + 4 = 7\n\n", "### **Step 2:** So\nsee Step 3: no\n", "**Step 3**: 7"]),
        (BlankLine(), ["First line.\nSame step.\n\n", "Second.\r\n\r\n", "Third. \n \t\n\n", "Last.\n"]),
        (Newline(), ["a\n", "b\r\n  \n", "c\n\n", "d"]),
        (Sentence(), ["We get 3.5 e.g. here. ", "Is it \\(x\\)? ", 'He said "no." ', "Yes!\n\n", "Done."]),
        (Pattern(r"^- "), ["List:\n", "- one - two\n", "- three"]),
        (EachToken(), ["One. Two.\n\nStep 1: three"]),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_rule_finds_the_steps_a_reader_would(rule: StepRule, steps: list[str]) -> None:
    assert rule.split("".join(steps)) == steps


def test_paper_style_text_splits_at_its_marks_with_unix_and_windows_line_ends() -> None:
    steps = ["Step 1: Let x be 4.", "Step 2: Then\nx + 1 = 5.", "Step 3: So \\boxed{5}"]
    for gap in ("\n", "\n\n", "\r\n", "\r\n\r\n"):
        tiled = [step + gap for step in steps[:-1]] + steps[-1:]
        assert Marked().split("".join(tiled)) == tiled


def test_leading_white_space_joins_the_first_step_and_trailing_the_last() -> None:
    assert BlankLine().split("\n\n\n a\n\nb\n\n\n") == ["\n\n\n a\n\n", "b\n\n\n"]


def test_a_pattern_that_is_none_is_refused_with_its_text() -> None:
    with pytest.raises(ValueError, match=r"step pattern '\(' is not a regular expression"):
        Pattern("(")


LENGTHS = st.lists(st.integers(1, 6), min_size=1, max_size=6)


@given(lengths=LENGTHS, cuts=st.lists(st.integers(0, 40), max_size=12))
def test_every_token_has_the_step_its_first_character_lies_in(lengths: list[int], cuts: list[int]) -> None:
    total = sum(lengths)
    edges = sorted({0, total, *(c for c in cuts if c < total)})
    tokens = list(pairwise(edges))
    owner = [k for k, n in enumerate(lengths) for _ in range(n)]  # the step of every character
    assert step_of_tokens(lengths, tokens) == [owner[start] for start, _ in tokens]


@given(lengths=LENGTHS)
def test_tokens_of_one_character_reach_every_step(lengths: list[int]) -> None:
    tokens = [(i, i + 1) for i in range(sum(lengths))]
    found = step_of_tokens(lengths, tokens)
    assert [found.count(k) for k in range(len(lengths))] == lengths


@given(lengths=LENGTHS, offsets=st.lists(st.tuples(st.integers(-3, 60), st.integers(0, 60)), max_size=12))
def test_steps_never_decrease_and_exist_whatever_a_tokenizer_says(
    lengths: list[int], offsets: list[tuple[int, int]]
) -> None:
    found = step_of_tokens(lengths, offsets)
    assert len(found) == len(offsets)
    assert found == sorted(found)
    assert set(found) <= set(range(len(lengths)))


def test_the_end_of_turn_belongs_to_the_last_step_and_a_spanning_token_to_the_earlier() -> None:
    assert step_of_tokens([4, 3], [(0, 3), (3, 5), (5, 7), (7, 7)]) == [0, 0, 1, 1]
    assert step_of_tokens([4, 3], [(0, 7), (0, 0)]) == [0, 0]  # special tokens may say (0, 0)
    assert step_of_tokens([4, 3], [(4, 7), (0, 0)]) == [1, 1]
    assert step_of_tokens([], [(0, 0)]) == [0]


def test_empty_steps_own_no_token_and_the_end_of_turn_belongs_to_the_last_step_with_text() -> None:
    assert step_of_tokens([3, 0, 2, 0], [(0, 3), (3, 5), (5, 5)]) == [0, 2, 2]
    assert step_of_tokens([0, 2], [(0, 2), (2, 2)]) == [1, 1]


SPACE = st.text(" \n\t\u2003", max_size=3)


@given(words=st.lists(st.text("abc", max_size=4), max_size=6), data=st.data())
def test_steps_are_laid_over_a_text_with_other_white_space(words: list[str], data: st.DataObject) -> None:
    response = "".join(data.draw(SPACE) + word for word in words) + data.draw(SPACE)
    steps = [data.draw(SPACE) + word + data.draw(SPACE) for word in words]
    tiles = laid(steps, response)
    assert tiles is not None
    assert "".join(tiles) == response or not words
    assert ["".join(tile.split()) for tile in tiles] == words


@pytest.mark.parametrize(
    ("steps", "response", "tiles"),
    [
        (["a", "b"], "a\n\nb", ("a\n\n", "b")),
        (["a\n\n", "b"], "a\n\nb", ("a\n\n", "b")),
        (["a", "\n\nb"], "a\n\nb", ("a", "\n\nb")),  # joins exactly, so it stays
        (["a", "", "b", " "], "\na\n\nb\n", ("\na\n\n", "", "b\n", "")),
        (["", "a"], " a", ("", " a")),
        (["a", "b"], "a b c", None),
        (["a", "c"], "a b", None),
        (["b", "a"], "a b", None),
        ([], "", ()),
    ],
)
def test_white_space_belongs_to_the_step_before_and_other_text_is_not_laid(
    steps: list[str], response: str, tiles: tuple[str, ...] | None
) -> None:
    assert laid(steps, response) == tiles
