"""The structure that docs/house.md describes, held against the code. Import layers are checked by ``make check``."""

from __future__ import annotations

import ast
from collections import defaultdict
from graphlib import TopologicalSorter
from pathlib import Path

import grimp
import pytest

REPOSITORY = Path(__file__).parents[1]
LIBRARY = REPOSITORY / "lit_prm"
SOURCES = sorted([*LIBRARY.rglob("*.py"), *(REPOSITORY / "callbacks").glob("*.py")])


def test_the_library_has_at_most_fourteen_entries() -> None:
    entries = [p.name for p in LIBRARY.iterdir() if p.name != "__pycache__" and (p.is_file() or any(p.rglob("*.py")))]
    assert len(entries) <= 14, sorted(entries)


def test_a_class_name_has_one_meaning() -> None:
    places = defaultdict(list)
    for file in SOURCES:
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ClassDef):
                places[node.name].append(f"{file.relative_to(REPOSITORY)}:{node.lineno}")
    assert {name: where for name, where in places.items() if len(where) > 1} == {}


@pytest.mark.parametrize("file", SOURCES, ids=lambda file: str(file.relative_to(REPOSITORY)))
def test_a_file_is_short_and_says_its_job(file: Path) -> None:
    text = file.read_text()
    assert len(text.splitlines()) <= 250
    assert ast.get_docstring(ast.parse(text)) is not None


def test_no_files_import_each_other_in_a_circle() -> None:
    graph = grimp.build_graph("lit_prm", "callbacks", include_external_packages=False)
    files = {name: graph.find_modules_directly_imported_by(name) for name in graph.modules}
    assert len(files) > 200
    TopologicalSorter(files).prepare()  # raises CycleError, naming the circle
