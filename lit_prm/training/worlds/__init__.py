"""Worlds: models and data that a run makes or fetches on first use (tinymath, smol)."""
