"""A dataset's rows, part by part and checked to be those that were fetched."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from tasks.core.data.contract import Checked, check_frame, reasons_column
from tasks.core.dataset import Dataset
from tasks.core.errors import ContractError
from tasks.core.spec import ModelSpec


def require_untouched(dataset: Dataset, spec: ModelSpec) -> None:
    """Return nothing when the file is the one that was fetched.

    Raises:
        ContractError: when it is another, or is gone.
    """
    with readable(dataset, spec):
        if digest_of(Path(dataset.path)) != dataset.sha256:
            raise ContractError(
                f"other bytes in {Path(dataset.path).name} than were fetched",
                "an untouched file",
                "fetch again",
                model=spec.name,
                window=str(dataset.window),
            )


def parts_of(dataset: Dataset, spec: ModelSpec) -> Iterator[pd.DataFrame]:
    """Yield the rows in their order, at most `scoring.batch_rows` at once, in parts of like size.

    A dataset without rows is one part without rows.
    """
    count = -(-dataset.rows // spec.scoring.batch_rows)
    with readable(dataset, spec):
        if count <= 1:
            yield pq.read_table(dataset.path).to_pandas()
            return
        with pq.ParquetFile(dataset.path) as file:
            for batch in file.iter_batches(batch_size=-(-dataset.rows // count)):
                yield batch.to_pandas()


def check_part(frame: pd.DataFrame, dataset: Dataset, spec: ModelSpec) -> Checked:
    """Return which of these rows may be scored; none where the part as a whole breaks the contract."""
    checked = check_frame(
        frame,
        spec,
        missing=dataset.missing,
        source_columns=dataset.columns,
        clashes=dataset.clashes,
        with_label=False,
    )
    if not checked.report.structural:
        return checked
    all_of_it = frame.assign(**{reasons_column(frame): "; ".join(checked.report.structural)})
    return Checked(checked.good.iloc[:0], all_of_it, checked.report)


@contextmanager
def readable(dataset: Dataset, spec: ModelSpec) -> Iterator[None]:
    """Turn what reading the file may raise into an error that says what to do."""
    try:
        yield
    except (OSError, pa.ArrowException) as err:
        raise ContractError(
            f"no readable rows in {Path(dataset.path).name} ({type(err).__name__})",
            "a Parquet file",
            "fetch again",
            model=spec.name,
            window=str(dataset.window),
        ) from err


def digest_of(path: Path) -> str:
    """Return the sha256 of the file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
