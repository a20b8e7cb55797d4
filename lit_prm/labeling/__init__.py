"""Labels for responses and for their steps."""

from lit_prm.grading import grade, graded_group
from lit_prm.labeling.autopsv import AutoPSV
from lit_prm.labeling.base import Labeler, Labelled
from lit_prm.labeling.math_shepherd import MathShepherd

__all__ = ["grade", "graded_group", "Labeler", "Labelled", "MathShepherd", "AutoPSV"]
