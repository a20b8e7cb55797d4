"""Refuses a reference that would read the ids of the policy's tokenizer as other text, or not at all."""

from __future__ import annotations

from pathlib import Path

from transformers import PreTrainedTokenizerBase

from lit_prm.data.encoding import Encoder
from lit_prm.data.records import Problem
from lit_prm.models.language_model import load_config, load_tokenizer


def refuse_other_vocabulary(encoder: Encoder, reference: str) -> None:
    """Raise ValueError unless each id of the encoder's tokenizer is the same token for the model ``reference``.

    Tokens that were added to a vocabulary may differ, because fine-tuning adds them, as long as the model has
    embeddings for those around every response. A folder without a tokenizer is judged by its embeddings alone.
    """
    if reference == encoder.tokenizer.name_or_path:
        return
    ours, theirs = _ordinary(encoder.tokenizer), _vocabulary_of(reference)
    if theirs is not None and (other := {token for token, _ in ours.items() ^ theirs.items()}):
        first = min(other)
        ids = f"{first!r} is {ours.get(first, 'no token')} there and {theirs.get(first, 'no token')} in the reference"
        raise ValueError(
            f"The reference {reference} has another tokenizer than {encoder.tokenizer.name_or_path}: {len(other)} "
            f"tokens differ, e.g. {ids}. Name the model that the policy was trained from."
        )
    sample = encoder.tokenizer(encoder.prompt_text(Problem(prompt="?", id="")) + encoder.chat.end)
    needed = max([*ours.values(), *sample["input_ids"]]) + 1
    has = load_config(reference).get_text_config().vocab_size
    if has < needed:
        raise ValueError(
            f"The reference {reference} has embeddings of {has} tokens, but prompts and responses have ids up to "
            f"{needed - 1}. Name the model that the policy was trained from."
        )


def _ordinary(tokenizer: PreTrainedTokenizerBase) -> dict[str, int]:
    """The vocabulary without tokens that were added to it."""
    added = tokenizer.get_added_vocab()
    return {token: i for token, i in tokenizer.get_vocab().items() if token not in added}


def _vocabulary_of(model: str) -> dict[str, int] | None:
    if Path(model).is_dir() and not any(Path(model).glob("tokenizer*")):
        return None
    try:
        return _ordinary(load_tokenizer(model))
    except (OSError, ValueError):
        return None
