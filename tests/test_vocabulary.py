"""A reference with another vocabulary is refused by name, in scoring and in training, before anything is computed."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from lit_prm.data.encoding import Encoder
from lit_prm.data.steps import BlankLine
from lit_prm.losses import CE
from lit_prm.models.reference import Frozen, Stored
from lit_prm.models.reward_model import ImplicitReward
from lit_prm.models.vocabulary import refuse_other_vocabulary
from lit_prm.scoring.loading import load
from lit_prm.training.module import LitPRM
from tests.conftest import byte_tokenizer, small_llama


def model(folder: Path, rows: int = 0, swap: bool = False, added: str = "") -> str:
    """A model with this many embeddings, whose tokenizer has two tokens swapped or one added."""
    tokenizer = byte_tokenizer()
    if swap:
        core = tokenizer.backend_tokenizer.to_str()
        a, b = (f'"{text}":{tokenizer.convert_tokens_to_ids(text)}' for text in "ab")
        core = core.replace(f"{a},", a.replace("a", "b", 1) + ",").replace(f"{b},", b.replace("b", "a", 1) + ",", 1)
        tokenizer = cast(Any, type(tokenizer))(tokenizer_object=type(tokenizer.backend_tokenizer).from_str(core))
    if added:
        tokenizer.add_tokens([added])
    tokenizer.save_pretrained(folder)
    small_llama(1, rows or len(tokenizer)).save_pretrained(folder)
    return str(folder)


def test_swapped_tokens_are_refused_in_scoring_and_in_training(tmp_path: Path, policy_folder: Path) -> None:
    other = model(tmp_path / "other", swap=True)
    wrong = rf"The reference {other} has another tokenizer than .*: 2 tokens differ, e.g. 'a' is \d+ there"
    with pytest.raises(ValueError, match=wrong):
        load(str(policy_folder), reference=other)
    encoder = Encoder(byte_tokenizer(), BlankLine())
    for reference in (Frozen(other), Stored(other, str(tmp_path / "logps"))):
        module = LitPRM(ImplicitReward(str(policy_folder)), CE(), reference=reference)
        module.trainer = cast(
            Any, SimpleNamespace(datamodule=SimpleNamespace(encoder=lambda: encoder), precision="32-true")
        )
        with pytest.raises(ValueError, match="has another tokenizer"):
            module.setup("fit")


def test_too_few_embeddings_are_refused_and_tokens_that_no_text_has_are_not(tmp_path: Path) -> None:
    encoder = Encoder(byte_tokenizer(), BlankLine())
    size = len(encoder.tokenizer)
    small = model(tmp_path / "small", rows=size - 7)
    with pytest.raises(ValueError, match=rf"{small} has embeddings of {size - 7} tokens, .* ids up to {size - 1}"):
        refuse_other_vocabulary(encoder, small)
    refuse_other_vocabulary(encoder, model(tmp_path / "more", rows=size + 64, added="<new>"))
    encoder.tokenizer.add_tokens(["<pad2>"])
    refuse_other_vocabulary(encoder, model(tmp_path / "base"))
    encoder.tokenizer.chat_template = f"<pad2>{encoder.tokenizer.chat_template}"  # now every prompt holds it
    with pytest.raises(ValueError, match=f"embeddings of {size} tokens, .* ids up to {size}"):
        refuse_other_vocabulary(Encoder(encoder.tokenizer, BlankLine()), model(tmp_path / "base"))
