"""Symbolic equality of two answers by math-verify, in processes that can be killed."""

from lit_prm.answers.workers.pool import Pair, verdicts
from lit_prm.answers.workers.supervisor import PATIENCE
from lit_prm.answers.workers.verdict import Verdict

__all__ = ["PATIENCE", "Pair", "Verdict", "verdicts"]
