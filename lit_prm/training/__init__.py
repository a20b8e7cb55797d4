"""Training with Lightning: the module, the data module, learning-rate schedule, ZeRO, built-in data sets (worlds)."""
