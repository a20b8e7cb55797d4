"""What the pages for newcomers name is there: files, links, classes, commands."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from lit_prm.commands.main import JOBS, LIGHTNING
from lit_prm.training.worlds.tinymath.misconceptions import MISCONCEPTIONS

REPOSITORY = Path(__file__).parents[1]
PAGES = sorted(["README.md", "CONTRIBUTING.md", *(f"docs/{p.name}" for p in (REPOSITORY / "docs").glob("*.md"))])
GUIDES = ["README.md", "CONTRIBUTING.md", "docs/house.md", "docs/experiments.md", "docs/facts.md"]
TREES = r"(?:lit_prm|callbacks|experiments|tests|docs|launch|benchmarks)/[\w./-]*\w"


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_to_files_and_headings(page: str) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", (REPOSITORY / page).read_text()):
        if "://" in target:
            continue
        name, _, heading = target.partition("#")
        file = (REPOSITORY / page).parent / name if name else REPOSITORY / page
        assert file.exists(), target
        assert not heading or heading in headings(file), target


def headings(file: Path) -> set[str]:
    """Anchors of a page, as GitHub makes them."""
    titles = re.findall(r"^#+ (.*)$", file.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", GUIDES)
def test_paths_exist(page: str) -> None:
    text = re.sub(r"`[^`\n]*<[^`\n]*`", "", (REPOSITORY / page).read_text())  # names to fill in
    named = set(re.findall(rf"`({TREES})/?`", text))
    assert {path for path in named if not (REPOSITORY / path).exists()} == set()


def test_classes_of_the_house_page_are_defined_where_it_says() -> None:
    page = (REPOSITORY / "docs" / "house.md").read_text()
    named = re.findall(r"`(\w+)` \(`([\w/]+\.py)`\)", page)
    assert len(named) >= 8
    for name, file in named:
        assert re.search(rf"^class {name}\b", (REPOSITORY / file).read_text(), re.MULTILINE), (name, file)


@pytest.mark.parametrize("page", PAGES)
def test_commands_are_commands(page: str) -> None:
    for command in re.findall(r"python -m lit_prm ([a-z][a-z-]*)", (REPOSITORY / page).read_text()):
        assert command in (*JOBS, *LIGHTNING)


def test_the_page_of_the_world_lists_the_misconceptions_that_authors_hold() -> None:
    rows = re.findall(
        r"^\| ([^|]+) \| ([^|]+) \| ([^|]+) \| ([^|]+) \|$", (REPOSITORY / "docs/world.md").read_text(), re.M
    )
    assert [tuple(row) for row in rows[1:]] == [tuple(m) for m in MISCONCEPTIONS]


def test_the_readme_is_one_screen() -> None:
    assert len((REPOSITORY / "README.md").read_text().splitlines()) <= 60


def test_nothing_names_a_folder_beside_the_project() -> None:
    shared = re.compile(r"\.\./" + "shared")
    files = [f for tree in ("lit_prm", "callbacks", "experiments", "tests", "docs", "benchmarks", "launch")
             for f in (REPOSITORY / tree).rglob("*") if f.suffix in {".py", ".md", ".yaml", ".sh"}]  # fmt: skip
    assert [
        f for f in [*files, *REPOSITORY.glob("*.md")] if shared.search(f.read_text()) and f.name != "CHANGELOG.md"
    ] == []
