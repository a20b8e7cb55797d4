"""Exports a run's reward model as a Hugging Face folder, for plain transformers and for `lit_prm.load`."""
