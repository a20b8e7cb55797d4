"""`python -m lit_prm view`: write scored files as one HTML page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lit_prm.scoring.options import CommandParser


def main(args: Sequence[str]) -> None:
    """`view SCORED [SCORED ...] [--out page.html] [--open]`: several files are several scorers to switch between."""
    parser = CommandParser("view")
    parser.add_argument("scored", nargs="+", metavar="SCORED", help="files written by python -m lit_prm score")
    parser.add_argument("--out", type=Path, metavar="PAGE", help="the page, .html (default: beside the first file)")
    parser.add_argument("--open", action="store_true", help="show the page in the browser")
    options = parser.read(args)
    page = options.out or beside(options.scored[0])
    if page.suffix not in (".html", ".htm"):
        raise ValueError(f"--out {page}: the page is HTML. Name it .html.")
    print(written(options.scored, page))
    if options.open:
        import webbrowser

        webbrowser.open(page.resolve().as_uri())


def beside(source: str) -> Path:
    """`folder/scored.html` for the file `folder/scored.jsonl.gz`; for other sources a name in the working directory."""
    from lit_prm.data.formats.sources import bare

    path = Path(source)
    name = f"{bare(source)}.html"
    return path.with_name(name) if path.is_file() else Path(name)


def written(sources: Sequence[str], page: Path) -> str:
    """Write the page of one or more scorers of the same responses; returns a line with its contents and size."""
    from lit_prm.reports.viewer.page import write_page
    from lit_prm.scoring.scored_files import aligned, read_scored

    first, *others = (read_scored(source) for source in sources)
    scored = [first, *(aligned(first, other) for other in others)]
    page.parent.mkdir(parents=True, exist_ok=True)
    write_page(page, scored)
    scorers = f" by {len(scored)} scorers" if others else ""
    responses = sum(map(len, first.rewards))
    size = page.stat().st_size / 2**20
    return f"{page}: {len(first.groups):,} problems, {responses:,} responses{scorers}, {size:.1f} MB"
