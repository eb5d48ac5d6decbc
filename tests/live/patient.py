"""Requests that are asked again while a server on SQLite is busy writing and answers 503."""

from __future__ import annotations

from typing import Any

import httpx

from tests.live.live import Live


def posted(place: Live, path: str, **body: Any) -> Any:  # Any: JSON
    """Return what the API answers to a POST that may be asked again."""

    def answered() -> list[Any] | None:
        answer = httpx.post(f"{place.api}{path}", json=body, timeout=30)
        if answer.status_code == 503:
            return None
        answer.raise_for_status()
        return [answer.json() if answer.content else None]

    return place.wait(answered, 60, f"an answer to POST {path}")[0]
