"""Writes an exported reward model: policy, head, tokenizer, reward.json, check and card, whole or not at all."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from safetensors.torch import save_file

from lit_prm.data.encoding import Encoder
from lit_prm.models.adapters import AdaptedReward, LoRAReward
from lit_prm.models.reward_model import RewardModel, ValueHead
from lit_prm.models.weights import weights_hash
from lit_prm.scoring.check_samples import CHECK_FILE, sampled
from lit_prm.scoring.export.card import Facts, card
from lit_prm.scoring.spec import SPEC_FILE, Named, RewardSpec, named

HEAD_FILE = "head.safetensors"
_PARTIAL = ".partial"


def write_folder(folder: Path, reward_model: RewardModel, encoder: Encoder, spec: RewardSpec, facts: Facts) -> None:
    """All files of an export of a configured reward model; ``spec`` is the run's.

    The policy has the precision it is given in; the check is of that precision too.
    """
    dtype = str(cast(Any, reward_model.policy).dtype).rpartition(".")[2]
    told = exported(spec, dtype, has_head=isinstance(reward_model, ValueHead))
    samples = sampled(reward_model, encoder)
    _save_policy(reward_model, folder)
    encoder.tokenizer.save_pretrained(folder)
    if isinstance(reward_model, ValueHead):
        head = {
            f"reward_model.head.{name}": w.detach().contiguous() for name, w in reward_model.head.state_dict().items()
        }
        save_file(head, folder / HEAD_FILE, metadata={"format": "pt"})
    _write(folder / SPEC_FILE, told.to_json())
    _write(folder / CHECK_FILE, {"dtype": dtype, "samples": samples})
    (folder / "README.md").write_text(card(facts, told))


def exported(spec: RewardSpec, dtype: str, *, has_head: bool) -> RewardSpec:
    """The spec as it stands in the exported folder: the policy lies beside it, the reference needs no store.

    The reference is the one that scoring asks; what training alone asked is left out. Local names are made absolute.
    """
    arguments = dict(spec.reward_model.get("init_args") or {}) | {"policy": ".", "dtype": dtype}
    own = [arguments.pop(name, None) for name in ("scoring_reference", "reference", "training_reference")]
    kind = spec.reward_model["class_path"]
    if kind == _path_of(LoRAReward):  # an adapter's folder tells the rest
        kind = _path_of(AdaptedReward)
        for name in LoRAReward.OWN:
            arguments.pop(name, None)
    switched = kind == _path_of(AdaptedReward)
    reference = own[0] or own[1] or (None if switched else spec.reference)
    arguments.pop("gradient_checkpointing", None)
    live = None if reference is None else _live(reference)
    model = (live or {}).get("init_args", {}).get("model")
    return replace(
        spec,
        reward_model=named(kind, arguments),
        reference=live,
        reference_hash=weights_hash(model) if model else None,
        tokenizer=".",
        weights=HEAD_FILE if has_head else None,
    )


def _path_of(kind: type) -> str:
    return f"{kind.__module__}.{kind.__name__}"


def _live(reference: Named) -> Named:
    """A store's log-probs are those of a frozen model, which the folder's reader has and the store not."""
    stored = reference["class_path"] == "lit_prm.models.reference.Stored"
    options = reference.get("init_args") or {}
    kept = {k: v for k, v in options.items() if not stored or k in ("model", "dtype")}
    if "model" in kept:
        kept["model"] = _found_anywhere(kept["model"])
    return named("lit_prm.models.reference.Frozen" if stored else reference["class_path"], kept)


def _save_policy(reward_model: RewardModel, folder: Path) -> None:
    """The model, or an adapter alone that names its base by what is found from anywhere."""
    if not isinstance(reward_model, AdaptedReward):
        cast(Any, reward_model.policy).save_pretrained(folder)
        return
    for config in reward_model.adapted.peft_config.values():
        config.base_model_name_or_path = _found_anywhere(reward_model.base_name)
    reward_model.adapted.save_pretrained(folder)


def _found_anywhere(name: str) -> str:
    """The absolute path of what is a local folder; a name of the hub stays."""
    return str(Path(name).resolve()) if Path(name).exists() else name


def _write(file: Path, content: Mapping[str, Any]) -> None:
    file.write_text(json.dumps(content, indent=1) + "\n")


# ---- whole or not at all ------------------------------------------------------------------------


@contextmanager
def whole_folder(target: Path) -> Iterator[Path]:
    """A folder to write in, renamed to ``target`` when the block ends well; an earlier export there is replaced.

    Anything else at ``target`` is refused before anything is written.
    """
    refuse_foreign(target)
    partial = target.with_name(f".{target.name}.{os.getpid()}{_PARTIAL}")
    partial.mkdir(parents=True)
    try:
        yield partial
        before = target.with_name(f".{target.name}.{os.getpid()}.before")
        if target.exists():
            os.rename(target, before)
        os.rename(partial, target)
        shutil.rmtree(before, ignore_errors=True)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def refuse_foreign(target: Path) -> None:
    """Raise when there is something at ``target`` that export did not make."""
    ours = target.is_dir() and ((target / SPEC_FILE).is_file() or not any(target.iterdir()))
    if target.exists() and not ours:
        raise ValueError(
            f"{target} exists and is no export (it has no {SPEC_FILE}), so it is left alone; give a new folder, or "
            "remove that one"
        )
