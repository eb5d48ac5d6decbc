"""Whether a reference can be made of these rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tasks.core.drift.counting.values import read_labels, read_numbers
from tasks.core.errors import DriftError

if TYPE_CHECKING:
    import pandas as pd

    from tasks.core.spec import ModelSpec


def check_columns(frame: pd.DataFrame, spec: ModelSpec, key: bytes | None) -> None:
    """Refuse rows that no reference can be made of.

    Raises:
        DriftError: without rows, without a column, with a column that holds nothing readable, or with
            sensitive categories and no key.
    """
    if frame.empty:
        raise DriftError("no rows", "the rows the version was made from", "check the window", model=spec.name)
    missing = [name for name in spec.features.all if name not in frame.columns]
    if missing:
        raise DriftError(f"no column {missing[:5]}", "every feature of the spec", model=spec.name)
    hidden = set(spec.features.sensitive) & set(spec.features.categorical)
    if hidden and not key:
        raise DriftError(
            f"sensitive categories {sorted(hidden)[:5]} and no key to hash them under",
            "a secret key",
            "set EVERGREEN_MASK_KEY",
            model=spec.name,
        )
    for name in spec.features.all:
        numeric = name in spec.features.numeric
        read = read_numbers(frame[name]) if numeric else read_labels(frame[name])
        if read.unreadable and read.unreadable + read.nulls == read.rows:
            raise DriftError(
                f"column {name!r} of {frame[name].dtype} without one readable value",
                "numbers" if numeric else "texts, numbers, booleans or dates",
                "correct the column or its place in the spec",
                model=spec.name,
            )
