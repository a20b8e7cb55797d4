"""Released tag-token PRMs: each style reads at its own tags, as a slow restatement of its authors' script does."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen2Model,
)

from lit_prm.data.records import Group, Problem, Rollout
from lit_prm.data.steps import BlankLine
from lit_prm.evaluation.aggregates import aggregated
from lit_prm.models.language_model import load_tokenizer
from lit_prm.scoring import tag_styles
from lit_prm.scoring.rewards import Rewards
from lit_prm.scoring.tag_styles import STYLES
from lit_prm.scoring.tags import TagScorer, style_of
from tests.conftest import CORPUS, byte_tokenizer, small_llama
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
WIDTH = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
         "num_key_value_heads": 2, "max_position_embeddings": 512, "initializer_range": 0.3}  # fmt: skip
# of log-odds, differences of two logits of up to 8, behind up to 120 tokens; one token beside is 600 times as far
ROUNDING = network_bound(120, 2 * 8.0)


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


MAKERS: dict[str, Callable[[Path], None]] = {
    "math-shepherd": math_shepherd, "rlhflow": rlhflow, "qwen": qwen, "skywork": skywork,
}  # fmt: skip


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    made = {name: tmp_path_factory.mktemp("tags") / name for name in MAKERS}
    for name, make in MAKERS.items():
        make(made[name])
    return made


@pytest.fixture(params=list(MAKERS))
def style(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def scorer_of(folders: dict[str, Path], style: str, **options: Any) -> TagScorer:
    return TagScorer(str(folders[style]), style, BlankLine(), **options)


# ---- slow restatements: one response, one step at a time, the authors' way ------------------------


@torch.no_grad()
def slow_math_shepherd(folder: Path, question: str, steps: list[str]) -> list[float]:
    tokenizer, model = load_tokenizer(str(folder)), MistralForCausalLM.from_pretrained(folder)
    good_bad = tokenizer.encode("+ -")[1:]
    found = []
    for k in range(1, len(steps) + 1):  # the prefix ends with the tag, where it is read
        body = "\n".join(f"{s if s.startswith('Step') else f'Step {i}: {s}'} ки" for i, s in enumerate(steps[:k], 1))
        logits = model(torch.tensor([tokenizer.encode(f"{question} {body}")])).logits[0, -1, good_bad]
        found.append(logits.softmax(-1)[0].item())
    return found


@torch.no_grad()
def slow_rlhflow(folder: Path, question: str, steps: list[str]) -> list[float]:
    tokenizer, model = load_tokenizer(str(folder)), LlamaForCausalLM.from_pretrained(folder)
    plus, minus = tokenizer.encode("+")[-1], tokenizer.encode("-")[-1]
    chat: list[dict[str, str]] = []
    found = []
    for k, step in enumerate(steps):
        chat.append({"role": "user", "content": step if k else f"{question} {step}"})
        text = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
        logits = model(torch.tensor([tokenizer.encode(text, add_special_tokens=False)])).logits[0, -1]
        found.append(logits[[plus, minus]].softmax(-1)[0].item())
        chat.append({"role": "assistant", "content": "+"})
    return found


@torch.no_grad()
def slow_qwen(folder: Path, question: str, steps: list[str]) -> list[float]:
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
        ids = tokenizer.encode(tokenizer.apply_chat_template(chat, tokenize=False), add_special_tokens=False)
        last = max(i for i, token in enumerate(ids) if token == tokenizer.convert_tokens_to_ids("<extra_0>"))
        hidden = model(torch.tensor([ids])).last_hidden_state[0, last]
        hidden = (head["score.0.weight"] @ hidden + head["score.0.bias"]).relu()
        found.append((head["score.2.weight"] @ hidden + head["score.2.bias"]).softmax(-1)[1].item())
    return found


@torch.no_grad()
def slow_skywork(folder: Path, question: str, steps: list[str]) -> list[float]:
    tokenizer = load_tokenizer(str(folder))
    model, head = _restored(folder)
    ids = tokenizer.encode(tokenizer.bos_token + question + "\n")
    found = []
    for step in steps:
        ids = ids + tokenizer.encode(step) + tokenizer.encode("\n")[-1:]
        hidden = model(torch.tensor([ids])).last_hidden_state[0, -1]
        found.append((head["v_head.summary.weight"] @ hidden + head["v_head.summary.bias"]).sigmoid().item())
    return found


def _restored(folder: Path) -> tuple[Qwen2Model, dict[str, torch.Tensor]]:
    """The backbone and all weights, put together by hand."""
    weights = {k: v for file in folder.glob("*.safetensors") for k, v in load_file(file).items()}
    model = Qwen2Model(Qwen2Config.from_pretrained(folder))
    model.load_state_dict({k.removeprefix("model."): v for k, v in weights.items() if k.startswith("model.")})
    return cast(Qwen2Model, cast(Any, model).eval()), weights


SLOW = {"math-shepherd": slow_math_shepherd, "rlhflow": slow_rlhflow, "qwen": slow_qwen, "skywork": slow_skywork}


# ---- tests --------------------------------------------------------------------------------------


def rewards(found: list[list[Rewards]]) -> list[list[float | None]]:
    return [list(r.step_rewards) for group in found for r in group]


def test_every_style_equals_its_slow_restatement(folders: dict[str, Path], style: str) -> None:
    found = scorer_of(folders, style).score(GROUPS)
    for group, of_group in zip(GROUPS, found, strict=True):
        for rollout, made in zip(group.rollouts, of_group, strict=True):
            steps = [s.strip() for s in rollout.steps or BlankLine().split(rollout.response)]
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


def test_reading_one_token_beside_the_tag_is_another_number(folders: dict[str, Path], style: str) -> None:
    """The off-by-one of the paper's baseline (training read before the separator, evaluation at it)."""
    scorer = scorer_of(folders, style)
    right = rewards(scorer.score(GROUPS))
    lay_out = scorer.style.lay_out

    def beside(question: str, steps: Any) -> tag_styles.TaggedInput:
        ids, at = lay_out(question, steps)
        return tag_styles.TaggedInput(ids, [i - 1 for i in at])

    scorer.style.lay_out = beside  # type: ignore[method-assign]
    wrong = rewards(scorer.score(GROUPS))
    apart = [
        abs(cast(float, a) - cast(float, b))
        for x, y in zip(right, wrong, strict=True)
        for a, b in zip(x, y, strict=True)
    ]
    assert min(apart) > 100 * ROUNDING


