"""`docs/paper-<scale>.md`: every table and figure of the paper from our runs, and whether we see the same."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial

from lit_prm.commands.paper import tables
from lit_prm.commands.paper.claims import COST, MARGIN, Claim, ClaimVerdict, claims
from lit_prm.commands.paper.methods import LABELS, PARTS, ROWS, TEXTS
from lit_prm.commands.paper.results import PaperResults
from lit_prm.evaluation.estimate import NOTHING, Estimate, gain
from lit_prm.evaluation.tables import Cell, Table
from lit_prm.reports.document import Report, Section, markdown
from lit_prm.reports.paper_numbers import GENERATORS, Paper

Judged = tuple[Claim, Estimate | None, ClaimVerdict]

TABLES: dict[str, Callable[[PaperResults, Paper], Table]] = {
    "table-1": tables.table_1,
    "figures-1-2": tables.cost_table,
    "figure-3": tables.vote_table,
    "figure-4": partial(tables.scaling_table, names=ROWS["figure-4"]),
    "figure-5": partial(tables.scaling_table, names=ROWS["figure-5"]),
    "table-2": tables.table_2,
    "table-3": tables.table_3,
    "table-5": tables.table_5,
    "steps": tables.steps_table,
}
"""Table or figure of the paper -> the function that makes our table."""


def document(results: PaperResults, paper: Paper, scale: str, figures: Sequence[str]) -> str:
    """The whole text; ``figures`` names those that were drawn."""
    source = f"Written by python -m lit_prm paper --scale {scale} from the runs in runs/{scale}; not edited by hand."
    missing = tuple(f"missing: {name}" for name in results.missing(list(LABELS)))
    sections = tuple(_sections(results, paper, scale, figures))
    return markdown(Report(f"The paper's results at scale {scale}", source, missing, sections))


def _sections(results: PaperResults, paper: Paper, scale: str, figures: Sequence[str]) -> Iterator[Section]:
    judged = [(claim, *claim.judged(results)) for claim in claims(paper)]
    yield Section("How to read this", _reading(results))
    yield Section("The same shape?", _summary(judged))
    for key, part in PARTS.items():
        drawn = (f"paper-{scale}-{part['figure']}",) if part.get("figure") in figures else ()
        shown = (TABLES[key](results, paper), _claims_table([entry for entry in judged if entry[0].section == key]))
        yield Section(part["title"], f"The paper says: {part['says']}", shown, drawn)


def _reading(results: PaperResults) -> str:
    sets = ", ".join(f"`{name}` ({GENERATORS[name]})" for name in results.sets)
    text: str = TEXTS["reading"]
    return text.strip().format(sets=sets, seeds=len(results.expected), margin=MARGIN)


def _summary(judged: Sequence[Judged]) -> str:
    theirs = Counter(verdict for claim, _, verdict in judged if claim.paper)
    counts = ", ".join(f"{theirs[verdict]} {verdict}" for verdict in ClaimVerdict if theirs[verdict])
    other = "".join(f"\n- not here: {claim.sentence}" for claim, _, v in judged if claim.paper and v is ClaimVerdict.NO)
    return f"Of {theirs.total()} claims with numbers in the paper: {counts}.\n{other}"


def _claims_table(judged: Sequence[Judged]) -> Table:
    rows = []
    for claim, value, verdict in judged:
        here = tables.times(value) if claim.ours.curve == COST else gain(value)
        rows.append((claim.sentence, claim.paper or NOTHING, here, Cell(verdict, "best")))
    return Table(("claim", "paper", "here", "same?"), tuple(rows), numbers=False)
