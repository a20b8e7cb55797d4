"""`docs/paper-<scale>.md`: every table and figure of the paper from our runs, and whether we see the same."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from lit_prm.commands.paper import tables
from lit_prm.commands.paper.claims import Claim, claims
from lit_prm.commands.paper.methods import CE_BY_COST, DPO_BY_COST, LABELS
from lit_prm.commands.paper.results import PaperResults
from lit_prm.commands.paper.rules import RULES, ClaimVerdict
from lit_prm.evaluation.estimate import NOTHING, Estimate, gain
from lit_prm.evaluation.tables import Cell, Table
from lit_prm.reports.document import Report, Section, markdown
from lit_prm.reports.paper_numbers import GENERATORS, Paper

Judged = tuple[Claim, Estimate | None, ClaimVerdict]


@dataclass(frozen=True)
class PaperPart:
    """One table or figure of the paper: its key in ``Claim.section``, the paper's message, our table and figure."""

    key: str
    title: str
    says: str
    table: Callable[[PaperResults, Paper], Table]
    figure: str = ""  # its file is figures/paper-<scale>-<figure>.png


def _by_instructions(results: PaperResults, paper: Paper) -> Table:
    shares = (*(f"-{share}inst" for share in (25, 50, 75)), "")
    return tables.scaling_table(results, paper, [f"{loss}-8resp{s}" for loss in ("dpo", "ce") for s in shares])


def _by_responses(results: PaperResults, paper: Paper) -> Table:
    return tables.scaling_table(results, paper, (*DPO_BY_COST, *CE_BY_COST))


PARTS = (
    PaperPart(
        "table-1", "Table 1: best-of-N",
        "Implicit PRMs trained by DPO choose best on average, before Math-Shepherd and AutoPSV on the same data and "
        "before the published reward models; of the losses DPO leads, then NCA, CE and KTO.",
        tables.table_1, "losses",
    ),
    PaperPart(
        "figures-1-2", "Figures 1 and 2: what it costs",
        "Step labels by completions cost Math-Shepherd 38.8 times the FLOPs of CE on the same responses, for less "
        "accuracy.",
        tables.cost_table, "cost",
    ),
    PaperPart(
        "figure-3", "Figure 3: votes weighted by rewards",
        "Summing the scores of responses with the same answer lifts all losses above the majority vote and above their "
        "own best-of-N, KTO and CE most.",
        tables.vote_table, "votes",
    ),
    PaperPart(
        "figure-4", "Figure 4: fewer instructions",
        "More instructions help both losses.",
        _by_instructions, "instructions",
    ),
    PaperPart(
        "figure-5", "Figure 5: fewer responses per instruction",
        "Responses matter more than instructions; DPO starves at two responses, CE gains from a single one.",
        _by_responses, "responses",
    ),
    PaperPart(
        "table-2", "Table 2: what else may go into training",
        "Irrelevant instructions, deduplication, a second generator's responses and a second stage on step labels "
        "bring nothing.",
        tables.table_2,
    ),
    PaperPart(
        "table-3", "Table 3: the reward model as a policy",
        "Training as a reward model ruins the policy under DPO, NCA and CE, not under KTO: a good PRM is no good "
        "policy.",
        tables.table_3,
    ),
    PaperPart(
        "table-5", "Table 5: without the reference",
        "The reference may be left out in training, in scoring or in both; an untrained model is already a decent "
        "scorer.",
        tables.table_5,
    ),
    PaperPart(
        "steps", "Steps (not in the paper)",
        "nothing; it judges step rewards by best-of-N alone.",
        tables.steps_table,
    ),
)  # fmt: skip


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
    for part in PARTS:
        drawn = (f"paper-{scale}-{part.figure}",) if part.figure in figures else ()
        shown = (part.table(results, paper), _claims_table([entry for entry in judged if entry[0].section == part.key]))
        yield Section(part.title, f"The paper says: {part.says}", shown, drawn)


def _reading(results: PaperResults) -> str:
    sets = ", ".join(f"`{name}` ({GENERATORS[name]})" for name in results.sets)
    rules = "\n".join(f"- {rule.text}." for rule in RULES)
    return f"""The paper's numbers (in italics or under "paper's") are on MATH-500 with 8B models, ours on our own
problems with our own models: what can agree is the shape, not the height.

Candidate sets, with the generator of the paper that each stands for: {sets}. A *mean* is over these sets and
N = 4, 16, 64. Unless said otherwise the lowest step reward scores a response, as in the paper.

Values are means over up to {len(results.expected)} seeds, accuracy in %. Half-widths and intervals are 95 % bootstrap
intervals over the problems of all seeds, differences paired on the same problems: they hold what the problems leave
open, not what another training would change beyond these seeds. Of policies only each run's interval is recorded:
their differences are taken as if on different problems. With so many claims some verdicts are chance: a true
difference of zero leaves its interval once in twenty.

A claim is judged by its interval, everything else is "within noise":

{rules}"""


def _summary(judged: Sequence[Judged]) -> str:
    theirs = Counter(verdict for claim, _, verdict in judged if claim.paper)
    counts = ", ".join(f"{theirs[verdict]} {_named(verdict)}" for verdict in ClaimVerdict if theirs[verdict])
    other = "".join(f"\n- not here: {claim.sentence}" for claim, _, v in judged if claim.paper and v is ClaimVerdict.NO)
    return f"Of {theirs.total()} claims with numbers in the paper: {counts}.\n{other}"


def _named(verdict: ClaimVerdict) -> str:
    return "not measured" if verdict is ClaimVerdict.MISSING else str(verdict)


def _claims_table(judged: Sequence[Judged]) -> Table:
    written = {"points": gain, "times": tables.times}
    rows = [
        (claim.sentence, claim.paper or NOTHING, written[claim.unit](value), Cell(_named(verdict), "best"))
        for claim, value, verdict in judged
    ]
    return Table(("claim", "paper", "here", "same?"), tuple(rows), numbers=False)
