"""Scores with their uncertainty, and what is concluded from them."""
