"""Labels for responses and for their steps."""

from lit_prm.generation.labeling.autopsv import AutoPSV
from lit_prm.generation.labeling.base import Labeler, Labelled
from lit_prm.generation.labeling.math_shepherd import MathShepherd
from lit_prm.generation.outcomes import grade, graded_group

__all__ = ["grade", "graded_group", "Labeler", "Labelled", "MathShepherd", "AutoPSV"]
