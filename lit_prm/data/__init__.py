"""From rows of a file to batches: records, steps, layouts, encoding, batching, regimes."""
