"""The experiments of the paper's tables and figures, and the labels of their rows."""

from __future__ import annotations

from lit_prm.commands.paper.results import Line, PaperResults

LABELS = {
    "base-0resp": "Untrained base, log-likelihood of the worst step",
    "dpo-8resp": "Implicit PRM (DPO)",
    "ce-8resp": "Implicit PRM (CE)",
    "shepherd-8resp-hard": "Math-Shepherd, hard labels",
    "shepherd-8resp-soft": "Math-Shepherd, soft labels",
    "shepherd-8resp-hard-equaltokens": "Math-Shepherd, hard labels, equal tokens",
    "autopsv-8resp": "AutoPSV",
    "orm-8resp": "Outcome reward model (CE)",
    "orm-bt-8resp": "Outcome reward model (pairs)",
    "kto-8resp": "Implicit PRM (KTO)",
    "nca-8resp": "Implicit PRM (NCA)",
    "infonca-8resp": "Implicit PRM (InfoNCA)",
    "ipvrm-8resp": "Implicit PRM (every prefix, IPVRM)",
    "ce-8resp-balanced": "CE, balanced over the data set",
    "ce-8resp-instbalanced": "CE, balanced within instructions",
    "ce-1resp": "CE, 1 response",
    "ce-2resp": "CE, 2 responses",
    "ce-4resp": "CE, 4 responses",
    "dpo-2resp": "DPO, 2 responses",
    "dpo-4resp": "DPO, 4 responses",
    "ce-8resp-25inst": "CE, 25 % of the instructions",
    "ce-8resp-50inst": "CE, 50 % of the instructions",
    "ce-8resp-75inst": "CE, 75 % of the instructions",
    "dpo-8resp-25inst": "DPO, 25 % of the instructions",
    "dpo-8resp-50inst": "DPO, 50 % of the instructions",
    "dpo-8resp-75inst": "DPO, 75 % of the instructions",
    "dpo-8resp-noref-infer": "DPO, reference in training only",
    "dpo-8resp-noref-train": "DPO, reference in scoring only",
    "dpo-8resp-noref": "DPO, no reference",
    "dpo-8resp-irrelevant": "DPO + irrelevant instructions (general and code)",
    "dpo-8resp-dedup": "DPO + deduplication",
    "dpo-8resp-mixedgen": "DPO + responses of a second generator",
    "dpo-8resp-steplabels": "DPO + step labels",
}
"""Experiment -> label of its row, the most important runs first."""

SHARED = ("dpo-8resp", "ce-8resp", "ce-1resp", "ce-2resp")
"""Experiments to read rules without training from (majority vote, chance, length, reference log-likelihood)."""

CE_BY_COST = ("ce-1resp", "ce-2resp", "ce-4resp", "ce-8resp")
DPO_BY_COST = ("dpo-2resp", "dpo-4resp", "dpo-8resp")
BASELINES_BY_COST = (
    "shepherd-8resp-hard-equaltokens", "shepherd-8resp-hard", "shepherd-8resp-soft", "autopsv-8resp",
    "orm-8resp", "orm-bt-8resp",
)  # fmt: skip

VOTERS = ("kto-8resp", "nca-8resp", "dpo-8resp", "ce-8resp", "infonca-8resp", "ipvrm-8resp")
"""Losses whose rewards weight votes in figure 3, the paper's four first."""


def shared(results: PaperResults, curve: str) -> Line:
    """A curve that depends on candidates and reference only, from the experiment with most seeds."""
    return Line(results.first_of(SHARED), curve)
