"""Scores rollouts: token, step and response rewards from any checkpoint, export or released model."""
