"""The prompt is what the chat template renders with its generation prompt; the response follows it as sampled."""

from __future__ import annotations

from typing import Any

import pytest
from transformers import PreTrainedTokenizerFast

from lit_prm.data.encoding import Encoder
from lit_prm.data.records import Group, Message, Problem, Rollout
from lit_prm.data.steps import BlankLine
from tests import conftest
from tests.conftest import TEMPLATE, byte_tokenizer

Q = "Ann has 3 pens and buys 4 more. How many pens does she have?"
USER = {"role": "user", "content": Q}

TURN = "{{ '<|im_start|>' + m['role'] + '\\n' }}"
LOOP = "{% for m in messages %}" + TURN + "BODY{{ '<|im_end|>\\n' }}{% endfor %}"
START = "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\nOPEN' }}{% endif %}"
ANSWER = "m['content'].split('</think>')[-1]"
TEMPLATES = {
    "keeps": LOOP.replace("BODY", "{{ m['content'] }}") + START.replace("OPEN", "<think>\\n"),
    "empty": LOOP.replace(
        "BODY",
        "{% if m['role'] == 'assistant' and '</think>' not in m['content'] %}"
        "{{ '<think>\\n\\n</think>\\n\\n' }}{% endif %}{{ m['content'] }}",
    )
    + START.replace("OPEN", ""),
    "drops": LOOP.replace("BODY", "{{ " + ANSWER + " }}") + START.replace("OPEN", "<think>\\n"),
    "trims": LOOP.replace("BODY", "{{ m['content'] | trim }}") + START.replace("OPEN", ""),
}
FIELDS = (
    "{% if tools %}{{ 'tools: ' + tools | map(attribute='function.name') | join(',') + '\\n' }}{% endif %}"
    + LOOP.replace(
        "BODY",
        "{% if m.reasoning_content %}{{ '<think>\\n' + m.reasoning_content + '\\n</think>\\n\\n' }}{% endif %}"
        "{{ m['content'] or '' }}{% for c in m.tool_calls %}{{ '<call>' + c.function.name + '</call>' }}{% endfor %}",
    )
    + START.replace("OPEN", "' + ('no thoughts\\n' if enable_thinking is defined and not enable_thinking else '') + '")
)


def group(prompt: str | tuple[Message, ...], response: str, **more: Any) -> Group:
    options = more.pop("options", None)
    rollout = Rollout(response=response, correct=True, **more)
    return Group(problem=Problem(prompt=prompt, id="p", options=options), rollouts=(rollout,))


def encoded(tokenizer: PreTrainedTokenizerFast, of: Group) -> tuple[str, str]:
    """The prompt and the response that the ids decode to; they are tokens of the two texts, not of the joined text."""
    encoder = Encoder(tokenizer, BlankLine(), spans=True)
    (row,) = encoder.encode([of])
    prompt, response = row.ids[: row.prompt_length].tolist(), row.ids[row.prompt_length :].tolist()
    assert len(row.step) == len(row.spans) == len(response)
    return str(tokenizer.decode(prompt)), str(tokenizer.decode(response))


@pytest.mark.parametrize(
    "response", ["3 and 4 make 7.\n</think>\n\nIt is 7.", "<think>\n3 + 4\n</think>\n\nIt is 7.", "7."]
)
@pytest.mark.parametrize("name", TEMPLATES)
def test_the_prompt_is_the_generation_prompt_and_the_response_is_unchanged(name: str, response: str) -> None:
    tokenizer = byte_tokenizer(TEMPLATES[name])
    expected = str(tokenizer.apply_chat_template([USER], tokenize=False, add_generation_prompt=True))
    assert encoded(tokenizer, group(Q, response)) == (expected, f"{response}<|im_end|>")
    assert Encoder(tokenizer, BlankLine()).prompt_text(Problem(prompt=(USER,), id="p")) == expected


@pytest.mark.parametrize("end", ["", "<|im_end|>", "<|im_end|>\n"])
@pytest.mark.parametrize("template", [TEMPLATE, None])
def test_an_end_of_turn_in_the_response_is_not_repeated(template: str | None, end: str) -> None:
    assert encoded(byte_tokenizer(template), group(Q, f"It is 7.{end}"))[1] == "It is 7.<|im_end|>"


def test_a_last_turn_of_the_assistant_is_continued() -> None:
    chat = (USER, {"role": "assistant", "content": "She has 3 + 4"})
    head = f"<|im_start|>user\n{Q}<|im_end|>\n<|im_start|>assistant\nShe has 3 + 4"
    assert encoded(byte_tokenizer(), group(chat, " = 7 pens.")) == (head, " = 7 pens.<|im_end|>")
    head = f"{Q}\nShe has 3 + 4"
    assert encoded(byte_tokenizer(None), group(chat, " = 7 pens.")) == (head, " = 7 pens.<|im_end|>")


