"""Some rows of a Parquet file, drawn by a seed, in memory that does not grow with the file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tasks.core.drift.counting.sample import pick

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    Places = NDArray[np.intp]

BATCH_ROWS = 2**17
MOST_GROUPS = 16  # row groups that rows are drawn from; our choice: a large file is not read a second time


def sample_rows(path: str, columns: Sequence[str], most: int, *, seed: int = 0) -> pd.DataFrame:
    """Return at most `most` rows of the file, in its order; columns that it lacks are left out.

    They are drawn without replacement from all rows or, of files with more than 16 row groups, from the rows
    of 16 that lie evenly spread.

    Raises:
        OSError: when there is no such file.
        pyarrow.ArrowException: when it is no Parquet.
    """
    with pq.ParquetFile(path) as file:
        known = set(file.schema_arrow.names)
        names = [name for name in columns if name in known]
        groups = _spread(file.num_row_groups)
        sizes = [file.metadata.row_group(group).num_rows for group in groups]
        places = pick(sum(sizes), most, seed)
        found = [file.schema_arrow.empty_table().select(names)]
        start = 0
        for group, size in zip(groups, sizes, strict=True):
            mine = places[(places >= start) & (places < start + size)] - start
            found += _taken(file, group, names, mine)
            start += size
    return pa.concat_tables(found).to_pandas() if names else _bare(len(places))


def _taken(file: pq.ParquetFile, group: int, names: list[str], places: Places) -> list[pa.Table]:
    if not len(places) or not names:
        return []
    found, start = [], 0
    for batch in file.iter_batches(BATCH_ROWS, row_groups=[group], columns=names):
        mine = places[(places >= start) & (places < start + batch.num_rows)] - start
        found.append(pa.Table.from_batches([batch]).take(pa.array(mine)))
        start += batch.num_rows
    return found


def _spread(groups: int) -> list[int]:
    if groups <= MOST_GROUPS:
        return list(range(groups))
    return [int(place) for place in np.linspace(0, groups - 1, MOST_GROUPS).round()]


def _bare(rows: int) -> pd.DataFrame:
    import pandas as pd

    return pd.DataFrame(index=range(rows))
