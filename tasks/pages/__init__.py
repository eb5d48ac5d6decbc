"""Artifacts and pages as such, whatever stands on them."""
