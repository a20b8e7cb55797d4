"""A run of the command line goes on and is judged with the models that it began with, from its own checkpoint."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from lit_prm.commands.main import main
from tests.conftest import small_llama
from tests.integration.conftest import BRIEF, Desk
from tests.integration.test_mistakes import Refused, refused  # noqa: F401  a fixture

RUN = Path("runs/tiny/ce-1resp/seed-0")
LAST = RUN / "checkpoints" / "last.ckpt"


def saved() -> dict[str, Any]:
    content: dict[str, Any] = torch.load(LAST, weights_only=True)
    return content


def test_what_a_run_began_with_is_verified_when_it_goes_on_and_when_it_is_judged(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    base = shutil.copytree(desk.root / "models" / "base", desk.folder / "base")
    options = [*BRIEF, f"--base_model={base}"]
    desk.exp("ce-1resp", *options)
    recorded = json.loads((RUN / "identity.json").read_text())
    assert list(recorded) == ["run", "base", "reference", "tokenizer"]
    assert saved()["identity"] == recorded
    files = [f"--config=experiments/{stem}.yaml" for stem in ("base", "scale/tiny", "ce-1resp")]
    test = ["test", *files, *desk.options(*options, "--name=ce-1resp")]
    main(test)  # nothing has changed
    summary = json.loads((RUN / "summary.json").read_text())
    (RUN / "summary.json").write_text(json.dumps(summary | {"status": "KILLED"}))

    wrong: Refused = request.getfixturevalue("refused")
    resume = ["exp", "ce-1resp", *desk.options(*options)]
    own = LAST.read_bytes()
    torch.save(saved() | {"identity": recorded | {"run": "7" * 64}}, LAST)
    for command in (resume, test):  # a checkpoint of another run
        assert f"the hashes are run 777777777777 against {recorded['run'][:12]}" in wrong(*command)
    LAST.write_bytes(own)
    vocabulary = json.loads((base / "config.json").read_text())["vocab_size"]
    small_llama(5, vocabulary).save_pretrained(base)
    for command in (resume, test, ["score", str(RUN), str(desk.root / "candidates/test.jsonl")]):
        assert f"the hashes are base {recorded['base'][:12]} against" in wrong(*command)
