from __future__ import annotations

import random

import pytest
from transformers import PreTrainedTokenizerFast

from lit_prm.data.encoding import Encoder
from lit_prm.data.records import Group, Problem, Rollout
from lit_prm.data.steps import Newline
from lit_prm.training.worlds.tinymath.irrelevant import code, general
from lit_prm.training.worlds.tinymath.problems import LARGEST, make_problem
from lit_prm.training.worlds.tinymath.solutions import write_solution
from lit_prm.training.worlds.tinymath.tokenizer import EOS, UNKNOWN, make_tokenizer


@pytest.fixture(scope="module")
def words() -> PreTrainedTokenizerFast:
    return make_tokenizer(samples=5000)


def test_decoding_gives_back_the_domain_s_texts_none_of_them_unknown(words: PreTrainedTokenizerFast) -> None:
    rng = random.Random("not the tokenizer's")
    for _ in range(500):
        problem = make_problem(rng)
        pairs = [draw(rng) for draw in (general, code)]
        irrelevant = [text for p in pairs for text in (p.instruction, p.right, p.wrong)]
        for text in (problem.text, write_solution(problem, rng), *irrelevant):
            ids = words(text)["input_ids"]
            assert words.decode(ids) == text
            assert words.unk_token_id not in ids


def test_a_number_is_one_token_wherever_it_stands(words: PreTrainedTokenizerFast) -> None:
    for n in range(LARGEST + 1):
        number = words.convert_tokens_to_ids(str(n))
        assert number != words.unk_token_id
        for text in (f"so {n} + x", f"Then {n} times", f"\\boxed{{{n}}}", f"has {n} coins"):
            assert words(text)["input_ids"].count(number) == 1


def test_equal_vocabularies_are_made_every_time(words: PreTrainedTokenizerFast) -> None:
    assert make_tokenizer(samples=5000).get_vocab() == words.get_vocab()
    assert len(words) < 450


def test_a_prompt_s_tokens_begin_its_response_s(words: PreTrainedTokenizerFast) -> None:
    """And the lines of a solution are steps that end with their line break, the last with the end of turn."""
    rng = random.Random(1)
    encoder = Encoder(words, Newline())
    for _ in range(50):
        problem = make_problem(rng)
        solution = write_solution(problem, rng)
        group = Group(problem=Problem(prompt=problem.text, id="p"), rollouts=(Rollout(response=solution),))
        (row,) = encoder.encode([group])
        response = row.ids[row.prompt_length :]
        assert words.decode(response) == solution + EOS
        assert words.decode(row.ids[: row.prompt_length]) == f"<ask>{problem.text}<say>"
        lines = [words.decode(response[row.step == s]) for s in range(row.step.max() + 1)]
        assert lines == [*solution.splitlines(keepends=True)[:-1], solution.splitlines()[-1] + EOS]


def test_foreign_characters_are_unknown_and_nothing_is_raised(words: PreTrainedTokenizerFast) -> None:
    assert UNKNOWN in words.convert_ids_to_tokens(words("7 ≥ 3")["input_ids"])
