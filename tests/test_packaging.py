"""What pyproject.toml and the Makefile promise: every import is declared, experiments need no test tools."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions, requires
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

REPOSITORY = Path(__file__).parent.parent
OPTIONAL = {"liger_kernel"}  # imported where a user asks for it, with a message that says what to install


def project() -> dict[str, Any]:
    return tomllib.loads((REPOSITORY / "pyproject.toml").read_text())


def dependencies() -> dict[str, Requirement]:
    requirements = map(Requirement, project()["project"]["dependencies"])
    return {canonicalize_name(requirement.name): requirement for requirement in requirements}


def imported(file: Path) -> Iterator[str]:
    """The top-level names of all modules that a file imports, inside functions too."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module.split(".")[0]


@pytest.mark.parametrize("package", ["lit_prm", "callbacks"])
def test_every_imported_package_is_a_declared_dependency(package: str) -> None:
    own = {"lit_prm", "callbacks", "__future__"} | OPTIONAL | set(sys.stdlib_module_names)
    names = {name for file in (REPOSITORY / package).rglob("*.py") for name in imported(file)} - own
    assert {"torch", "lightning"} <= names
    distributions = packages_distributions()
    undeclared = {
        name
        for name in names
        if not {canonicalize_name(of) for of in distributions.get(name, [name])} & dependencies().keys()
    }
    assert undeclared == set()


def test_every_dependency_is_pinned_within_its_bounds() -> None:
    lines = (REPOSITORY / "constraints.txt").read_text().split()
    pins: dict[str, str] = {canonicalize_name(name): version for name, version in (line.split("==") for line in lines)}
    outside = {name for name, of in dependencies().items() if not of.specifier.contains(pins[name])}
    assert outside == set()


def test_deepspeed_is_bound_to_one_minor_release_and_to_linux() -> None:
    """Its internals are subclassed, and it has no wheels elsewhere."""
    deepspeed = dependencies()["deepspeed"]
    major, minor = re.findall(r"\d+", (REPOSITORY / "constraints.txt").read_text().partition("deepspeed==")[2])[:2]
    assert not deepspeed.specifier.contains(f"{major}.{int(minor) + 1}.0")
    assert deepspeed.marker is not None
    assert [deepspeed.marker.evaluate({"sys_platform": of}) for of in ("linux", "darwin")] == [True, False]


@pytest.mark.parametrize("package", ["lit_prm", "callbacks"])
def test_types_are_shipped(package: str) -> None:
    assert (REPOSITORY / package / "py.typed").exists()
    assert "py.typed" in project()["tool"]["setuptools"]["package-data"][package]


def commands(*goal: str) -> str:
    """What make would run in a clone without a virtual environment."""
    command = ["make", "--dry-run", "VENV=no-such-folder", *goal]
    return subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("goal", ["exp", "paper", "list", "compare", "ui"])
def test_what_only_runs_installs_no_test_tools(goal: str) -> None:
    run = commands(goal, "NAME=ce-1resp")
    assert "--editable ." in run
    assert "[dev]" not in run


@pytest.mark.parametrize("goal", ["env", "check", "format", "test", "test-slow", "test-gpu", "nightly", "parity"])
def test_work_on_the_code_installs_the_test_tools(goal: str) -> None:
    assert commands(goal).count('--editable ".[dev]"') == 1


@pytest.mark.parametrize(
    ("build", "installed"),
    [
        ("", r"torch==[\d.]+"),
        ("cuda", r"torch==[\d.]+"),
        ("cpu", r"torch==[\d.]+\+cpu"),
        ("cu130", r"torch==.*\+cu130"),
    ],
)
def test_the_build_of_torch_is_chosen_by_its_label(build: str, installed: str) -> None:
    first = next(line for line in commands("exp", f"TORCH={build}").splitlines() if " install " in line)
    target = re.search(r'"(torch==[^"]+)"', first)
    assert target is not None
    assert re.fullmatch(installed, target[1])
    assert ("not torch.version.cuda" in first) == bool(build)


def test_every_file_that_is_read_at_run_time_is_shipped() -> None:
    declared = project()["tool"]["setuptools"]["package-data"].items()
    shipped = {
        f for name, globs in declared for glob in globs for f in REPOSITORY.joinpath(*name.split(".")).glob(glob)
    }
    there = {f for package in ("lit_prm", "callbacks") for f in (REPOSITORY / package).rglob("*") if f.is_file()}
    assert shipped == {f for f in there if f.suffix not in (".py", ".pyc")}


def test_the_versions_below_the_grader_are_pinned_together() -> None:
    """The grammar of antlr 4.9.3, which older releases of omegaconf ask for, reads no percent sign."""
    lines = (REPOSITORY / "constraints.txt").read_text().splitlines()
    pinned = dict(line.split("==") for line in lines if "==" in line)
    assert "antlr4-13-2" in dependencies()["math-verify"].extras
    asked = [Requirement(text) for name in ("latex2sympy2_extended", "omegaconf") for text in requires(name) or []]
    extra = {"extra": "antlr4-13-2"}
    antlr = [r for r in asked if r.name.startswith("antlr4") and (r.marker is None or r.marker.evaluate(extra))]
    assert pinned["antlr4-python3-runtime"] == "4.13.2"
    assert antlr
    assert all(r.specifier.contains("4.13.2") for r in antlr)
    assert not dependencies()["omegaconf"].specifier.contains("2.3.1")
