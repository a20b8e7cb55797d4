"""Loads causal language models and tokenizers from a folder or the hub, with clear errors."""

from __future__ import annotations

import importlib.util
import pickle
import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

from huggingface_hub import try_to_load_from_cache
from torch import OutOfMemoryError
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils.logging import disable_progress_bar

from lit_prm.models.probes import check_readable, first_line, pack
from lit_prm.models.zero_weights import whole_in_turn
from lit_prm.storage.schemas import one_line

Dtype = str  # one of DTYPES, as configs write it
DTYPES = ("auto", "float32", "bfloat16", "float16")
Attention = str  # "auto", "packed", or one of transformers: "sdpa", "eager", "flash_attention_2", ...


@contextmanager
def reading(name: str) -> Iterator[None]:
    """Inside, whatever a library raises at the files of a model becomes a ValueError in one line with the model's name.

    At a damaged file they raise classes of any kind: tokenizers a plain ``Exception``, transformers ``TypeError``.
    """
    try:
        yield
    except (ImportError, MemoryError, OutOfMemoryError):
        raise
    except pickle.UnpicklingError as error:
        raise ValueError(
            f"A weights file of {name} holds more than tensors, or is damaged, so it was not loaded "
            f"({first_line(error)}) Get it again, or convert it to safetensors where you trust it."
        ) from None
    except Exception as error:
        raise ValueError(
            f"{name} cannot be read ({type(error).__name__}: {one_line(error)}). Give the folder of a whole model; "
            "download or export a damaged one again."
        ) from error


def load_tokenizer(name: str) -> PreTrainedTokenizerBase:
    """The tokenizer of a local folder or a hub model. Raises ValueError if it needs the package sentencepiece."""
    refuse_missing_folder(name)
    sentencepiece = importlib.util.find_spec("sentencepiece")
    try:
        with reading(name):
            return cast(PreTrainedTokenizerBase, AutoTokenizer.from_pretrained(name, trust_remote_code=False))
    except (ImportError, ValueError) as error:  # transformers then tries, and asks for, another package: tiktoken
        asks = re.search("sentencepiece|tiktoken", str(error)) or (Path(name) / "tokenizer.model").is_file()
        if sentencepiece or not asks:
            raise
        raise ValueError(
            f"{name} has the tokenizer of sentencepiece, tokenizer.model, and that package is not installed. Install "
            "it: pip install sentencepiece."
        ) from error


def load_config(name: str) -> Any:
    """The configuration of a local folder or a hub model."""
    with reading(name):
        return AutoConfig.from_pretrained(name, trust_remote_code=False)


def load_model(name: str, dtype: Dtype = "float32", attention: Attention | None = None) -> PreTrainedModel:
    """A causal language model of a local folder or the hub, in eval mode.

    Log-probs are computed by the head from hidden states of response positions alone. A model that changes its logits
    after the head (soft-capping, scaling) would get wrong log-probs, so it raises ValueError. So does a folder that
    lacks weights or holds another head, such as a PRM's or an outcome reward model's. ``attention`` is one of
    transformers' or "packed", None the model's default. "auto" means packed, unless a sample shows that the model
    cannot use it; the reason is then logged.
    """
    refuse_missing_folder(name)
    cast(Any, disable_progress_bar)()  # the bar of shards takes half a second
    if dtype not in DTYPES:
        raise ValueError(f"dtype {dtype!r} is not one of {', '.join(DTYPES)}. Give one of them.")
    given = None if attention == "auto" else attention
    try:
        with reading(name):
            model, report = cast(Any, AutoModelForCausalLM).from_pretrained(
                name, dtype=dtype, attn_implementation=given, trust_remote_code=False, output_loading_info=True
            )
    except (ImportError, ValueError) as error:  # of an attention that is unknown or not installed
        if given is None or not re.search("attn|attention", str(error), re.IGNORECASE):
            raise
        raise ValueError(
            f"attention {given!r} cannot be used: {first_line(error)} Give auto, packed, sdpa or eager, or install "
            "what it needs."
        ) from error
    _refuse_other_weights(name, model, report)
    model.eval()
    with whole_in_turn(model):
        check_readable(model)
        if attention == "auto":
            pack(model)
    return cast(PreTrainedModel, model)


def _refuse_other_weights(name: str, model: PreTrainedModel, report: Mapping[str, Collection[str]]) -> None:
    """Raise ValueError for weights that transformers had to make up, and for weights of a head that it left out.

    A model with tied embeddings lacks no weight without its own head: only the other head, unused, tells.
    """
    missing, body = sorted(report["missing_keys"]), f"{model.base_model_prefix}."
    heads = sorted(key for key in report["unexpected_keys"] if not key.startswith(body))
    if missing or heads:
        lacks = f" lacks {', '.join(missing[:3])}" if missing else ""
        holds = f" holds {', '.join(heads[:3])}, which a {type(model).__name__} does not have" if heads else ""
        raise ValueError(
            f"{name}{lacks}{' and' if lacks and holds else ''}{holds}, so it is not a language model whose log-probs "
            "could be rewards. Give a language model; score a released PRM without --reference, by its --style."
        )


def may_be_on_hub(name: str) -> bool:
    """True for a name owner/model, and for one of the few old models without owner that is in the cache."""
    slashes = -1 if name.startswith((".", "/", "~")) else name.count("/")
    return slashes == 1 or (slashes == 0 and isinstance(try_to_load_from_cache(name, "config.json"), str))


def refuse_missing_folder(name: str) -> None:
    """Raise ValueError for a local path that does not exist; the hub would answer with a puzzling network error."""
    if name.startswith("~"):
        raise ValueError(
            f"Model folder {name!r} begins with ~, which only shells expand. Write {Path(name).expanduser()}."
        )
    if not Path(name).is_dir() and not may_be_on_hub(name):
        raise ValueError(
            f"Model folder {name!r} does not exist. Give a folder with config.json, or a hub name owner/model."
        )