def test_a_tokenizer_of_another_style_is_refused(folders: dict[str, Path]) -> None:
    with pytest.raises(ValueError, match="style rlhflow is a chat, but the tokenizer has no chat template"):
        TagScorer(str(folders["math-shepherd"]), "rlhflow", BlankLine()).score(GROUPS)
    with pytest.raises(ValueError, match=r"holds no score\.0\.weight"):
        TagScorer(str(folders["skywork"]), "qwen", BlankLine())
    merged = scorer_of(folders, "math-shepherd").style
    with pytest.raises(ValueError, match="no token '▁ки' ends where the tag ends in 'a кит'"):
        merged.tagged("a", [" кит"], "", merged.ids(" ки")[-1], special=True)


def test_the_style_is_found_or_asked_for(folders: dict[str, Path], tmp_path: Path) -> None:
    found = {name: style_of(str(folder)) for name, folder in folders.items()}
    assert found == {"math-shepherd": None, "rlhflow": None, "qwen": "qwen", "skywork": "skywork"}
    for released, style in (
        ("math-shepherd-mistral-7b-prm", "math-shepherd"),
        ("Llama3.1-8B-PRM-Mistral-Data", "rlhflow"),
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
    assert (identity["style"], identity["aggregate"], identity["prompt_template"]) == (style, "min", "Solve: {prompt}")
