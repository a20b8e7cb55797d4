"""From rows of a file to batches: records, steps, file formats, encoding, batching, regimes."""

from lit_prm.storage.moved import names_below

__getattr__ = names_below(__name__)
