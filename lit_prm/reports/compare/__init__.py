"""Recorded runs side by side: tables, figures, a report."""
