"""Symbolic equality of two answers, judged by math-verify in processes that can be killed."""

from lit_prm.equivalence.supervisor import Verdict
from lit_prm.equivalence.workers import Pair, verdicts

__all__ = ["Pair", "Verdict", "verdicts"]
