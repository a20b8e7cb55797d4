"""Small random models in the layouts of released PRMs, and slow restatements of how their authors score with them."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any, cast

import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen2ForSequenceClassification,
    Qwen2ForTokenClassification,
    Qwen2Model,
)

from lit_prm.models.language_model import load_tokenizer
from tests.conftest import CORPUS, byte_tokenizer, small_llama

WIDTH = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
         "num_key_value_heads": 2, "max_position_embeddings": 512, "initializer_range": 0.3}  # fmt: skip


# ---- stand-ins ----------------------------------------------------------------------------------


def sentencepiece_like() -> PreTrainedTokenizerFast:
    """Metaspace words and byte fallback, a beginning of text, no chat template: what Mistral v0.1 has."""
    core = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True))
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split("\n", "isolated"), pre_tokenizers.Metaspace(prepend_scheme="first")]
    )
    core.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace()])
    special = ["<unk>", "<s>", "</s>", *(f"<0x{i:02X}>" for i in range(256))]
    words = [*CORPUS, "a ки b ки c ки + - + - + -"] * 3
    core.train_from_iterator(
        words, trainers.BpeTrainer(vocab_size=600, special_tokens=special, min_frequency=2, show_progress=False)
    )
    core.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return cast(PreTrainedTokenizerFast, cast(Any, PreTrainedTokenizerFast)(
        tokenizer_object=core, bos_token="<s>", eos_token="</s>", unk_token="<unk>"))  # fmt: skip


def math_shepherd(folder: Path) -> None:
    tokenizer = sentencepiece_like()
    torch.manual_seed(0)
    MistralForCausalLM(MistralConfig(vocab_size=len(tokenizer), **cast(Any, WIDTH))).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def rlhflow(folder: Path) -> None:
    tokenizer = byte_tokenizer()
    small_llama(3, len(tokenizer)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def qwen(folder: Path) -> None:
    """Qwen's own layout: two classes behind two layers, remote code named in the config, which must not run."""
    tokenizer = byte_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<extra_0>"]})
    weights = _qwen2(folder, len(tokenizer), "Qwen2ForProcessRewardModel")
    torch.manual_seed(1)
    for layer, outputs in ((0, 32), (2, 2)):
        sizes: dict[str, tuple[int, ...]] = {"weight": (outputs, 32), "bias": (outputs,)}
        weights |= {f"score.{layer}.{part}": 0.3 * torch.randn(size) for part, size in sizes.items()}
    _store(folder, weights, tokenizer)
    config = json.loads((folder / "config.json").read_text())
    config["auto_map"] = {"AutoModel": "modeling_qwen2_rm.Qwen2ForProcessRewardModel"}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "modeling_qwen2_rm.py").write_text("raise SystemExit('remote code ran')")


def skywork(folder: Path) -> None:
    tokenizer = byte_tokenizer()
    tokenizer.bos_token = "<|im_start|>"
    weights = _qwen2(folder, len(tokenizer), "Qwen2ForPrmModel")
    torch.manual_seed(1)
    weights |= {"v_head.summary.weight": 0.3 * torch.randn(1, 32), "v_head.summary.bias": torch.randn(1)}
    _store(folder, weights, tokenizer)


def skywork_as_released(folder: Path) -> None:
    """One file of pickled tensors."""
    skywork(folder)
    weights = {name: tensor for file in folder.glob("*.safetensors") for name, tensor in load_file(file).items()}
    for file in [*folder.glob("*.safetensors"), folder / "model.safetensors.index.json"]:
        file.unlink()
    torch.save(weights, folder / "pytorch_model.bin")


def token_classifier(folder: Path) -> None:
    """What TRL's PRMTrainer saves."""
    tokenizer = byte_tokenizer()
    torch.manual_seed(0)
    config = Qwen2Config(vocab_size=len(tokenizer), **cast(Any, WIDTH | {"num_labels": 2}))
    Qwen2ForTokenClassification(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def sequence_classifier(folder: Path, template: bool = True) -> None:
    """What TRL's RewardTrainer saves."""
    tokenizer = byte_tokenizer() if template else byte_tokenizer(None)
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=len(tokenizer), pad_token_id=tokenizer.pad_token_id, **cast(Any, WIDTH | {"num_labels": 1})
    )
    Qwen2ForSequenceClassification(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _qwen2(folder: Path, vocabulary: int, architecture: str) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    model = Qwen2ForCausalLM(Qwen2Config(vocab_size=vocabulary, **cast(Any, WIDTH)))
    model.save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"architectures": [architecture]}))
    return load_file(folder / "model.safetensors")


