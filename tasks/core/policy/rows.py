"""What the rules need to know of the ledger's rows, however they are kept."""

from __future__ import annotations

from typing import Any, Protocol


class Outcome(Protocol):
    """How a decision ended."""

    @property
    def decision_id(self) -> str:
        """Identity of the decision."""
        ...

    @property
    def action(self) -> Any:  # Any: a literal of the ledger's own
        """How the decision ended."""
        ...


class Row(Outcome, Protocol):
    """One row of the ledger: what it was about, too."""

    @property
    def from_version(self) -> int | None:
        """The version that served when it was decided."""
        ...

    @property
    def to_version(self) -> int | None:
        """The version it was about."""
        ...
