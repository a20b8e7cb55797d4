"""ProcessBench: the F1 of finding the first wrong step by a threshold that is chosen on another subset."""
