"""Whole rows: whether a classifier can tell a window from the reference."""
