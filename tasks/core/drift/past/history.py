"""The rows of a reference cut by time into blocks as long as a check's window, each counted in its cells.

What single windows looked like before says how much they vary without drift: a pooled reference cannot.
The sum of all blocks is the reference's own profile.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tasks.core.drift.counting.bins import Bins, Counts
from tasks.core.drift.counting.packed import MOST_NUMBERS, pack, size_of, unpack
from tasks.core.drift.counting.places import INFINITE, NULL, UNREADABLE, Places, places_of
from tasks.core.errors import DriftError

if TYPE_CHECKING:
    import pandas as pd

    from tasks.core.drift.counting.values import Column
    from tasks.core.drift.profile import Profile

Ints = NDArray[np.int64]
MOST_BLOCKS = 1_000
FEWEST_BLOCKS = 4  # our choice: below, no variation between blocks can be told
EQUAL_BLOCKS = 50  # where no time is known
EQUAL_ROWS = 20  # at least, of such a block
HEAD = 5  # numbers of a block before its cells: rows, nulls, infinite, unreadable, unseen
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_TICK = timedelta(microseconds=1)
_BATCH = 2**20  # as in bins: sums of so many steps are exact in float64


@dataclass(frozen=True, eq=False)
class History:
    """What a reference's blocks held, oldest first; blocks without rows are left out.

    Attributes:
        reference_id: Of the reference whose cells were counted.
        starts: Of each block, aware UTC; () where blocks are of equal rows.
        length: Of a block; None where blocks are of equal rows, in the order of the rows.
        rows: int64, per block.
        features: Per feature int64 [blocks, 5 + cells (+ cells)], the numbers of `Counts` in order: rows,
            nulls, infinite, unreadable, unseen, cells, and of numeric features the sums (of sensitive ones
            evened out among the blocks, because the sum of one row is its value).
        widths: Per feature its number of cells.
    """

    reference_id: str
    starts: tuple[datetime, ...]
    length: timedelta | None
    rows: Ints
    features: dict[str, Ints]
    widths: dict[str, int]

    def __len__(self) -> int:
        return len(self.rows)

    def cells(self, name: str) -> Ints:
        """Return the feature's cells, [blocks, cells]."""
        return self.features[name][:, HEAD : HEAD + self.widths[name]]

    def profile(self, blocks: NDArray[np.intp] | Sequence[int]) -> Profile:
        """Return the sum of some blocks as one profile."""
        from tasks.core.drift.profile import Profile

        chosen = np.asarray(blocks, dtype=np.intp)
        features = {
            name: _counts(table[chosen].sum(axis=0), self.widths[name])
            for name, table in self.features.items()
        }
        return Profile(self.reference_id, int(self.rows[chosen].sum()), features)


def build_history(
    frame: pd.DataFrame,
    reference_bins: Sequence[Bins],
    reference_id: str,
    *,
    times: pd.Series[Any] | None = None,  # Any: timestamps of any unit
    length: timedelta | None = None,
    scores: Mapping[str, Column] | None = None,
    key: bytes | None = None,
) -> History | None:
    """Return the blocks of these rows, or None when fewer than four would hold rows.

    With times, blocks start at multiples of `length` since 1970, at most the newest 1,000, and rows without a
    time are in none. Without, up to 50 blocks of equally many rows, at least 20 each, in their order. Very
    many cells leave fewer blocks, so that a history never holds more than 16 million numbers.

    Args:
        frame: The rows of the reference.
        reference_bins: Its cells, those of scores among them.
        reference_id: Its id.
        times: Aware UTC, one per row, in the order of the frame's rows.
        length: Of a block; without it times are not used.
        scores: By name, the scores of the same rows; without them the history knows nothing of scores.
        key: Secret under which sensitive categories are hashed.

    Raises:
        DriftError: when the times are naive or not as many as the rows.
    """
    known = [cell for cell in reference_bins if cell.name in frame.columns or cell.name in (scores or {})]
    most = MOST_NUMBERS // max(sum(_width(cell) for cell in known), 1)
    if times is not None and length is not None:
        block, starts = _time_blocks(times, len(frame), length, min(MOST_BLOCKS, most))
    else:
        block, starts = _equal_blocks(len(frame), min(EQUAL_BLOCKS, most)), ()
    count = int(block.max(initial=-1)) + 1
    if count < FEWEST_BLOCKS:
        return None
    columns = {b.name: scores[b.name] if scores and b.name in scores else frame[b.name] for b in known}
    features = {b.name: _count(b, places_of(b, columns[b.name], key=key), block, count) for b in known}
    rows = np.bincount(block[block >= 0], minlength=count).astype(np.int64)
    widths = {cell.name: cell.cells for cell in known}
    return History(reference_id, starts, length if starts else None, rows, features, widths)


