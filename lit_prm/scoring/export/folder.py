"""Writes an exported reward model: policy, head, tokenizer, reward.json, check and card, completely or not at all."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from safetensors.torch import save_file

from lit_prm.data.encoding import Encoder
from lit_prm.models.adapters import AdaptedReward
from lit_prm.models.reference import Reference
from lit_prm.models.reward_model import MODULE_PREFIX, REFERENCE_ARGUMENTS, RewardModel, ValueHead
from lit_prm.scoring.building import present_identity
from lit_prm.scoring.check_samples import CHECK_FILE, sampled
from lit_prm.scoring.export.card import Facts, card
from lit_prm.scoring.spec import SPEC_FILE, Named, RewardSpec, arguments_of, named
from lit_prm.storage.atomic import BEFORE, LOCK, alone, clear, put_back, swap
from lit_prm.storage.class_paths import class_of, class_path_of

HEAD_FILE = "head.safetensors"


def write_folder(folder: Path, reward_model: RewardModel, encoder: Encoder, spec: RewardSpec, facts: Facts) -> None:
    """Write all files of an export of a configured reward model; ``spec`` is that of the run.

    The policy is saved in the precision that it has, and the rewards for the check are computed in it.
    """
    dtype = str(cast(Any, reward_model.policy).dtype).rpartition(".")[2]
    has_head = isinstance(reward_model, ValueHead)
    samples = sampled(reward_model, encoder)
    _save_policy(reward_model, folder)
    encoder.tokenizer.save_pretrained(folder)
    if has_head:
        weights = cast(ValueHead, reward_model).head.state_dict()
        head = {f"{MODULE_PREFIX}head.{name}": w.detach().contiguous() for name, w in weights.items()}
        save_file(head, folder / HEAD_FILE, metadata={"format": "pt"})
    own_spec = exported(spec, dtype, has_head=has_head)
    own_spec = replace(own_spec, identity=present_identity(own_spec.resolved(folder)))
    _write(folder / SPEC_FILE, own_spec.to_json())
    _write(folder / CHECK_FILE, {"dtype": dtype, "samples": samples})
    (folder / "README.md").write_text(card(facts, own_spec))


def exported(spec: RewardSpec, dtype: str, *, has_head: bool) -> RewardSpec:
    """The spec of the exported folder: the policy lies in the folder, and the reference needs none of the run's files.

    Only the reference for scoring is kept, not one that is for training alone. Local paths become absolute.
    """
    reward_class = spec.reward_class
    arguments = arguments_of(spec.reward_model) | {"policy": ".", "dtype": dtype}
    own = [arguments.pop(name, None) for name in REFERENCE_ARGUMENTS]
    given = own[0] or own[1] or (None if reward_class.has_own_reference else spec.reference)
    exported_class, arguments = reward_class.as_exported(arguments)
    reference = None if given is None else _without_run(given)
    return replace(
        spec,
        reward_model=named(_path(spec.reward_model, reward_class, exported_class), arguments),
        reference=reference,
        identity={},
        tokenizer=".",
        weights=HEAD_FILE if has_head else None,
    )


def _without_run(reference: Named) -> dict[str, Any]:
    """A reference with the same log-probs that whoever has the exported folder can build."""
    given_class = class_of(str(reference["class_path"]), Reference)
    exported_class, arguments = given_class.as_exported(arguments_of(reference))
    if "model" in arguments:
        arguments["model"] = _absolute(arguments["model"])
    return named(_path(reference, given_class, exported_class), arguments)


def _path(part: Named, given: type, exported_class: type) -> str:
    """The class path of ``exported_class``: as the part spells it, if it is the part's own class."""
    return str(part["class_path"]) if exported_class is given else class_path_of(exported_class)


def _save_policy(reward_model: RewardModel, folder: Path) -> None:
    """Save the model; of an adapted one only the adapter, which names its base by an absolute path or hub name."""
    if not isinstance(reward_model, AdaptedReward):
        cast(Any, reward_model.policy).save_pretrained(folder)
        return
    for config in reward_model.adapted.peft_config.values():
        config.base_model_name_or_path = _absolute(reward_model.base_name)
    reward_model.adapted.save_pretrained(folder)


def _absolute(name: str) -> str:
    """The absolute path of a local folder; a hub name is unchanged."""
    return str(Path(name).resolve()) if Path(name).exists() else name


def _write(file: Path, content: Mapping[str, Any]) -> None:
    file.write_text(json.dumps(content, indent=1) + "\n")


@contextmanager
def whole_folder(target: Path) -> Iterator[Path]:
    """Yields a folder to write to, which gets the name ``target`` if the block succeeds and is removed if it fails.

    It lies in ``target.parts``, which the next export to ``target`` removes after a kill. An earlier export at
    ``target`` is replaced in one step. Anything else there raises ValueError before anything is written.
    """
    parts = target.with_name(f"{target.name}.parts")
    with alone(parts):
        if foreign := sorted({path.name for path in parts.iterdir()} - {LOCK, BEFORE, target.name}):
            raise ValueError(
                f"{parts} holds {foreign[0]}, which no export wrote, and an export works there. Move it away."
            )
        put_back(parts, target)
        clear(parts)
        _refuse_others(target)
        try:
            partial = parts / target.name
            partial.mkdir()
            yield partial
            swap(partial, target)
        finally:
            clear(parts)


_OWN_FILES = re.compile(
    r"(config|generation_config|special_tokens_map|added_tokens|vocab|reward|check)\.json|README\.md|merges\.txt|"
    r"model(-\d+-of-\d+)?\.safetensors|model\.safetensors\.index\.json|head\.safetensors|"
    r"adapter_(config\.json|model\.safetensors)|tokenizer(_config)?\.json|"
    r"(tokenizer|spiece|spm|sentencepiece(\.bpe)?)\.model|vocab\.txt|chat_template\.(jinja|json)|additional_chat_templates"
)
_FOLDERS = ("additional_chat_templates",)  # that transformers writes


def _refuse_others(target: Path) -> None:
    """Raise ValueError if there is something at ``target`` that is neither an export nor an empty folder."""
    if not target.exists():
        return
    paths = sorted(target.iterdir()) if target.is_dir() else []
    names = [path.name for path in paths]
    if not target.is_dir() or (names and not {SPEC_FILE, CHECK_FILE} <= set(names)):
        raise ValueError(
            f"{target} exists and is not an export (it lacks {SPEC_FILE} or {CHECK_FILE}), so it is not replaced. Give "
            "a new folder, or remove that one."
        )
    if others := [p.name for p in paths if not _OWN_FILES.fullmatch(p.name) or p.is_dir() != (p.name in _FOLDERS)]:
        raise ValueError(
            f"{target} holds {others[0]}, which is no file of an export, so the folder is not replaced. Move it away, "
            "or give a new folder."
        )