@pytest.mark.parametrize("space", ["\n", " ", "\n\n", "\t", "\u3000"])
@pytest.mark.parametrize("response", ["It is 7.", "\nIt is 7.", " 7."])
def test_a_prompt_that_ends_in_white_space_is_continued_without_a_template(
    space: str, response: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conftest, "CORPUS", [*conftest.CORPUS, *[f"{word}\n\n" for word in "abcd"]])
    tokenizer = byte_tokenizer(None)  # with a token of two line breaks, which a text makes at its end alone
    (row,) = Encoder(tokenizer, BlankLine()).encode([group(Q + space, response)])
    prompt: list[int] = tokenizer(Q + space)["input_ids"]
    assert row.ids[: row.prompt_length].tolist() == prompt
    assert str(tokenizer.decode(row.ids[row.prompt_length :].tolist())) == f"{response}<|im_end|>"


def test_an_end_that_the_tokenizer_adds_to_every_text_does_not_end_the_prompt() -> None:
    from tokenizers.processors import TemplateProcessing

    tokenizer = byte_tokenizer(None)
    special = [(token, tokenizer.convert_tokens_to_ids(token)) for token in ("<|im_start|>", "<|im_end|>")]
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<|im_start|> $A <|im_end|>", special_tokens=special
    )
    assert encoded(tokenizer, group(Q, "7.")) == (f"<|im_start|>{Q}\n", "7.<|im_end|>")


REASONED = {"role": "assistant", "content": "It is 7.", "reasoning_content": "3 and 4 make 7."}
CALL = {"role": "assistant", "content": None, "tool_calls": [{"function": {"name": "add", "arguments": {"a": 3}}}]}
TOOLS = [{"function": {"name": name}} for name in ("add", "sub")]


def test_fields_of_a_message_and_tools_are_what_the_template_writes(capsys: pytest.CaptureFixture[str]) -> None:
    tokenizer, start = byte_tokenizer(FIELDS), f"<|im_start|>user\n{Q}<|im_end|>\n<|im_start|>assistant\n"
    reasoned = group(Q, "It is 7.", message=REASONED)
    assert encoded(tokenizer, reasoned) == (start, "<think>\n3 and 4 make 7.\n</think>\n\nIt is 7.<|im_end|>")
    called = group(Q, "", message=CALL, options={"tools": TOOLS})
    assert encoded(tokenizer, called) == (f"tools: add,sub\n{start}", "<call>add</call><|im_end|>")
    history = group((USER, CALL, {"role": "tool", "content": "7", "name": "add"}), "It is 7.")
    assert encoded(tokenizer, history)[0] == (
        f"{start}<call>add</call><|im_end|>\n<|im_start|>tool\n7<|im_end|>\n<|im_start|>assistant\n"
    )
    quiet = group(Q, "It is 7.", options={"enable_thinking": False})
    assert encoded(tokenizer, quiet)[0] == f"{start}no thoughts\n"
    assert capsys.readouterr().err == ""


def test_what_the_template_ignores_is_told_once(capsys: pytest.CaptureFixture[str]) -> None:
    encoder = Encoder(byte_tokenizer(), BlankLine())
    reasoned = group(Q, "It is 7.", message=REASONED)
    assert [encoder.written_out([reasoned])[0].rollouts[0].response for _ in range(2)] == ["It is 7."] * 2
    encoder.encode([group((USER, CALL, USER), "7.", options={"tools": TOOLS})] * 2)
    assert capsys.readouterr().err.splitlines() == [
        "warning: the chat template ignores reasoning_content", "warning: the chat template ignores tool_calls, tools",
    ]  # fmt: skip
    with pytest.raises(ValueError, match="problem p: the chat template writes nothing for a response with the fields"):
        encoder.encode([group(Q, "", message=CALL)])


def test_a_message_that_does_not_follow_the_generation_prompt_is_refused() -> None:
    odd = FIELDS.replace("assistant\\n' + ", "assistant\\nso: ' + ")
    with pytest.raises(ValueError, match=r"problem p: .*does not continue its generation prompt.*Give the response as"):
        Encoder(byte_tokenizer(odd), BlankLine()).encode([group(Q, "It is 7.", message=REASONED)])


def test_a_conversation_that_the_template_refuses_is_named() -> None:
    strict = byte_tokenizer(
        "{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}" + TEMPLATE
    )
    with pytest.raises(ValueError, match=r"cannot render a chat of system, user \(no system\)"):
        Encoder(strict, BlankLine()).encode([group(({"role": "system", "content": "Be brief."}, USER), "7.")])


def test_a_call_without_text_under_a_template_that_joins_texts_is_told_and_empty(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Such a template adds content to text, which null cannot be added to."""
    joins = byte_tokenizer(LOOP.replace("BODY", "{{ '' + m['content'] }}") + START.replace("OPEN", ""))
    history = group((USER, CALL, {"role": "tool", "content": "7"}), "It is 7.")
    prompt, _ = encoded(joins, history)
    assert "<|im_start|>assistant\n<|im_end|>\n<|im_start|>tool\n7<|im_end|>" in prompt
    assert "the chat template ignores tool_calls" in capsys.readouterr().err