def to_plain(history: History) -> dict[str, Any]:  # Any: JSON values
    """Return the history as JSON values."""
    return {
        "reference_id": history.reference_id,
        "starts": [start.isoformat() for start in history.starts],
        "length_us": None if history.length is None else history.length // _TICK,
        "rows": pack(history.rows.reshape(-1, 1)),
        "features": {name: pack(table) for name, table in history.features.items()},
        "widths": history.widths,
    }


def from_plain(raw: dict[str, Any]) -> History:  # Any: JSON values
    """Return the history that `to_plain` wrote.

    Raises:
        ValueError: when it is something else, or its parts contradict each other.
    """
    if sum(size_of(table) for table in raw["features"].values()) > MOST_NUMBERS:
        raise ValueError("a history too large to be one of ours")
    starts = tuple(datetime.fromisoformat(text) for text in raw["starts"])
    length = None if raw["length_us"] is None else raw["length_us"] * _TICK
    rows = unpack(raw["rows"], "<i8")[:, 0]
    features = {name: unpack(table, "<i8") for name, table in raw["features"].items()}
    history = History(raw["reference_id"], starts, length, rows, features, dict(raw["widths"]))
    _check(history)
    return history


def _check(history: History) -> None:
    count = len(history)
    timed = history.length is not None
    if not FEWEST_BLOCKS <= count <= MOST_BLOCKS or (history.rows <= 0).any():
        raise ValueError("a history of too few, too many or empty blocks")
    if len(history.starts) != (count if timed else 0) or timed != bool(history.starts):
        raise ValueError("a history whose blocks have no start")
    if any(start.utcoffset() != timedelta(0) for start in history.starts):
        raise ValueError("a history in another zone than UTC")
    gaps = (later - sooner for sooner, later in itertools.pairwise(history.starts))
    if history.length is not None and not _TICK <= history.length <= min(gaps):
        raise ValueError("a history whose blocks overlap")
    if history.widths.keys() != history.features.keys():
        raise ValueError("a history of other features than it names")
    for name, table in history.features.items():
        _check_table(table, history.rows, history.widths[name])


def _check_table(table: Ints, rows: Ints, width: int) -> None:
    if type(width) is not int or width < 1 or table.shape[1] not in {HEAD + width, HEAD + 2 * width}:
        raise ValueError("a history of other cells than it says")
    counted = table[:, : HEAD + width]
    if len(table) != len(rows) or (counted < 0).any() or (counted > 2**53).any():
        raise ValueError("a history of counts that cannot be")
    parts = table[:, 1:4].sum(axis=1) + table[:, HEAD : HEAD + width].sum(axis=1)
    if (table[:, 0] != rows).any() or (parts != rows).any():
        raise ValueError("a history whose counts do not add up")


