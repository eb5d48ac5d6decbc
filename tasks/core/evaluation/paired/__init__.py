"""Two models on the same rows: how much better one is, how sure that is, and what it would take to tell."""
