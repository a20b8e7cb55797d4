"""Judging scored responses: aggregates, best-of-N, votes, first errors, intervals, metrics."""
