"""Every command of the guides that trains or plans is one that the parser takes and the planner can plan."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from lit_prm.commands.experiment import options
from lit_prm.commands.lightning import resolved_config
from lit_prm.commands.main import main
from lit_prm.commands.plan.command import arguments
from lit_prm.commands.plan.lengths import lengths_of
from lit_prm.commands.plan.setup_of import setup_of
from tests.plan.conftest import REPOSITORY
from tests.plan.planning import planned

SCALES = "docs/scale.md"


def commands(page: str) -> list[str]:
    """Lines of its code blocks, continued ones as one, and code within the text."""
    text = (REPOSITORY / page).read_text()
    blocks = re.findall(r"^```bash\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    return [*lines, *re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE))]


def to_plan(page: str) -> Iterator[list[str]]:
    """Arguments of `plan` for each that names an experiment."""
    for line in commands(page):
        if re.match(r"make exp |python -m lit_prm |sbatch |NODES=", line):
            yield from filter(None, [_to_plan(shlex.split(line, comments=True))])


def _to_plan(words: list[str]) -> list[str] | None:
    given = dict(word.split("=", 1) for word in words if re.match(r"[A-Z]+=", word))
    if words[:2] == ["make", "exp"] and "NAME" in given:
        return [given["NAME"], "--scale", given.get("SCALE", "tiny"), *shlex.split(given.get("ARGS", ""))]
    if words[:3] == ["python", "-m", "lit_prm"] and words[3:4] in (["plan"], ["exp"]) and words[4:]:
        return words[4:] if words[4].islower() else None
    at = next((i for i, word in enumerate(words) if word.startswith("launch/") and words[i + 2 :]), None)
    if at is None:
        return None
    nodes = given.get("NODES") or dict(word.split("=") for word in words[1:at] if "=" in word)["--nodes"]
    name, scale, *rest = words[at + 1 :]
    return [name, "--scale", scale, "--trainer.num_nodes", nodes, "--trainer.devices", given.get("DEVICES", "8"), *rest]


DOCUMENTED = [args for page in ("README.md", "docs/experiments.md", SCALES) for args in to_plan(page)]
# two commands that differ in the experiment's name alone are read alike
READ = list({tuple(args[1:]): args for args in DOCUMENTED}.values())


def test_they_are_found() -> None:
    assert len(DOCUMENTED) >= 18
    scales = {args[args.index("--scale") + 1] for args in DOCUMENTED if "--scale" in args}
    assert scales >= {"smol", "1xh100", "8xh100", "paper-8b", "paper-70b"}


@pytest.mark.parametrize("args", READ, ids=" ".join)
def test_it_is_read_and_can_be_cut(args: list[str]) -> None:
    asked, overrides = arguments().parse_known_args(args)
    resolved = yaml.safe_load(resolved_config(options(asked.name, asked.scale, 0, overrides)))
    setup = setup_of(resolved, on_gpu=False)
    assert lengths_of(resolved["data"], setup, {}).longest(setup).tokens > 0


@pytest.mark.slow
@pytest.mark.parametrize(
    "args", [args for args in DOCUMENTED if "h100" in str(args) or "paper-" in str(args)], ids=" ".join
)
def test_it_is_planned_and_fits(args: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    if "--shape" in args:
        file = Path(args[args.index("--shape") + 1])
        file.parent.mkdir(parents=True)
        shape = {"model_type": "llama", "hidden_size": 64, "intermediate_size": 64, "num_attention_heads": 2}
        file.write_text(json.dumps(shape | {"num_hidden_layers": 2, "vocab_size": 64}))
    main(["plan", *args, *([] if "--json" in args else ["--json"])])
    assert json.loads(capsys.readouterr().out)["fits"]


@pytest.mark.slow
def test_the_table_says_what_plans_say() -> None:
    """Of the scales that need no file."""
    rows = dict(re.findall(r"^\| `([\w-]+)` \| (.*) \|$", (REPOSITORY / SCALES).read_text(), re.MULTILINE))
    for scale in ("1xh100", "8xh100", "paper-8b", "paper-70b"):
        found = planned("ce-8resp", scale)
        cells = rows[scale].split(" | ")
        assert cells[3] == f"{found.numbers['longest_micro_batch_tokens']:,}", scale
        assert cells[4].startswith(f"{found.memory.total / 1e9:.0f} of 80"), scale
        assert float(cells[6]) == pytest.approx(found.numbers["flops"]["total"], rel=0.05), scale
        assert float(cells[7]) == pytest.approx(found.numbers["hours"], rel=0.05), scale
