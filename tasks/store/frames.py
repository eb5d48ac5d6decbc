"""Between frames and rows of the store: columns that must be there, plain values, times in UTC."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from tasks.core.errors import ContractError
from tasks.store.schema import plain


def frame_of(connection: Connection, query: sa.Select[Any], moments: Sequence[str]) -> pd.DataFrame:
    """Return what the query finds, with `moments` as aware UTC times; nothing found keeps the columns."""
    result = connection.execute(query)
    frame = pd.DataFrame(result.all(), columns=list(result.keys()))
    for name in moments:
        frame[name] = pd.to_datetime(frame[name], utc=True)
    return frame


def values_of(column: pd.Series) -> list[Any]:  # Any: whatever the model predicts
    """Return the values as JSON gives them back."""
    return [plain(value) for value in column.tolist()]


def require(frame: pd.DataFrame, columns: Sequence[str], model: str) -> None:
    """Return nothing when every one of these columns is there.

    Raises:
        ContractError: naming those that are not.
    """
    lacking = [name for name in columns if name not in frame.columns]
    if lacking:
        raise ContractError(f"rows without {lacking}", f"columns {list(columns)}", model=model)
