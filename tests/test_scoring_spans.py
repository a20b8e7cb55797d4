"""Spans tile every response, rewards telescope over them: three families of tokenizers, real and random texts."""

from __future__ import annotations

import os
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from lit_prm.data.batch import Batch
from lit_prm.data.encoding import Encoder
from lit_prm.data.formats import read_groups
from lit_prm.data.records import Group, Problem, Rollout
from lit_prm.data.steps import BlankLine, EachToken, Sentence, StepRule
from lit_prm.models.language_model import load_tokenizer
from lit_prm.models.reward_model import RewardModel
from lit_prm.models.values import prefix_values
from lit_prm.scoring.model_scorer import ModelScorer
from lit_prm.scoring.rewards import Rewards
from tests.conftest import CORPUS, TEMPLATE, byte_tokenizer

DATA = Path(os.environ.get("LIT_PRM_DATA", "nowhere"))
SMOLLM2 = Path(".cache/smollm2")

needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="LIT_PRM_DATA does not name the folder of real data")


class Drawn(RewardModel):
    """Rewards drawn from the token ids: a reward model that costs nothing."""

    dtype = "float32"

    def configure_model(self) -> None: ...

    def forward(self, batch: Batch) -> Tensor:
        return prefix_values(torch.sin(batch.ids.float() * 1.7).where(batch.in_response, 0.0))


def _fast(core: Tokenizer, template: str | None = TEMPLATE) -> PreTrainedTokenizerFast:
    fast: PreTrainedTokenizerFast = cast(Any, PreTrainedTokenizerFast)(
        tokenizer_object=core, pad_token="<|pad|>", eos_token="<|im_end|>", unk_token="<unk>"
    )
    fast.add_special_tokens({"additional_special_tokens": ["<|im_start|>"]})
    fast.chat_template = template
    return fast


def sentencepiece_like() -> PreTrainedTokenizerFast:
    """Unigram pieces with ▁ for spaces, and bytes for what no piece covers."""
    special = ["<unk>", "<|pad|>", "<|im_start|>", "<|im_end|>"]
    core = Tokenizer(models.Unigram())
    core.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.UnigramTrainer(vocab_size=200, special_tokens=special, unk_token="<unk>", show_progress=False)
    core.train_from_iterator(CORPUS * 4, trainer)
    learnt = sorted(piece for piece in core.get_vocab() if piece not in special)
    scored = [(p, -1.0) for p in special] + [(f"<0x{b:02X}>", -15.0) for b in range(256)]
    scored += [(p, -4.0 - 0.1 * i / len(learnt)) for i, p in enumerate(learnt)]
    again = Tokenizer(models.Unigram(scored, unk_id=0, byte_fallback=True))
    again.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never", split=False)
    again.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace(prepend_scheme="never")])
    return _fast(again)


def word_pieces() -> PreTrainedTokenizerFast:
    """Lower-cased words without accents in pieces, as BERT's; what it does not know is one token."""
    special = ["<unk>", "<|pad|>", "<|im_start|>", "<|im_end|>"]
    core = Tokenizer(models.WordPiece(unk_token="<unk>"))
    core.normalizer = normalizers.BertNormalizer()
    core.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    core.train_from_iterator(
        CORPUS, trainers.WordPieceTrainer(vocab_size=200, special_tokens=special, show_progress=False)
    )
    return _fast(core)


def smollm2() -> PreTrainedTokenizerFast:
    """The real one where it was made, otherwise one of its family."""
    return cast(PreTrainedTokenizerFast, load_tokenizer(str(SMOLLM2))) if SMOLLM2.is_dir() else byte_tokenizer()


FAMILIES = {"byte-level BPE": smollm2, "SentencePiece-like": sentencepiece_like, "word pieces": word_pieces}
ALPHABETS = (
    "abc 123.,!?\n", "äöüßéñ \n", "最后除以二的数 。\n\n", "𝔸𝔹𝕏∑∫√≤ \n", "👩‍👩‍👧🏳️‍🌈🇩🇪 \n\n",
    "אבגד ערבית \n", "\u0301\u0308e a\n", "\t\r\n \u00a0\u2003\u200b", "\x00\x07\x1b[31m\\{}$\n\n", "กขคง ไทย\n",
)  # fmt: skip


