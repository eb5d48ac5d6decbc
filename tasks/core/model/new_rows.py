"""How many new rows are worth a retraining."""

from __future__ import annotations

from tasks.core.spec import ModelSpec

NEW_SHARE = 20  # our choice: one row in so many; fewer hardly move a model


def default_min_new_rows(spec: ModelSpec, rows_in_training_window: int) -> int:
    """Return `retrain.min_new_rows`, or where the spec names none a twentieth of the rows, at least one."""
    least = spec.retrain.min_new_rows
    return least if least is not None else max(1, -(-rows_in_training_window // NEW_SHARE))