def _store(folder: Path, weights: dict[str, torch.Tensor], tokenizer: PreTrainedTokenizerFast) -> None:
    """In two shards, as the released ones are."""
    names = sorted(weights)
    shards = {"model-1.safetensors": names[::2], "model-2.safetensors": names[1::2]}
    (folder / "model.safetensors").unlink()
    for file, held in shards.items():
        save_file({name: weights[name] for name in held}, folder / file, metadata={"format": "pt"})
    index = {"metadata": {}, "weight_map": {name: file for file, held in shards.items() for name in held}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    tokenizer.save_pretrained(folder)


# ---- slow restatements: one response, one step at a time, the authors' way ------------------------


@torch.no_grad()
def slow_math_shepherd(folder: Path, question: str, steps: list[str]) -> list[float]:
    steps = [step.strip() for step in steps]
    tokenizer, model = load_tokenizer(str(folder)), MistralForCausalLM.from_pretrained(folder)
    good_bad = tokenizer.encode("+ -")[1:]
    found = []
    for k in range(1, len(steps) + 1):  # the prefix ends with the tag, where it is read
        body = "\n".join(f"{s if s.startswith('Step') else f'Step {i}: {s}'} ки" for i, s in enumerate(steps[:k], 1))
        logits = model(torch.tensor([tokenizer.encode(f"{question} {body}")])).logits[0, -1, good_bad]
        found.append(logits.softmax(-1)[0].item())
    return found


@torch.no_grad()
def slow_rlhflow(folder: Path, question: str, steps: list[str], joint: str = " ") -> list[float]:
    steps = [step.strip() for step in steps]
    tokenizer, model = load_tokenizer(str(folder)), LlamaForCausalLM.from_pretrained(folder)
    plus, minus = tokenizer.encode("+")[-1], tokenizer.encode("-")[-1]
    chat: list[dict[str, str]] = []
    found = []
    for k, step in enumerate(steps):
        chat.append({"role": "user", "content": step if k else f"{question}{joint}{step}"})
        text = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
        logits = model(torch.tensor([tokenizer.encode(text, add_special_tokens=False)])).logits[0, -1]
        found.append(logits[[plus, minus]].softmax(-1)[0].item())
        chat.append({"role": "assistant", "content": "+"})
    return found


@torch.no_grad()
def slow_qwen(folder: Path, question: str, steps: list[str], with_system: bool = True) -> list[float]:
    steps = [step.strip() for step in steps]
    tokenizer = load_tokenizer(str(folder))
    model, head = _restored(folder)
    system = "Please reason step by step, and put your final answer within \\boxed{}."
    found = []
    for k in range(1, len(steps) + 1):
        chat = [
            {"role": "system", "content": system},
            {"role": "user", "content": question},
            {"role": "assistant", "content": "<extra_0>".join(steps[:k]) + "<extra_0>"},
        ]
        chat = chat if with_system else chat[1:]
        ids = tokenizer.encode(tokenizer.apply_chat_template(chat, tokenize=False), add_special_tokens=False)
        last = max(i for i, token in enumerate(ids) if token == tokenizer.convert_tokens_to_ids("<extra_0>"))
        hidden = model(torch.tensor([ids])).last_hidden_state[0, last]
        hidden = (head["score.0.weight"] @ hidden + head["score.0.bias"]).relu()
        found.append((head["score.2.weight"] @ hidden + head["score.2.bias"]).softmax(-1)[1].item())
    return found


@torch.no_grad()
def slow_skywork(folder: Path, question: str, steps: list[str], lines: bool = False) -> list[float]:
    """A judgement of every line of the response; of these each step has that of its last line with text."""
    tokenizer = load_tokenizer(str(folder))
    model, head = _restored(folder)
    ids, each = tokenizer.encode(tokenizer.bos_token + question + "\n"), list[float]()
    for line in "".join(steps).split("\n"):
        ids = ids + (tokenizer.encode(line) if line else []) + tokenizer.encode("\n")[-1:]
        hidden = model(torch.tensor([ids])).last_hidden_state[0, -1]
        judged = (head["v_head.summary.weight"] @ hidden + head["v_head.summary.bias"]).sigmoid().item()
        each.append(judged)
    ends = [text.count("\n") for text in accumulate(step.rstrip() for step in _kept(steps))]
    return each if lines else [each[end] for end in ends]


def _kept(steps: Sequence[str]) -> list[str]:
    """The steps with the white space between them at their beginnings, so that each ends with text."""
    behind = [step[len(step.rstrip()) :] for step in steps]
    return [before + step.strip() for before, step in zip(["", *behind], steps, strict=False)]


def _restored(folder: Path) -> tuple[Qwen2Model, dict[str, torch.Tensor]]:
    """The backbone and all weights, put together by hand."""
    weights = {k: v for file in folder.glob("*.safetensors") for k, v in load_file(file).items()}
    if not weights:
        weights = torch.load(folder / "pytorch_model.bin", weights_only=True)
    model = Qwen2Model(Qwen2Config.from_pretrained(folder))
    model.load_state_dict({k.removeprefix("model."): v for k, v in weights.items() if k.startswith("model.")})
    return cast(Qwen2Model, cast(Any, model).eval()), weights


@torch.no_grad()
def slow_greedy(folder: Path, question: str, steps: list[str]) -> list[bool]:
    """Does the likeliest token after each turn begin with +?"""
    tokenizer, model = load_tokenizer(str(folder)), LlamaForCausalLM.from_pretrained(folder)
    chat: list[dict[str, str]] = []
    found = []
    for k, step in enumerate(steps):
        chat.append({"role": "user", "content": step.strip() if k else f"{question}\n\n{step.strip()}"})
        text = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
        logits = model(torch.tensor([tokenizer.encode(text, add_special_tokens=False)])).logits[0, -1]
        found.append(str(tokenizer.decode([int(logits.argmax())])).strip().startswith("+"))
        chat.append({"role": "assistant", "content": "+"})
    return found


@torch.no_grad()
def slow_text(folder: Path, prefixes: Sequence[str], right: str, wrong: str) -> list[float]:
    """Each prefix of the text ends with the tag, where it is read."""
    tokenizer, model = load_tokenizer(str(folder)), AutoModelForCausalLM.from_pretrained(folder)
    answers = [tokenizer.encode(token, add_special_tokens=False)[-1] for token in (right, wrong)]
    logits = [model(torch.tensor([tokenizer.encode(text)])).logits[0, -1, answers] for text in prefixes]
    return [both.softmax(-1)[0].item() for both in logits]


def slow_openrlhf(folder: Path, question: str, steps: list[str], between: str = "\n") -> list[float]:
    numbered = [s.strip() if s.startswith("Step") else f"Step {i}: {s.strip()}" for i, s in enumerate(steps, 1)]
    prefixes = [between.join(f"{s} ки" for s in numbered[:k]) for k in range(1, len(steps) + 1)]
    plus, minus = ("+", "-") if between else (" +", " -")
    return slow_text(folder, [f"{question} {prefix}" for prefix in prefixes], plus, minus)


def slow_versaprm(folder: Path, question: str, steps: list[str]) -> list[float]:
    bare, tag = [step.strip() for step in steps], " \n\n\n\n"
    prefixes = [f"{question} \n\n{tag.join(bare[:k])}{tag}" for k in range(1, len(steps) + 1)]
    return [1 - right for right in slow_text(folder, prefixes, "-", "+")]  # the card reads the second of (-, +)


@torch.no_grad()
def slow_trl(folder: Path, question: str, steps: list[str], separator: str = "\n") -> list[float]:
    tokenizer, model = load_tokenizer(str(folder)), AutoModelForTokenClassification.from_pretrained(folder)
    ids, found = tokenizer.encode(question, add_special_tokens=False), []
    for step in steps:
        ids = ids + tokenizer.encode(step.strip(), add_special_tokens=False)
        ids = ids + tokenizer.encode(separator, add_special_tokens=False)
        found.append(model(torch.tensor([ids])).logits[0, -1].softmax(-1)[1].item())
    return found


@torch.no_grad()
def slow_outcome(folder: Path, question: str, response: str) -> float:
    """The card's way: the whole conversation, one logit."""
    tokenizer, model = load_tokenizer(str(folder)), AutoModelForSequenceClassification.from_pretrained(folder)
    chat = [{"role": "user", "content": question}, {"role": "assistant", "content": response}]
    plain = f"{question}{response}{tokenizer.eos_token}"
    text = tokenizer.apply_chat_template(chat, tokenize=False) if tokenizer.chat_template else plain
    ids = tokenizer.encode(text, add_special_tokens=False)
    return float(model(torch.tensor([ids])).logits[0, 0])


MAKERS: dict[str, Callable[[Path], None]] = {
    "math-shepherd": math_shepherd, "rlhflow": rlhflow, "qwen": qwen, "skywork": skywork,
    "openrlhf": math_shepherd, "er-prm": math_shepherd, "versaprm": rlhflow, "reasonflux": qwen,
    "trl": token_classifier, "pure": token_classifier, "trl-blank-line": token_classifier,
}  # fmt: skip

SLOW: dict[str, Callable[[Path, str, list[str]], list[float]]] = {
    "math-shepherd": slow_math_shepherd,
    "rlhflow": slow_rlhflow,
    "qwen": slow_qwen,
    "skywork": slow_skywork,
    "openrlhf": slow_openrlhf,
    "er-prm": lambda folder, question, steps: slow_openrlhf(folder, question, steps, between=""),
    "versaprm": slow_versaprm,
    "reasonflux": lambda folder, question, steps: slow_qwen(folder, question, steps, with_system=False),
    "trl": slow_trl,
    "pure": lambda folder, question, steps: slow_trl(folder, question, steps, "\n\n"),
    "trl-blank-line": lambda folder, question, steps: slow_trl(folder, question, steps, "\n\n"),
}
"""P(step right) of each step; the steps tile the response."""
