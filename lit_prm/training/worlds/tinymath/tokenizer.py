"""A word-level tokenizer for tinymath: a number is one token, and decoding gives the text back."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from typing import Any, cast

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from lit_prm.training.worlds.tinymath.irrelevant import code, general
from lit_prm.training.worlds.tinymath.problems import LARGEST, make_problem
from lit_prm.training.worlds.tinymath.solutions import write_solution

PAD, EOS, ASK, SAY, UNKNOWN = "<pad>", "<eos>", "<ask>", "<say>", "<unk>"
TEMPLATE = (
    "{% for m in messages %}"
    "{{ '<ask>' + m['content'] + '<say>' if m['role'] == 'user' else m['content'] + '<eos>' }}"
    "{% endfor %}"
)
# Spaces belong to the words around them, so a number is the same token wherever it occurs.
PIECE = r"\\boxed\{|\d+| ?[A-Za-z]+ ?| ?[*+=-] ?|\n|."


def make_tokenizer(samples: int = 8000) -> PreTrainedTokenizerFast:
    """A tokenizer whose vocabulary is every number in [0, LARGEST] and every piece of sampled texts.

    The texts are ``samples`` problems with solutions, and a tenth as many pairs of each irrelevant kind, which have
    fewer words.
    """
    split = pre_tokenizers.Split(Regex(PIECE), behavior="isolated")
    rng = random.Random(0)
    pieces = {str(n) for n in range(LARGEST + 1)}
    for text in _texts(samples, rng):
        pieces.update(re.findall(PIECE, text))
    special = [PAD, EOS, ASK, SAY, UNKNOWN]
    vocabulary = {piece: i for i, piece in enumerate([*special, *sorted(pieces)])}
    core = Tokenizer(models.WordLevel(vocabulary, unk_token=UNKNOWN))
    core.pre_tokenizer = split
    core.decoder = decoders.Fuse()
    tokenizer: PreTrainedTokenizerFast = cast(Any, PreTrainedTokenizerFast)(
        tokenizer_object=core, pad_token=PAD, eos_token=EOS, unk_token=UNKNOWN
    )
    tokenizer.add_special_tokens({"additional_special_tokens": [ASK, SAY]})
    tokenizer.chat_template = TEMPLATE
    return tokenizer


def _texts(samples: int, rng: random.Random) -> Iterator[str]:
    for _ in range(samples):
        problem = make_problem(rng)
        yield from (problem.text, write_solution(problem, rng))
    for draw in (general, code):
        for _ in range(samples // 10):
            pair = draw(rng)
            yield from (pair.instruction, pair.right, pair.wrong)
