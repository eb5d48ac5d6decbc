"""Measures of drift, one per file; `registry` lists them."""
