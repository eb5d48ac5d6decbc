"""Which version to go back to, from the history of which one served."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tasks.core.policy.approval import Row

SERVING = ("promoted", "rolled_back")
"""The actions of the ledger that change which version serves."""


def served_before(rows: Sequence[Row]) -> tuple[int, ...]:
    """Return the versions that a rollback may go to, the one that served last first.

    A version that was rolled back from is left out until somebody promotes it again, so that a second
    rollback walks further back instead of returning to what was found bad. `rows` are the ledger's, in the
    order they were recorded; rows that moved nothing do not matter.

    Example:
        >>> from types import SimpleNamespace as Row
        >>> def moved(action, number): return Row(action=action, to_version=number, from_version=None)
        >>> history = [moved("promoted", 1), moved("promoted", 2), moved("promoted", 3)]
        >>> served_before(history)
        (2, 1)
        >>> served_before([*history, moved("rolled_back", 2)])
        (1,)
    """
    stack: list[int] = []
    bad: set[int] = set()
    for row in rows:
        if row.action not in SERVING or row.to_version is None:
            continue
        if row.action == "rolled_back" and stack:
            bad.add(stack[-1])
            # What stands above the target was passed over; a target that never served replaces the top.
            keep = _last(stack, row.to_version)
            del stack[keep if keep is not None else -1 :]
        stack.append(row.to_version)
        bad.discard(row.to_version)
    return tuple(dict.fromkeys(one for one in stack[-2::-1] if one != stack[-1] and one not in bad))


def _last(stack: Sequence[int], version: int) -> int | None:
    """Return where this version stands for the last time; None where it does not."""
    return next((place for place in reversed(range(len(stack))) if stack[place] == version), None)
