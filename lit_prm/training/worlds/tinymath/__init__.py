"""The embedded default: procedural MATH-like problems, an exact step checker, a small Llama trained from scratch."""

from lit_prm.training.worlds.tinymath.world import TinyMath

__all__ = ["TinyMath"]
