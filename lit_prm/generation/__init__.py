"""Rollouts from problems: sampled by a server or in this process, graded, written as training data."""
