"""A run's reward model as a Hugging Face folder that plain transformers load and `lit_prm.load` scores with."""
