"""Released PRMs and outcome models as people have them: their files, options that do not apply, single judgements."""

from __future__ import annotations

import importlib.util
import json
import math
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    AutoTokenizer,
    BertConfig,
    BertForTokenClassification,
    LlamaConfig,
    LlamaForCausalLM,
    Qwen2Config,
    Qwen2ForTokenClassification,
)

import lit_prm
from lit_prm.data.encoding import Encoder
from lit_prm.data.records import Group, Problem, Rollout
from lit_prm.data.steps import EurusMarked, EveryLine, Marked, Newline
from lit_prm.evaluation.aggregates import AGGREGATES, aggregated
from lit_prm.scoring.tag_heads import BestLogits
from lit_prm.scoring.tags import TagScorer
from tests import released_prms as made
from tests.conftest import CORPUS, byte_tokenizer
from tests.rounding import network_bound

QUESTION = "What is 2 * (3 + 4)?"
RESPONSE = "Step 1: Add 3 and 4 to get 7.\n\nStep 2: Double it: 7 * 2 = 14.\n\nThe answer is 14."
STEPS = ["Step 1: Add 3 and 4 to get 7.\n\n", "Step 2: Double it: 7 * 2 = 14.\n\n", "The answer is 14."]
ROUNDING = network_bound(120, 2 * 8.0)


def chances(odds: Any) -> list[float]:
    return [1 / (1 + math.exp(-x)) for x in odds if x is not None]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Callable[[Path], None]], Path]:
    there: dict[Callable[[Path], None], Path] = {}

    def of(make: Callable[[Path], None]) -> Path:
        if make not in there:
            there[make] = tmp_path_factory.mktemp("released") / make.__name__
            make(there[make])
        return there[make]

    return of


# ---- files ---------------------------------------------------------------------------------------


def test_a_sentencepiece_tokenizer_without_its_package_names_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *a: None if name == "sentencepiece" else find(name, *a)
    )

    def unable(*_: Any, **__: Any) -> None:
        raise ValueError("`tiktoken` is required to read a `tiktoken` file.")

    monkeypatch.setattr(AutoTokenizer, "from_pretrained", unable)
    made.token_classifier(tmp_path)
    with pytest.raises(ValueError, match=r"that package is not installed\. Install it: pip install sentencepiece\."):
        lit_prm.load(tmp_path)


def test_another_failure_of_a_tokenizer_stays_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unable(*_: Any, **__: Any) -> None:
        raise ValueError("no such vocabulary")

    monkeypatch.setattr(AutoTokenizer, "from_pretrained", unable)
    made.token_classifier(tmp_path)
    with pytest.raises(ValueError, match="no such vocabulary"):
        lit_prm.load(tmp_path)


@pytest.mark.parametrize("kind", ["llama", "mistral"])
def test_math_shepherd_loads_as_released(tmp_path: Path, kind: str) -> None:
    """Two .bin files and a sentencepiece model; the kind decides what transformers makes of "+ -"."""
    folder = tmp_path / "math-shepherd-mistral-7b-prm"
    released_math_shepherd(folder, kind)
    scorer = cast(TagScorer, lit_prm.load(folder))
    found = scorer.score_texts(QUESTION, [RESPONSE])[0]
    model, tokenizer = LlamaForCausalLM.from_pretrained(folder), scorer.tokenizer
    plus, minus = (tokenizer.convert_tokens_to_ids(token) for token in ("▁+", "▁-"))
    text = (
        f"{QUESTION} Step 1: Add 3 and 4 to get 7. ки\nStep 2: Double it: 7 * 2 = 14. ки\nStep 3: The answer is 14. ки"
    )
    ids = cast(list[int], tokenizer.encode(text))
    with torch.no_grad():
        logits = model(torch.tensor([ids])).logits[0].softmax(-1)
    tag = tokenizer.convert_tokens_to_ids("▁ки")
    slow = [(p[plus] / (p[plus] + p[minus])).item() for p, token in zip(logits, ids, strict=True) if token == tag]
    assert chances(found.step_rewards) == pytest.approx(slow, abs=ROUNDING)


