"""The body of a request to predict, read within limits."""

from __future__ import annotations

from typing import Any

from fastapi import HTTPException, Request
from pydantic import BaseModel, ConfigDict, Field

from serving.request import MOST_ROWS

MOST_BYTES = 4 * 1024**2  # of a request's body; our choice: a thousand wide rows fit


class Rows(BaseModel):
    """Rows to predict, each an object of fields by name."""

    model_config = ConfigDict(extra="forbid")
    rows: list[dict[str, Any]] = Field(
        min_length=1, max_length=MOST_ROWS
    )  # Any: checked by the champion's spec


async def read_rows(request: Request) -> list[dict[str, Any]]:  # Any: checked by the champion's spec
    """Return the rows of the request, not checked against any model yet.

    Raises:
        HTTPException: 413 for a body that is too large, 422 for one that holds no rows.
    """
    raw = bytearray()
    async for part in request.stream():  # a length that the client states is no evidence
        raw += part
        if len(raw) > MOST_BYTES:
            raise HTTPException(413, f"a body of at most {MOST_BYTES} bytes is taken")
    try:
        return Rows.model_validate_json(bytes(raw)).rows
    except ValueError as err:
        wanted = f'{{"rows": [{{field: value}}, …]}} with 1 to {MOST_ROWS} rows'
        raise HTTPException(422, f"the body has to be {wanted}") from err
