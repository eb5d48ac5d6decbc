"""Fetched rows against the contract: good ones go on, bad ones go to quarantine with their reasons."""

from __future__ import annotations

import argparse
import hashlib
import hmac
import json
import re
import secrets
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from prefect import task
from prefect.cache_policies import NO_CACHE

from tasks.core.data.coerce import canonical
from tasks.core.data.contract import ContractReport, check_frame
from tasks.core.data.contract_merge import merged_report
from tasks.core.data.infer import contract_yaml
from tasks.core.dataset import Dataset
from tasks.core.errors import ContractError
from tasks.core.policy.label_fault import without_windows
from tasks.core.spec import ModelSpec
from tasks.core.window import Window, parse_duration
from tasks.log import task_logger
from tasks.settings import Settings
from tasks.sources import opened
from tasks.sources.gathering import gather
from tasks.sources.where import within
from tasks.store import quarantine
from tasks.store.dataset_parts import check_part, digest_of, parts_of, readable, require_untouched
from tasks.store.engine import open_store
from tasks.store.evidence import suspect_windows

_INFER_FROM = 200_000


@dataclass(frozen=True)
class Validated:
    """The good rows, what the check found, and where the bad rows stand (None when there are none)."""

    dataset: Dataset
    report: ContractReport
    quarantine: str | None = None


@task(name="validate", retries=0, timeout_seconds=3600, cache_policy=NO_CACHE)
def validate(
    spec: ModelSpec,
    dataset: Dataset,
    *,
    with_label: bool = True,
    attempt: str = "",
    settings: Settings | None = None,
) -> Validated:
    """Return the good rows as a new dataset, and the report that says whether they may be used.

    A report with outcome "block" is a result, not an error: the caller decides. Good rows are written beside
    the dataset; bad rows below the state folder, sensitive features as keyed hashes, and counted in the
    store. Running it again for the same attempt writes the same files and leaves one record.

    Raises:
        ContractError: when the dataset's file is not the one that was fetched, or cannot be read.
        SpecError: when the contract names a cross-column check that does not exist.
    """
    began, place = time.perf_counter(), settings or Settings()
    checked = check_frame(
        _read(dataset, spec),
        spec,
        missing=dataset.missing,
        source_columns=dataset.columns,
        clashes=dataset.clashes,
        with_label=with_label,
    )
    good = _write(checked.good, Path(dataset.path).with_suffix(".good.parquet"))
    path = None
    if len(checked.bad):
        path = str(_set_aside(checked.bad, spec, _quarantine_of(dataset, spec, attempt, place), place))
        _count(spec, dataset, attempt, checked.report, path, place)
    kept = replace(dataset, path=str(good), rows=len(checked.good), sha256=digest_of(good))
    task_logger(__name__).info(
        "%s %s: %s (%.1f s)",
        spec.name,
        dataset.window,
        checked.report.sentence(),
        time.perf_counter() - began,
    )
    return Validated(kept, checked.report, path)


@task(name="validate in parts", retries=0, timeout_seconds=4 * 3600, cache_policy=NO_CACHE)
def validate_in_parts(
    spec: ModelSpec, dataset: Dataset, *, attempt: str = "", settings: Settings | None = None
) -> ContractReport:
    """Return what `validate` says of rows to be scored, with `scoring.batch_rows` of them in memory at once.

    Bad rows are set aside as there; the good ones are not written again: whoever scores them checks each
    part in the same way.

    Raises:
        ContractError: when the dataset's file is not the one that was fetched, or cannot be read.
        SpecError: when the contract names a cross-column check that does not exist.
    """
    began, place = time.perf_counter(), settings or Settings()
    require_untouched(dataset, spec)
    path, reports = _quarantine_of(dataset, spec, attempt, place), []
    for number, frame in enumerate(parts_of(dataset, spec)):
        checked = check_part(frame, dataset, spec)
        reports.append(checked.report)
        if len(checked.bad):
            _set_aside(checked.bad, spec, path.with_stem(f"{path.stem}-{number}"), place)
    report = merged_report(reports, spec)
    if report.bad_rows:
        _count(spec, dataset, attempt, report, str(path.with_stem(f"{path.stem}-*")), place)
    task_logger(__name__).info(
        "%s %s: %s in %d parts (%.1f s)",
        spec.name, dataset.window, report.sentence(), len(reports), time.perf_counter() - began,
    )  # fmt: skip
    return report


