"""Compares the inputs of released PRMs with their authors' on ProcessBench, with the models' real tokenizers.

    python -m tests.golden.prm_inputs TOKENIZERS PROCESSBENCH

TOKENIZERS holds three files that packages carry: ``tokenizer.model.v1`` of mistral_common 1.12.0 (Mistral 7B v0.1),
``llama3.tiktoken``, the llama3/tokenizer.model of llama_models 0.3.0, and ``qwen.tiktoken`` of dashscope 2.0.2.
PROCESSBENCH holds the four processbench_*.jsonl.gz. Needs tiktoken and sentencepiece. The chat templates are short
restatements of Llama 3.1's and Qwen2.5-Math's. Prints, for each style, how many of 136 items (every 25th) have the
authors' ids and positions.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer, PreTrainedTokenizerFast
from transformers.convert_slow_tokenizer import TikTokenConverter

from lit_prm.data.formats import read_groups
from lit_prm.scoring.tag_styles import STYLES

_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}%s| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_QWEN = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|a|>", "<|b|>", "<|c|>", "<|d|>", "<|e|>", "<extra_0>"]
_LLAMA = ["<|begin_of_text|>", "<|end_of_text|>", *(f"<|r{i}|>" for i in range(4)), "<|start_header_id|>",
          "<|end_header_id|>", "<|eom_id|>", "<|eot_id|>"]  # fmt: skip
_BOXED = "Please reason step by step, and put your final answer within \\boxed{}."
_QWEN_CHAT = (
    "{% if messages[0]['role'] != 'system' %}<|im_start|>system\n" + _BOXED.replace("\\", "\\\\") + "<|im_end|>\n"
    "{% endif %}{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
)
_LLAMA_CHAT = (
    "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nCutting Knowledge Date: December 2023\n"
    "Today Date: 26 Jul 2024\n\n<|eot_id|>{% for m in messages %}<|start_header_id|>{{ m['role'] }}<|end_header_id|>"
    "\n\n{{ m['content'] | trim }}<|eot_id|>{% endfor %}"
)

Authors = Callable[[Any, str, Sequence[str]], tuple[list[int], list[int]]]  # ids, read positions


def tiktoken(file: Path, digits: str, special: list[str], template: str, **named: str) -> Any:
    core = TikTokenConverter(vocab_file=str(file), pattern=_WORDS % digits, extra_special_tokens=special).converted()
    made: Any = PreTrainedTokenizerFast(tokenizer_object=core, **named)
    made.chat_template = template
    return made


def mistral(file: Path) -> Any:
    with tempfile.TemporaryDirectory() as folder:
        shutil.copy(file, Path(folder) / "tokenizer.model")
        (Path(folder) / "tokenizer_config.json").write_text('{"tokenizer_class": "LlamaTokenizer"}')
        (Path(folder) / "config.json").write_text('{"model_type": "llama"}')
        return AutoTokenizer.from_pretrained(folder)


def at_tag(tokenizer: Any, text: str, tag: int, special: bool = True) -> tuple[list[int], list[int]]:
    ids = tokenizer.encode(text, add_special_tokens=special)
    return ids, [i for i, token in enumerate(ids) if token == tag]


def shepherd(tokenizer: Any, question: str, steps: Sequence[str]) -> tuple[list[int], list[int]]:
    body = "\n".join(f"Step {k}: {step} ки" for k, step in enumerate(steps, 1))
    return at_tag(tokenizer, f"{question} {body}", 12902)


def er_prm(tokenizer: Any, question: str, steps: Sequence[str]) -> tuple[list[int], list[int]]:
    body = "".join(f"Step {k}: {step} ки" for k, step in enumerate(steps, 1))
    return at_tag(tokenizer, f"{question} {body}", 116624)


def versaprm(tokenizer: Any, question: str, steps: Sequence[str]) -> tuple[list[int], list[int]]:
    tag = " \n\n\n\n"
    return at_tag(tokenizer, f"{question} \n\n{''.join(step + tag for step in steps)}", 23535)


def rlhflow(tokenizer: Any, question: str, steps: Sequence[str], joint: str = " ") -> tuple[list[int], list[int]]:
    chat, ids, at = list[dict[str, str]](), list[int](), list[int]()
    for k, step in enumerate(steps):
        chat += [
            {"role": "user", "content": step if k else f"{question}{joint}{step}"},
            {"role": "assistant", "content": "+"},
        ]
        ids = tokenizer.apply_chat_template(chat, return_dict=False)
        at.append(len(ids) - 3)
    return ids, at


def qwen(tokenizer: Any, question: str, steps: Sequence[str], system: bool = True) -> tuple[list[int], list[int]]:
    chat = [{"role": "system", "content": _BOXED}] if system else []
    chat += [
        {"role": "user", "content": question},
        {"role": "assistant", "content": "".join(f"{s}<extra_0>" for s in steps)},
    ]
    return at_tag(tokenizer, tokenizer.apply_chat_template(chat, tokenize=False), 151651)


def skywork(tokenizer: Any, question: str, steps: Sequence[str]) -> tuple[list[int], list[int]]:
    """Every line of the response is judged; the line that ends a step is the last one of the step."""
    ids, lines = tokenizer.encode(f"{question}\n"), list[int]()
    for line in "\n\n".join(steps).split("\n"):
        ids = [*ids, *(tokenizer.encode(line) if line else []), 198]
        lines.append(len(ids) - 1)
    ends = ["\n\n".join(steps[:k]).count("\n") for k in range(1, len(steps) + 1)]
    return ids, [lines[end] for end in ends]


def trl(tokenizer: Any, question: str, steps: Sequence[str]) -> tuple[list[int], list[int]]:
    ids, at = tokenizer(question)["input_ids"], list[int]()
    for step in steps:
        ids = ids + tokenizer(step)["input_ids"] + tokenizer.encode("\n")
        at.append(len(ids) - 1)
    return ids, at


def main() -> None:
    folder, data = map(Path, sys.argv[1:3])
    llama = tiktoken(folder / "llama3.tiktoken", "{1,3}", _LLAMA, _LLAMA_CHAT, bos_token="<|begin_of_text|>")
    math = tiktoken(folder / "qwen.tiktoken", "", _QWEN, _QWEN_CHAT, eos_token="<|im_end|>")
    spm = mistral(folder / "tokenizer.model.v1")
    shown = {"Mistral": (spm, "+-"), "Llama": (llama, "+-"), "Qwen": (math, ("<extra_0>", "\n", "\n\n"))}
    for name, (tokenizer, texts) in shown.items():
        each = [text for bare in texts for text in (bare, f" {bare}")] + [" ки"]
        print(name, {text: tokenizer.encode(text, add_special_tokens=False)[-1] for text in each})
    authors: dict[str, tuple[Any, Authors]] = {
        "math-shepherd": (spm, shepherd), "er-prm": (llama, er_prm), "versaprm": (llama, versaprm),
        "rlhflow": (llama, rlhflow), "rlhflow-processbench": (llama, lambda t, q, s: rlhflow(t, q, s, "\n\n")),
        "qwen": (math, qwen), "reasonflux": (math, lambda t, q, s: qwen(t, q, s, system=False)),
        "skywork": (math, skywork), "trl": (math, trl),
    }  # fmt: skip
    names = ("gsm8k", "math", "olympiadbench", "omnimath")
    groups = [g for name in names for g in read_groups(str(data / f"processbench_{name}.jsonl.gz")).groups[::25]]
    for style, (tokenizer, of) in authors.items():
        equal, why = 0, list[str]()
        for group in groups:
            steps = group.rollouts[0].steps or ()
            written = [step.removesuffix("\n\n") for step in steps]
            theirs = of(tokenizer, group.problem.text, written)
            try:
                ids, at = STYLES[style].lay_out(tokenizer, group.problem.text, steps)
            except ValueError as error:
                why.append(f"{group.problem.id}: {str(error)[:150]}")
                continue
            equal += (ids, list(at.values())) == theirs
            why += [] if (ids, list(at.values())) == theirs else [group.problem.id]
        print(f"{style}: {equal} of {len(groups)}", *why[:4])


if __name__ == "__main__":
    main()
