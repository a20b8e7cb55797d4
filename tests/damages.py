"""Damaged files of every kind that readers meet, as functions of the whole file's bytes; all of them are harmless."""

from __future__ import annotations

import io
import json
import pickle
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
import yaml

from tests.conftest import Touch

Damage = Callable[[bytes], bytes]
DEEP = 200_000  # brackets; made at run time, refused by Python's own reader


def replaced(**changes: Any) -> Damage:
    """A JSON object with other values; `model__loss` goes deeper, ... removes the name."""

    def damage(data: bytes) -> bytes:
        content = yaml.safe_load(data)
        for name, value in changes.items():
            *above, last = (int(key) if key.isdecimal() else key for key in name.split("__"))
            inner = content
            for key in above:
                inner = inner[key]
            inner[last] = value
            if value is ...:
                del inner[last]
        return json.dumps(content).encode()

    return damage


def text(content: str) -> Damage:
    return lambda data: content.encode()


def cut(data: bytes) -> bytes:
    return data[: len(data) // 2]


def flipped(data: bytes) -> bytes:
    return data[: len(data) // 2] + bytes([data[len(data) // 2] ^ 1]) + data[len(data) // 2 + 1 :]


def nested(data: bytes) -> bytes:
    return b'{"a":' * DEEP + b"1" + b"}" * DEEP


def header(change: Callable[[dict[str, Any]], object]) -> Damage:
    """A safetensors file with another header."""

    def damage(data: bytes) -> bytes:
        size = struct.unpack("<Q", data[:8])[0]
        content = json.loads(data[8 : 8 + size])
        change(content)
        written = json.dumps(content).encode()
        return struct.pack("<Q", len(written)) + written + data[8 + size :]

    return damage


def saved(content: object, **how: Any) -> Damage:
    def damage(data: bytes) -> bytes:
        torch.save(content, written := io.BytesIO(), **how)
        return written.getvalue()

    return damage


def first(of: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = next(value for name, value in of.items() if name != "__metadata__")
    return found


HUGE = 10**400
BROKEN: dict[str, Damage] = {
    "no JSON": text("{"), "a list": text("[]"), "empty": text(""), "no text": lambda data: b"\xff\xfe\x00",
    "nested": nested,
}  # fmt: skip
CONFIG = BROKEN | {
    "no YAML": text("model: [1, 2"), "a tab": text("model:\n\ta: 1"),
    "an alias of itself": text("model: &m {reward_model: *m}\ndata: {}"),
    "a tag": text("model: !!python/object/apply:os.mkdir [made]"),
    "no model": replaced(model=...), "a model of text": replaced(model="x"), "no data": replaced(data=None),
    "a reward model that is a number": replaced(model__reward_model=3), "no tokenizer": replaced(data__tokenizer=...),
    "a length of text": replaced(data__max_length="long"), "no loss": replaced(model__loss=...),
    "callbacks of numbers": replaced(trainer__callbacks=[3]), "a class without path": replaced(data__steps={"a": 1}),
}  # fmt: skip
REWARD = BROKEN | {
    "a number": text("3"), "nested classes": text('{"steps":' * 450 + "1" + "}" * 450),
    "an unknown key": replaced(more=1), "no steps": replaced(steps=...),
    "steps of text": replaced(steps="x"), "a number for a class": replaced(reward_model=3),
    "arguments in a list": replaced(reward_model__init_args=[1]),
    "a class path in a list": replaced(steps__class_path=[]),
    "a tokenizer in a list": replaced(tokenizer=[]), "a length of text": replaced(max_length="long"),
    "a negative length": replaced(max_length=-1), "a huge length": replaced(max_length=HUGE),
    "a template of numbers": replaced(prompt_template=3),
    "a template without its field": replaced(prompt_template="{x}"),
    "an aggregate that is unknown": replaced(aggregate="most"), "weights in a list": replaced(weights=[1]),
    "an identity of numbers": replaced(identity=[1]), "another hash": replaced(identity__base="0" * 64),
    "beta in words": replaced(reward_model__init_args__beta="much"), "a reference of text": replaced(reference="x"),
}  # fmt: skip
CHECK = BROKEN | {
    "no samples": replaced(samples=...), "too few": replaced(samples=[]), "no precision": replaced(dtype=...),
    "samples that are numbers": replaced(samples=[1, 2, 3]),
    "ids of text": replaced(samples__0__ids="x"), "a reward of text": replaced(samples__0__reward="x"),
    "an infinity": replaced(samples__0__reward=float("inf")), "a huge number": replaced(samples__0__reward=HUGE),
    "rewards missing": replaced(samples__0__step_rewards=None),
}  # fmt: skip
WEIGHTS: dict[str, Damage] = {
    "empty": text(""), "cut": cut, "no header": text("x" * 64), "a huge header": lambda data: b"\xff" * 8 + data[8:],
    "a header that is no JSON": lambda data: data[:8] + b"[" * 8 + data[16:],
    "an unknown type": header(lambda h: first(h).update(dtype="F31")),
    "offsets beyond the end": header(lambda h: first(h).update(data_offsets=[0, 10**9])),
    "a negative shape": header(lambda h: first(h).update(shape=[-1])),
    "another shape": header(lambda h: first(h).update(shape=first(h)["shape"][::-1])),
    "a tensor missing": header(lambda h: h.pop("model.norm.weight")),
}  # fmt: skip
CHECKPOINT: dict[str, Damage] = {
    "empty": text(""), "cut": cut, "one bit": flipped, "text": text("weights"), "a list": saved([1]),
    "no weights": saved({"epoch": 1}), "weights in a list": saved({"state_dict": [1]}),
    "weights that are numbers": saved({"state_dict": {"reward_model.policy.x": 3}}),
    "names that are numbers": saved({"state_dict": {3: torch.ones(1)}}),
    "an identity of numbers": saved({"state_dict": {}, "identity": [1]}),
}  # fmt: skip
MODEL: dict[str, tuple[str, Damage]] = {
    "config no JSON": ("config.json", text("{")), "config a list": ("config.json", text("[]")),
    "config nested": ("config.json", nested), "config without a type": ("config.json", text("{}")),
    "config of text": ("config.json", replaced(hidden_size="wide")),
    "config of another size": ("config.json", replaced(hidden_size=64, head_dim=16)),
    "tokenizer no JSON": ("tokenizer.json", text("{")), "tokenizer a list": ("tokenizer.json", text("[]")),
    "tokenizer cut": ("tokenizer.json", cut), "tokenizer config a list": ("tokenizer_config.json", text("[]")),
    "template no Jinja": ("chat_template.jinja", text("{% if %}")),
}  # fmt: skip
SUMMARY = BROKEN | {
    "metrics in a list": replaced(metrics=[1]), "metrics of text": replaced(metrics={"bon/test/acc@1": "most"}),
}  # fmt: skip
SCORED = BROKEN | {
    "a scorer of text": replaced(scorer="x"), "a scorer in a list": replaced(scorer=[1]),
    "beta in words": replaced(scorer__beta="much"), "an aggregate that is a number": replaced(scorer__aggregate=3),
    "an unknown aggregate": replaced(scorer__aggregate="most"),
    "spans beyond the text": replaced(step_spans__0=[[0, 5], [5, 900]]),
    "negative spans": replaced(step_spans__0=[[-5, 5], [5, 10]]),
    "spans backwards": replaced(step_spans__0=[[5, 0], [5, 10]]),
    "spans of text": replaced(step_spans__0="x"), "spans of three": replaced(step_spans__0=[[0, 5, 9], [5, 10]]),
    "spans of fractions": replaced(step_spans__0=[[0.5, 5], [5, 10]]),
    "token spans beyond the text": replaced(token_spans__0__0=[0, 900]),
    "huge spans": replaced(step_spans__0__0=[0, HUGE]),
    "a huge number": replaced(rewards__0=HUGE), "a huge step": replaced(step_rewards__0__0=-HUGE),
    "a reward of text": replaced(rewards__0="x"), "true for a reward": replaced(rewards__0=True),
    "a reward in a list": replaced(rewards__0=[1]), "rewards in an object": replaced(rewards={"a": 1}),
    "one reward too few": replaced(rewards=[1.0]), "one step too few": replaced(step_rewards__0=[1.0]),
    "tokens of text": replaced(response_tokens__0="x"), "negative tokens": replaced(response_tokens__0=-4),
    "infinite tokens": replaced(response_tokens__0=float("inf")), "truncated in words": replaced(truncated__0="no"),
    "a token without span": replaced(token_spans__0=[]), "no prompt": replaced(prompt=...),
    "a label of text": replaced(correctness__0="maybe"),
}  # fmt: skip


# --- hostile files: whatever ran would leave something called `touched` in the test's own folder -----

OWN = "own_payload"  # a module that lies in the folder
PAYLOAD = """
from pathlib import Path
from lit_prm.data.steps import Newline
from lit_prm.models.kernels import Kernels
from lit_prm.models.reference import Uniform
from lit_prm.models.reward_model import ImplicitReward
Path(__file__).with_name("touched").touch()
class Model(ImplicitReward): pass
class Source(Uniform): pass
class Rule(Newline): pass
class Fast(Kernels):
    def __call__(self, policy): pass
"""


def path(name: str, **arguments: Any) -> dict[str, Any]:
    return {"class_path": f"{OWN}.{name}", "init_args": arguments}


def argument(name: str, value: Any) -> Damage:
    return replaced(**{f"reward_model__init_args__{name}": value}, identity={})


def pickled(content: Any, *, old: bool = False) -> Damage:
    """A file of torch.save in which ``content`` stands; ``old`` is the format before 1.6, a plain pickle."""
    return saved({"state_dict": {}, **content}, _use_new_zipfile_serialization=not old)


DEEPER = {"class_path": "lit_prm.models.reference.Frozen", "init_args": {"model": path("Source")}}
FOREIGN = f"names a class of {OWN}, which is not part"
UNBUILT = "cannot be built as a RewardModel"
OF_EXPORT: dict[str, tuple[Damage, str]] = {  # of reward.json, with what is told
    "model": (replaced(reward_model=path("Model", policy=".")), FOREIGN),
    "steps": (replaced(steps=path("Rule")), FOREIGN), "reference": (replaced(reference=path("Source")), FOREIGN),
    "argument": (argument("reference", path("Source")), FOREIGN),
    "in a list": (argument("kernels", [path("Fast")]), FOREIGN), "deep": (argument("reference", DEEPER), FOREIGN),
    "name": (argument("reference", f"{OWN}.Source"), UNBUILT),
    "name in a list": (argument("kernels", [f"{OWN}.Fast"]), UNBUILT),
    "JSON in a text": (argument("reference", json.dumps(path("Source"))), UNBUILT),
    "a file's name": (argument("reference", "reference.yaml"), UNBUILT),
    "weights in a pickle": (replaced(weights="head.bin"), "weights in safetensors files alone"),
    "weights of a run": (replaced(weights="../run/checkpoints/last.ckpt"), "weights in safetensors files alone"),
}  # fmt: skip
OF_RUN: dict[str, tuple[Damage, str]] = {  # of config.yaml
    "model": (replaced(model__reward_model=path("Model", policy=".")), FOREIGN),
    "steps": (replaced(data__steps=path("Rule")), FOREIGN),
    "reference": (replaced(model__reference=path("Source")), FOREIGN),
    "argument": (replaced(model__reward_model__init_args__reference=path("Source")), FOREIGN),
    "deep": (replaced(model__reference=DEEPER), FOREIGN),
    "a call": (text("model: !!python/object/apply:os.mkdir [touched]"), "is damaged"),
    "a new object": (text("model: !!python/object/new:os.mkdir [touched]"), "is damaged"),
    "a module": (text(f"model: !!python/module:{OWN} ''"), "is damaged"),
    "a name": (text(f"model: !!python/name:{OWN}.Model ''"), "is damaged"),
}  # fmt: skip
TOUCH = Touch(Path("touched"))
OBJECTS = "objects that are neither tensors nor plain values"
OF_CHECKPOINT: dict[str, tuple[Damage, str]] = {
    "all of it": (saved(TOUCH), OBJECTS), "weights": (pickled({"state_dict": TOUCH}), OBJECTS),
    "a weight": (pickled({"state_dict": {"reward_model.x": TOUCH}}), OBJECTS),
    "the identity": (pickled({"identity": TOUCH}), OBJECTS),
    "a callback": (pickled({"callbacks": {"x": TOUCH}}), OBJECTS), "a list": (pickled({"x": [(1, TOUCH)]}), OBJECTS),
    "before torch 1.6": (pickled({"x": TOUCH}, old=True), "is damaged"),
    "a plain pickle": (lambda data: pickle.dumps(TOUCH), "is damaged"),
}  # fmt: skip
OF_MODEL: dict[str, tuple[str, Damage, str]] = {
    "code for the model": (
        "config.json", replaced(model_type="payload", auto_map={"AutoConfig": f"{OWN}.Model"}), "cannot be read",
    ),
    "code for the tokenizer": (
        "tokenizer_config.json",
        replaced(tokenizer_class="Payload", auto_map={"AutoTokenizer": [f"{OWN}.Slow", f"{OWN}.Model"]}),
        "cannot be read",
    ),
    "objects in a template": ("chat_template.jinja", text("{{ messages.__class__.mro() }}"), "cannot render"),
    "functions in a template": ("chat_template.jinja", text("{{ raise_exception.__globals__['x'] }}"), "cannot render"),
}  # fmt: skip
