"""Live rows for a version that waits: shadow answers that nobody sees, or a small share of real ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Literal

from serving.holder import Holder, Served
from tasks.settings import Settings

Route = Literal["champion", "canary"]


class Rollout:
    """Which version answers a request to one model, and what else sees its rows."""

    def __init__(self, holder: Holder, settings: Settings):
        self._holder = holder
        self._settings = settings

    def refresh(self) -> None:
        """Look for a version that waits and for what was decided about it; called with every look."""

    def chosen(self, request_id: str, champion: Served) -> tuple[Served, Route]:
        """Return which version answers this request; the same id always gives the same answer."""
        del request_id
        return champion, "champion"

    def failed(self, served: Served, err: Exception) -> None:
        """Count a failure of the canary; the caller then asks the champion."""

    def shadow(
        self,
        request_id: str,
        rows: Sequence[Mapping[str, Any]],  # Any: checked values
        at: datetime,
    ) -> None:
        """Hand rows that the champion answered to the version in its shadow; never waits, never raises."""

    def close(self) -> None:
        """End what runs beside the requests."""
