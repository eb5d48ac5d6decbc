"""Rows into shape: one per key, and as the contract has agreed."""
