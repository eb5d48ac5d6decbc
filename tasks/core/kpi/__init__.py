"""Indicators of how a model is kept fresh, computed from its ledgers."""