def _time_blocks(
    times: pd.Series[Any], rows: int, length: timedelta, most: int
) -> tuple[Ints, tuple[datetime, ...]]:
    import pandas as pd

    stamps = pd.DatetimeIndex(times)
    if stamps.tz is None or len(stamps) != rows:
        raise DriftError(
            "naive times" if len(stamps) == rows else f"{len(stamps)} times for {rows} rows",
            "one aware UTC time per row",
            "read the timestamp column with its zone",
        )
    ticks = stamps.tz_convert("UTC").tz_localize(None).to_numpy().astype("datetime64[us]").astype(np.int64)
    step = length // _TICK
    timed = ~np.asarray(stamps.isna())
    numbers = ticks // step
    kept = np.unique(numbers[timed])[-most:] if most else numbers[:0]
    place = np.searchsorted(kept, numbers)
    found = timed & (place < len(kept))
    block = np.full(rows, -1, dtype=np.int64)
    block[found] = np.where(kept[place[found]] == numbers[found], place[found], -1)
    return block, tuple(_EPOCH + int(number) * length for number in kept)


def _equal_blocks(rows: int, most: int) -> Ints:
    count = min(most, rows // EQUAL_ROWS)
    return (np.arange(rows, dtype=np.int64) * count) // max(rows, 1) if count else np.full(rows, -1)


def _width(cell: Bins) -> int:
    return HEAD + cell.cells * (2 if cell.kind == "numeric" else 1)


def _count(bins: Bins, places: Places, block: Ints, count: int) -> Ints:
    """Return the feature's numbers per block: one two-dimensional count of block times cell."""
    table = np.zeros((count, _width(bins)), dtype=np.int64)
    wide = bins.cells - UNREADABLE
    for begin in range(0, len(block), _BATCH):
        part = slice(begin, begin + _BATCH)
        inside = block[part] >= 0
        at = (block[part] * wide + places.codes[part] - UNREADABLE)[inside]
        held = np.bincount(at, minlength=count * wide).reshape(count, wide)
        table[:, HEAD : HEAD + bins.cells] += held[:, -UNREADABLE:]
        table[:, 1] += held[:, NULL - UNREADABLE]
        table[:, 2] += held[:, INFINITE - UNREADABLE]
        table[:, 3] += held[:, 0]
        if places.steps is not None:
            sums = np.bincount(at, places.steps[part][inside], minlength=count * wide).reshape(count, wide)
            table[:, HEAD + bins.cells :] += sums[:, -UNREADABLE:].astype(np.int64)
        if places.beyond is not None:
            table[:, 4] += np.bincount(block[part][inside & places.beyond[part]], minlength=count)
    cells = table[:, HEAD : HEAD + bins.cells]
    if bins.kind == "categorical":
        table[:, 4] = cells[:, -1] if bins.complete else 0
    elif bins.values:
        known = np.searchsorted(bins.edges, bins.values, side="left")
        table[:, 4] = cells.sum(axis=1) - cells[:, known].sum(axis=1)
    table[:, 0] = table[:, 1:4].sum(axis=1) + cells.sum(axis=1)
    if bins.masked and bins.kind == "numeric":
        table[:, HEAD + bins.cells :] = _evened(cells, table[:, HEAD + bins.cells :].sum(axis=0))
    return table


def _evened(cells: Ints, totals: Ints) -> Ints:
    """Return sums that add up to the totals, as if every value were its cell's mean over all blocks.

    A cell of a block may hold a single row: its own sum would be that row's value.
    """
    so_far = np.cumsum(cells, axis=0)
    held = np.maximum(so_far[-1], 1)
    return np.diff(np.rint(so_far / held * totals), axis=0, prepend=0).astype(np.int64)


def _counts(numbers: Ints, width: int) -> Counts:
    head, cells, sums = numbers[:HEAD], numbers[HEAD : HEAD + width], numbers[HEAD + width :]
    rows, nulls, infinite, unreadable, unseen = head.tolist()
    return Counts(rows, nulls, infinite, unreadable, unseen, tuple(cells.tolist()), tuple(sums.tolist()))