@task(name="set suspect labels aside", retries=0, timeout_seconds=3600, cache_policy=NO_CACHE)
def set_suspects_aside(
    spec: ModelSpec, dataset: Dataset, *, as_of: datetime, attempt: str, settings: Settings | None = None
) -> Dataset:
    """Return the rows without those of windows whose labels are suspect; these go to quarantine, counted.

    A window is suspect where its labels jumped while inputs and scores stayed, until they are corrected and
    no longer than `label.max_block`. Where that would leave no row, nothing is set aside.
    """
    place = settings or Settings()
    newest = Window.ending(as_of - parse_duration(spec.label.maturity), spec.window.check)
    suspects = suspect_windows(open_store(place), spec, newest, as_of)
    if not suspects:
        return dataset
    frame = pd.read_parquet(dataset.path)
    good = without_windows(frame, spec.source.timestamp, [suspect.window for suspect in suspects])
    aside = frame[~frame.index.isin(good.index)]
    if good.empty or aside.empty:
        return dataset
    path = _quarantine_of(dataset, spec, f"{attempt}-suspect", place)
    reasons = {f"suspected labelling fault: {suspect.reason}": len(aside) for suspect in suspects[-1:]}
    quarantine.record(
        open_store(place),
        model=spec.name,
        attempt=f"{attempt}-suspect",
        window=dataset.window,
        rows=len(aside),
        reasons=reasons,
        path=str(_set_aside(aside, spec, path, place)),
    )
    kept = _write(good, Path(dataset.path).with_suffix(".trusted.parquet"))
    task_logger(__name__).warning(
        "%s: %d rows of %d windows with suspect labels stay out of training: %s",
        *(spec.name, len(aside), len(suspects), suspects[-1].reason),
    )
    return replace(dataset, path=str(kept), rows=len(good), sha256=digest_of(kept))


def infer_contract_from_source(spec: ModelSpec, args: argparse.Namespace) -> None:
    """Print a first contract read from the newest training window of the source."""
    moment = getattr(args, "as_of", None) or datetime.now(UTC)
    settings = Settings()
    window = Window.ending(moment, spec.window.training)
    rows, dialect = _some_rows(spec, window, settings)
    if dialect:
        body = ", ".join(
            f"{name}: {json.dumps(value, ensure_ascii=False)}" for name, value in dialect.items()
        )
        sys.stdout.write(f"# source.csv as it was read: {{{body}}}\n")
    sys.stdout.write(contract_yaml(rows, spec))


def _some_rows(
    spec: ModelSpec, window: Window, settings: Settings
) -> tuple[pd.DataFrame, Mapping[str, object]]:
    """Return the features of the window's rows, of the first 200,000 if there are more; and their dialect."""
    batches: list[pa.RecordBatch] = []
    names = spec.features.all
    with opened(spec, settings) as source:
        dialect = source.dialect
        for batch in source.batches(names, within(spec.source.timestamp, window)):
            batches.append(batch)
            if sum(part.num_rows for part in batches) >= _INFER_FROM:
                break
    if not batches:
        raise ContractError(
            "no rows",
            "rows to infer a contract from",
            "give --as-of a moment after some rows",
            model=spec.name,
            window=str(window),
        )
    rows: pd.DataFrame = gather(batches, names, spec).table.to_pandas()
    return rows.head(_INFER_FROM), dialect


def _read(dataset: Dataset, spec: ModelSpec) -> pd.DataFrame:
    require_untouched(dataset, spec)
    with readable(dataset, spec):
        frame: pd.DataFrame = pq.read_table(dataset.path).to_pandas()
    if dataset.unreadable and Path(dataset.unreadable).exists():  # without a time they break the contract
        frame = pd.concat([frame, pd.read_parquet(dataset.unreadable)], ignore_index=True)
    return frame


def _quarantine_of(dataset: Dataset, spec: ModelSpec, attempt: str, settings: Settings) -> Path:
    folder = settings.root / "quarantine" / spec.name
    folder.mkdir(parents=True, exist_ok=True)
    who = re.sub(r"[^\w.-]", "_", attempt) or "check"
    return folder / f"{dataset.window.start:%Y%m%dT%H%M}-{who}-{dataset.sha256[:12]}.parquet"


def _set_aside(bad: pd.DataFrame, spec: ModelSpec, path: Path, settings: Settings) -> Path:
    """Write the bad rows where only their owner reads them."""
    _write(_as_text(bad, spec, settings), path)
    path.chmod(0o600)
    return path


def _count(
    spec: ModelSpec, dataset: Dataset, attempt: str, report: ContractReport, path: str, settings: Settings
) -> None:
    quarantine.record(
        open_store(settings),
        model=spec.name,
        attempt=attempt,
        window=dataset.window,
        rows=report.bad_rows,
        reasons=report.reasons,
        path=path,
    )


def _as_text(bad: pd.DataFrame, spec: ModelSpec, settings: Settings) -> pd.DataFrame:
    """Return the rows with every value as text, whatever mixture it was, and sensitive ones hashed."""
    columns = {str(name): canonical(bad[name].astype(object)).where(bad[name].notna(), None) for name in bad}
    if any(name in columns for name in spec.features.sensitive):
        key = settings.masking_key()
        for name in spec.features.sensitive:
            if name in columns:
                columns[name] = _hashed(columns[name], key)
    return pd.DataFrame(columns, index=bad.index)


def _hashed(values: pd.Series, key: bytes) -> pd.Series:
    codes, levels = pd.factorize(values)
    name = str(values.name)
    hashes = [hmac.new(key, f"{name}\0{x}".encode("utf-8", "surrogatepass"), hashlib.sha256) for x in levels]
    texts = pd.Series([*(made.hexdigest()[:16] for made in hashes), None], dtype=object)
    return pd.Series(texts.to_numpy()[codes], index=values.index, name=values.name, dtype=object)


def _write(frame: pd.DataFrame, path: Path) -> Path:
    """Write the frame as Parquet that is either whole or not there."""
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        pq.write_table(pa.Table.from_pandas(frame, preserve_index=False), part)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    return path
