"""Final answers: extracts, normalises, compares and groups them."""

from lit_prm.answers.clusters import cluster
from lit_prm.answers.comparison import all_equivalent, all_match, equivalent, is_correct, matches
from lit_prm.answers.extraction import extract_answer, guess_answer, reference_answer
from lit_prm.answers.normal import normalise
from lit_prm.answers.undecided import counted, told

__all__ = [
    "all_equivalent",
    "all_match",
    "cluster",
    "counted",
    "equivalent",
    "extract_answer",
    "guess_answer",
    "is_correct",
    "matches",
    "normalise",
    "reference_answer",
    "told",
]
