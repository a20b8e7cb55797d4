from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

from lit_prm.data.batch import Encoded, collate
from lit_prm.data.encoding import Encoder
from lit_prm.data.records import Group, Problem, Rollout
from lit_prm.data.steps import BlankLine, EachToken, Newline, StepRule
from tests.conftest import byte_tokenizer

TEXT = "Step 1: Add 3 and 4.\n\nStep 2: Double it.\n\nThe answer is \\boxed{14}."


def encode_one(
    encoder: Encoder, response: str, prompt: str = "What is 2 * (3 + 4)?", steps: tuple[str, ...] | None = None
) -> Encoded:
    rollout = Rollout(response=response, correct=True, steps=steps)
    return encoder.encode([Group(problem=Problem(prompt=prompt, id="p"), rollouts=(rollout,))])[0]


def ids_of(tokenizer: PreTrainedTokenizerFast, text: str) -> list[int]:
    ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
    return ids


def decoded_steps(tokenizer: PreTrainedTokenizerFast, row: Encoded) -> dict[int, str]:
    """Text of every step's tokens, end-of-turn token included."""
    out: dict[int, list[int]] = {}
    for token, step in zip(row.ids[row.prompt_length :].tolist(), row.step.tolist(), strict=True):
        out.setdefault(step, []).append(token)
    return {s: str(tokenizer.decode(ids)) for s, ids in out.items()}


def test_tokens_are_the_response_and_its_end_of_turn(tokenizer: PreTrainedTokenizerFast) -> None:
    row = encode_one(Encoder(tokenizer, BlankLine()), TEXT)
    assert tokenizer.decode(row.ids[row.prompt_length :].tolist()) == TEXT + "<|im_end|>"
    assert str(tokenizer.decode(row.ids[: row.prompt_length].tolist())).endswith("<|im_start|>assistant\n")


def test_steps_cover_the_text_they_were_split_into(tokenizer: PreTrainedTokenizerFast) -> None:
    steps = decoded_steps(tokenizer, encode_one(Encoder(tokenizer, BlankLine()), TEXT))
    assert "".join(steps.values()) == TEXT + "<|im_end|>"
    assert len(steps) == 3
    assert steps[1].startswith("Step 2")


def test_given_steps_beat_the_rule(tokenizer: PreTrainedTokenizerFast) -> None:
    row = encode_one(Encoder(tokenizer, BlankLine()), "one two", steps=("one", " two"))
    assert sorted(set(row.step.tolist())) == [0, 1]


def test_who_cuts_the_steps_is_known(tokenizer: PreTrainedTokenizerFast) -> None:
    cut, whole = Rollout(response="ab", steps=("a", "b")), Rollout(response="ab")
    lines, tokens = Encoder(tokenizer, BlankLine()), Encoder(tokenizer, EachToken())
    assert (lines.own_steps, lines.steps_from(cut), lines.steps_from(whole)) == (True, "of the file", "BlankLine")
    assert (tokens.own_steps, tokens.steps_from(cut), tokens.steps_from(whole)) == (False, "EachToken", "EachToken")


@pytest.mark.parametrize("template", [None, "chat"], ids=["no-template", "template"])
@given(
    text=st.text(st.characters(codec="utf-8"), max_size=60), rule=st.sampled_from([BlankLine(), Newline(), EachToken()])
)
@settings(deadline=None)
def test_steps_tile_any_response(template: str | None, text: str, rule: StepRule) -> None:
    """Law 1: every response token has one step, steps do not go back, and no text is lost."""
    tokenizer = TOKENIZERS[template]
    row = encode_one(Encoder(tokenizer, rule), text)
    steps = row.step.tolist()
    assert len(steps) == len(row) - row.prompt_length
    assert steps == sorted(steps)
    assert min(steps, default=0) >= 0
    ids = row.ids[row.prompt_length :].tolist()
    assert str(tokenizer.decode(ids, skip_special_tokens=False)).removesuffix("<|im_end|>") == text


TOKENIZERS = {None: byte_tokenizer(None), "chat": byte_tokenizer()}


def test_a_border_inside_a_token_is_kept_as_sampled() -> None:
    """Tokenised together, the last prompt letters and the first of the response would merge."""
    glued = byte_tokenizer("{% for m in messages %}{{ m['content'] }}{% endfor %}")
    row = encode_one(Encoder(glued, BlankLine()), "wer is 3", prompt="The ans")
    assert row.ids.tolist() == [*ids_of(glued, "The ans"), *ids_of(glued, "wer is 3")]
    assert row.prompt_length == len(ids_of(glued, "The ans"))


def test_a_long_prompt_is_refused_and_a_long_response_is_cut_and_marked(tokenizer: PreTrainedTokenizerFast) -> None:
    row = encode_one(Encoder(tokenizer, BlankLine(), max_length=60), TEXT * 3)
    assert len(row) == 60
    assert row.truncated
    with pytest.raises(ValueError, match=r"prompt has \d+ tokens, max_length is 10\. Raise data.max_length or"):
        encode_one(Encoder(tokenizer, BlankLine(), max_length=10), TEXT)


def test_all_long_prompts_are_named_and_the_others_fit(tokenizer: PreTrainedTokenizerFast) -> None:
    encoder = Encoder(tokenizer, BlankLine(), max_length=60)
    groups = [Group(problem=Problem(prompt="1?" * n, id=f"p{n}"), rollouts=()) for n in (1, 40, 2, 50)]
    with pytest.raises(ValueError, match=r"^problem p40: .* tokens; problem p50: .* the 2 of 4 problems"):
        encoder.encode(groups)
    assert [group.problem.id for group in encoder.fitting(groups)] == ["p1", "p2"]


def test_a_prompt_template_needs_its_place(tokenizer: PreTrainedTokenizerFast) -> None:
    with pytest.raises(ValueError, match=r"has no \{prompt\}, the place of the problem"):
        Encoder(tokenizer, BlankLine(), prompt_template="solve")
    text = Encoder(tokenizer, BlankLine(), prompt_template="Solve: {prompt}").prompt_text(Problem(prompt="1+1", id="p"))
    assert "Solve: 1+1<|im_end|>" in text


def test_batches_pad_on_the_right_and_know_content_addresses(tokenizer: PreTrainedTokenizerFast) -> None:
    encoder = Encoder(tokenizer, BlankLine())
    short, long = encode_one(encoder, "7"), encode_one(encoder, TEXT)
    batch = collate([short, long])
    assert batch.keys() == [short.key, long.key]
    assert short.key != long.key
    assert batch.in_response.sum(1).tolist() == [len(r) - r.prompt_length for r in (short, long)]
    assert (batch.step[0, len(short) :] == -1).all()