def random_responses(count: int, seed: int = 0) -> list[str]:
    """Texts of all scripts, mixed within one in every second, with blank lines among them."""
    rng = random.Random(seed)
    made = []
    for i in range(count):
        letters = "".join(rng.sample(ALPHABETS, 3)) if i % 2 else rng.choice(ALPHABETS)
        made.append("".join(rng.choice(letters) for _ in range(rng.randrange(0, 120))))
    return made


def scorer_of(family: str, steps: StepRule, max_length: int = 8192) -> ModelScorer:
    encoder = Encoder(FAMILIES[family](), steps, max_length=max_length, spans=True)
    return ModelScorer(Drawn(), encoder, identity={}, budget=200_000)


def refuse_untrue(scorer: ModelScorer, groups: Sequence[Group]) -> int:
    """Every law of one response's rewards, for all; how many there were."""
    seen = 0
    for group, of_group in zip(groups, scorer.score(groups), strict=True):
        for rollout, rewards in zip(group.rollouts, of_group, strict=True):
            _laws(rollout, rewards)
            seen += 1
    return seen


def _laws(rollout: Rollout, rewards: Rewards) -> None:
    text = rollout.response
    assert rewards.step_spans[0][0] == 0
    assert rewards.step_spans[-1][1] == len(text)
    assert all(a[1] == b[0] for a, b in zip(rewards.step_spans, rewards.step_spans[1:], strict=False))
    if rollout.steps:
        assert tuple(text[a:b] for a, b in rewards.step_spans) == rollout.steps
    known = [x for x in rewards.step_rewards if x is not None]
    assert sum(known) == pytest.approx(rewards.reward, abs=2e-4, rel=1e-6)
    assert sum(r for r in rewards.token_rewards if r is not None) == pytest.approx(rewards.reward, abs=2e-4, rel=1e-6)
    assert len(rewards.token_rewards) == rewards.tokens
    assert all(0 <= a <= b <= len(text) for a, b in rewards.token_spans)
    starts = [a for a, _ in rewards.token_spans]
    assert starts == sorted(starts)
    if not rewards.truncated:
        assert rewards.token_spans[-1] == (len(text), len(text))  # the end of turn


@pytest.mark.parametrize("steps", [BlankLine(), EachToken(), Sentence()], ids=lambda s: type(s).__name__)
@pytest.mark.parametrize("family", list(FAMILIES))
def test_random_unicode(family: str, steps: StepRule) -> None:
    texts = random_responses(200)
    groups = [
        Group(problem=Problem(prompt="Solve: 1 + 1?", id=str(i)), rollouts=tuple(Rollout(response=t) for t in part))
        for i, part in enumerate([texts[i : i + 8] for i in range(0, 200, 8)])
    ]
    assert refuse_untrue(scorer_of(family, steps), groups) == 200


@needs_data
@pytest.mark.parametrize("family", list(FAMILIES))
@pytest.mark.parametrize("name", ["math500_candidates_n10", "processbench_math"])
def test_some_real_responses(family: str, name: str) -> None:
    groups = read_groups(str(DATA / f"{name}.jsonl.gz")).groups[:8]
    assert refuse_untrue(scorer_of(family, BlankLine()), groups) == sum(len(g.rollouts) for g in groups)


@pytest.mark.slow
@needs_data
@pytest.mark.parametrize("family", list(FAMILIES))
@pytest.mark.parametrize("name", ["math500_candidates_n10", *[
    f"processbench_{subset}" for subset in ("gsm8k", "math", "olympiadbench", "omnimath")
]])  # fmt: skip
def test_every_real_response(family: str, name: str) -> None:
    groups = read_groups(str(DATA / f"{name}.jsonl.gz")).groups
    assert refuse_untrue(scorer_of(family, BlankLine(), 1 << 20), groups) == sum(len(g.rollouts) for g in groups)
