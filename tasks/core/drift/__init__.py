"""Profiles that add up, measures on them, and the verdict."""
