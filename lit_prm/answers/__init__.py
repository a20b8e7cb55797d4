"""Final answers: extracts, normalises, compares and groups them."""

from lit_prm.answers.clusters import cluster
from lit_prm.answers.comparison import all_equivalent, equivalent, is_correct
from lit_prm.answers.extraction import extract_answer, guess_answer
from lit_prm.answers.normal import normalise

__all__ = ["all_equivalent", "cluster", "equivalent", "extract_answer", "guess_answer", "is_correct", "normalise"]
