"""Symbolic equality of two answers by math-verify, in processes that can be killed."""

from lit_prm.answers.workers.pool import Pair, verdicts
from lit_prm.answers.workers.verdict import Verdict

__all__ = ["Pair", "Verdict", "verdicts"]
