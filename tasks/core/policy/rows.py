"""What the rules need to know of the ledger's rows, however they are kept."""

from __future__ import annotations

from typing import Any, Protocol


class Row(Protocol):
    """One row of the ledger."""

    @property
    def decision_id(self) -> str:
        """Identity of the decision."""
        ...

    @property
    def action(self) -> Any:  # Any: a literal of the ledger's own
        """How the decision ended."""
        ...

    @property
    def from_version(self) -> int | None:
        """The version that served when it was decided."""
        ...

    @property
    def to_version(self) -> int | None:
        """The version it was about."""
        ...
