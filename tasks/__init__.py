"""Tasks: one module per capability; the only place with I/O and with Prefect."""