def released_math_shepherd(folder: Path, kind: str) -> None:
    trainer = pytest.importorskip("sentencepiece", reason="sentencepiece is not installed").SentencePieceTrainer
    folder.mkdir()
    words = [*"\n".join(CORPUS).split("\n"), *["a ки b ки c ки + - + - + -"] * 20]
    trainer.train(
        sentence_iterator=iter(words), model_prefix=str(folder / "tokenizer"), vocab_size=400, model_type="bpe",
        byte_fallback=True, hard_vocab_limit=False, normalization_rule_name="identity", minloglevel=2,
    )  # fmt: skip
    (folder / "tokenizer.vocab").unlink()
    settings = {"tokenizer_class": "LlamaTokenizer", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    torch.manual_seed(0)
    config = LlamaConfig(vocab_size=400, **cast(Any, made.WIDTH))
    weights = LlamaForCausalLM(config).state_dict()
    shards = {f"pytorch_model-{i}.bin": sorted(weights)[i::2] for i in (0, 1)}
    for file, held in shards.items():
        torch.save({name: weights[name].clone() for name in held}, folder / file)
    index = {"metadata": {}, "weight_map": {name: file for file, held in shards.items() for name in held}}
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    described = json.loads(config.to_json_string()) | {"model_type": kind, "sliding_window": None}
    (folder / "config.json").write_text(json.dumps(described))


def test_skywork_as_released_scores_as_its_copy_in_safetensors(folder: Any) -> None:
    found = [
        lit_prm.load(folder(make)).score_texts(QUESTION, [RESPONSE])
        for make in (made.skywork, made.skywork_as_released)
    ]
    assert found[0] == found[1]


def test_a_bin_file_that_holds_more_than_tensors_is_refused(tmp_path: Path) -> None:
    made.skywork_as_released(tmp_path)
    weights = torch.load(tmp_path / "pytorch_model.bin", weights_only=True)
    torch.save(weights | {"more": Fraction(1, 2)}, tmp_path / "pytorch_model.bin")
    with pytest.raises(ValueError, match="holds more than tensors, or is damaged, so it was not loaded"):
        lit_prm.load(tmp_path)


def test_a_classifier_without_its_head_is_refused(tmp_path: Path) -> None:
    made.token_classifier(tmp_path)
    file = tmp_path / "model.safetensors"
    kept = {name: tensor for name, tensor in load_file(file).items() if not name.startswith("score")}
    save_file(kept, file, metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"lacks score\.bias, score\.weight of a Qwen2ForTokenClassification"):
        lit_prm.load(tmp_path)


def test_other_classifiers_are_refused(tmp_path: Path) -> None:
    tokenizer = byte_tokenizer()
    three = Qwen2Config(vocab_size=len(tokenizer), **cast(Any, made.WIDTH | {"num_labels": 3}))
    sizes = {name: made.WIDTH[name] for name in ("hidden_size", "num_hidden_layers", "num_attention_heads")}
    both_ways = BertConfig(vocab_size=len(tokenizer), **cast(Any, sizes | {"num_labels": 2}))
    cases = (
        (Qwen2ForTokenClassification(three), "has 3 labels"),
        (BertForTokenClassification(both_ways), "see those behind"),
    )
    for model, reason in cases:
        model.save_pretrained(tmp_path / reason)
        tokenizer.save_pretrained(tmp_path / reason)
        with pytest.raises(ValueError, match=reason):
            lit_prm.load(tmp_path / reason)


# ---- options that do not apply ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "options", "reason"),
    [
        (made.qwen, {"beta": 0.1}, r"--beta 0\.1 would be ignored"),
        (made.sequence_classifier, {"beta": 0.1}, r"--beta 0\.1 would be ignored"),
        (made.sequence_classifier, {"aggregate": "mean"}, "--aggregate mean does not apply: style outcome gives"),
        (made.qwen, {"aggregate": "median"}, "not aggregates. Name at least one of min"),
        (made.qwen, {"separator": "\n"}, r"--separator '\\n' does not apply: style qwen has its own tags"),
        (made.rlhflow, {"reference": "none", "style": "rlhflow"}, "--style rlhflow would be ignored"),
        (made.rlhflow, {"reference": "none", "separator": "x"}, "--separator x would be ignored"),
    ],
)
def test_options_that_do_not_apply_are_refused(
    folder: Any, make: Callable[[Path], None], options: dict[str, Any], reason: str
) -> None:
    with pytest.raises(ValueError, match=reason):
        lit_prm.load(folder(make), **options)


def test_a_given_aggregate_is_that_of_the_scores(folder: Any) -> None:
    assert lit_prm.load(folder(made.qwen), aggregate="product").identity["aggregate"] == "product"


def test_a_given_separator_is_that_of_the_input(folder: Any) -> None:
    scorer = lit_prm.load(folder(made.token_classifier), separator="\n\n")
    found = scorer.score_texts(QUESTION, [RESPONSE])[0].step_rewards
    assert chances(found) == pytest.approx(
        made.slow_trl(folder(made.token_classifier), QUESTION, STEPS, "\n\n"), abs=ROUNDING
    )
    assert scorer.identity["separator"] == "\n\n"


# ---- judgements ------------------------------------------------------------------------------------


def test_a_line_judges_the_step_that_ends_in_it(folder: Any) -> None:
    """Skywork: every line break is a reward, of a blank line too; a step has that of its last line with text."""
    response = "One.\n\nTwo,\nand more.\n \nThree."
    every = lit_prm.load(folder(made.skywork)).score_texts(QUESTION, [response])[0]
    lines = ["One.\n", "\n", "Two,\n", "and more.\n", " \n", "Three."]
    assert [response[a:b] for a, b in every.step_spans] == lines
    assert chances(every.step_rewards) == pytest.approx(line_chances(folder(made.skywork), response), abs=ROUNDING)
    coarse = lit_prm.load(folder(made.skywork), steps="BlankLine").score_texts(QUESTION, [response])[0]
    assert coarse.step_rewards == pytest.approx([every.step_rewards[i] for i in (0, 3, 5)], abs=ROUNDING)
    halves = Group(
        problem=Problem(prompt=QUESTION, id="p"), rollouts=(Rollout(response="One. Two.", steps=("One. ", "Two.")),)
    )
    assert [x is None for x in lit_prm.load(folder(made.skywork)).score([halves])[0][0].step_rewards] == [True, False]


@torch.no_grad()
def line_chances(folder: Path, response: str) -> list[float]:
    return made.slow_skywork(
        folder, QUESTION, [line + "\n" * (line != "Three.") for line in response.split("\n")], lines=True
    )


def test_every_line_tiles_the_text() -> None:
    for text in ("", "a", "a\n", "\n\na\n \nb", "a\n\n"):
        assert "".join(EveryLine().split(text)) == text
    assert len(EveryLine().split("a\n\nb")) == 3
    assert len(Newline().split("a\n\nb")) == 2


def test_the_greedy_answer_decides_as_in_processbench_script(folder: Any) -> None:
    scorer = TagScorer(str(folder(made.rlhflow)), "rlhflow-processbench")
    responses = [f"Step {i}: it is {i}.\n\nSo {i} + {i}.\n\nDone {i}" for i in range(12)]
    found = [[x > 0 for x in r.step_rewards if x is not None] for r in scorer.score_texts(QUESTION, responses)]
    assert found == [made.slow_greedy(folder(made.rlhflow), QUESTION, r.split("\n\n")) for r in responses]


def test_the_best_logits_by_hand() -> None:
    head = torch.nn.Identity()
    odds = BestLogits(head, torch.tensor([True, False, True, False]))
    assert odds(torch.tensor([[1.0, 2.0, 4.0, 3.0], [1.0, 5.0, 0.0, 3.0]])).tolist() == [1.0, -4.0]


@pytest.mark.parametrize("template", [True, False])
def test_an_outcome_model_gives_the_response_one_reward(tmp_path: Path, template: bool) -> None:
    made.sequence_classifier(tmp_path, template)
    scorer = lit_prm.load(tmp_path)
    first, again = (scorer.score_texts(QUESTION, [RESPONSE, "14"]) for _ in range(2))
    assert first == again
    for found, response in zip(first, (RESPONSE, "14"), strict=True):
        assert found.reward == pytest.approx(made.slow_outcome(tmp_path, QUESTION, response), abs=ROUNDING)
        assert found.step_rewards[-1] == found.reward
        assert set(found.step_rewards[:-1]) <= {None}
    assert "".join(RESPONSE[a:b] for a, b in first[0].step_spans) == RESPONSE
    cut = lit_prm.load(tmp_path, max_length=20).score_texts(QUESTION, [RESPONSE])[0]
    assert (cut.reward, set(cut.step_rewards), cut.truncated) == (None, {None}, True)


def test_the_padding_token_is_not_read_as_transformers_does_not(tmp_path: Path) -> None:
    """A template that ends with the padding token: transformers pools before it."""
    made.sequence_classifier(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    for padding in (byte_tokenizer().encode("\n")[-1], None):
        (tmp_path / "config.json").write_text(json.dumps(config | {"pad_token_id": padding}))
        found = lit_prm.load(tmp_path).score_texts(QUESTION, ["It is 14."])[0].reward
        assert found == pytest.approx(made.slow_outcome(tmp_path, QUESTION, "It is 14."), abs=ROUNDING)


def test_the_mean_of_probabilities_by_hand(folder: Any) -> None:
    odds = [math.log(0.8 / 0.2), None, math.log(0.3 / 0.7)]
    assert aggregated(odds)["mean-probability"] == pytest.approx(0.55)
    assert aggregated([None])["mean-probability"] is None
    assert lit_prm.load(folder(made.rlhflow), style="rlhflow").identity["aggregate"] in AGGREGATES


def test_eurus_boundaries_are_those_of_the_card() -> None:
    """The card counts the tokens of each rendered prefix with a blank line behind it, minus 2."""
    tokenizer, texts = byte_tokenizer(), [step.strip() for step in STEPS[:2]]
    tokenizer.add_tokens(["\n\n"])  # one token, as in Qwen's and Llama's vocabulary
    groups = [Group(problem=Problem(prompt=QUESTION, id="p"), rollouts=(Rollout(response="\n\n".join(texts)),))]
    shifted, plain = (Encoder(tokenizer, rule()).encode(groups)[0] for rule in (EurusMarked, Marked))
    chat = [{"role": "user", "content": QUESTION}, {"role": "assistant", "content": texts[0]}]
    prefix = str(tokenizer.apply_chat_template(chat, tokenize=False)).strip() + "\n\n"
    last = len(tokenizer.encode(prefix, add_special_tokens=False)) - 2 + 1  # log-probs are of the token behind
    assert shifted.step.tolist() == [int(i > last) for i in range(shifted.prompt_length, len(shifted.ids))]
    assert plain.step.sum() > shifted.step.sum()
    assert Marked().split(RESPONSE) == EurusMarked().split(RESPONSE)
