"""The contract of a model's input: one pandera schema, and the check that splits good rows from bad."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pandera.pandas as pa
from pandera.errors import SchemaError

from tasks.core.data.checks import broken_rows, find_check
from tasks.core.data.coerce import coerce
from tasks.core.data.column_plan import ColumnPlan, ValueCheck, plan_columns
from tasks.core.data.contract_faults import Fault, absence, any_fault, make_report, reasons_of, type_change
from tasks.core.data.contract_report import ContractReport, Failure
from tasks.core.data.parse_numbers import Mask
from tasks.core.data.renames import likely_renames
from tasks.core.data.spelling import spelled_alike
from tasks.core.errors import ContractError
from tasks.core.spec import ModelSpec

__all__ = ["Checked", "ContractReport", "Failure", "build_schema", "check_frame"]


@dataclass(frozen=True)
class Checked:
    """The good rows in the contract's types, the bad ones as they came plus reasons, and the report.

    The reasons stand in the last column of the bad rows: `reasons`, or `reasons_` where that is a column of
    the model's own.
    """

    good: pd.DataFrame
    bad: pd.DataFrame
    report: ContractReport


def build_schema(spec: ModelSpec, *, with_label: bool = True, identity: bool = True) -> pa.DataFrameSchema:
    """Return the contract as a pandera schema, which converts safely and then checks.

    `with_label=False` leaves the label out, for rows whose label is not known yet; `identity=False` also
    leaves out key, times and group, for rows that were never stored. Its errors hold raw values: use
    `check_frame` wherever they could be seen, which is also fast on a million bad rows.

    Raises:
        SpecError: when a cross-column check does not exist.
    """
    plans = plan_columns(spec, with_label=with_label, identity=identity)
    return _schema(spec, plans, [_across(spec, name) for name in spec.contract.checks])


def _schema(spec: ModelSpec, plans: Iterable[ColumnPlan], across: Sequence[pa.Check]) -> pa.DataFrameSchema:
    return pa.DataFrameSchema(
        {plan.name: _schema_column(plan) for plan in plans},
        checks=across,
        parsers=pa.Parser(lambda frame: _safely_converted(frame, plans)),
        name=spec.name,
        strict=False,
    )


def check_frame(
    frame: pd.DataFrame,
    spec: ModelSpec,
    *,
    missing: Collection[str] = (),
    source_columns: Collection[str] = (),
    clashes: Collection[tuple[str, str]] = (),
    with_label: bool = True,
    identity: bool = True,
) -> Checked:
    """Return which rows keep the contract, which break it and why, and whether the table may be used.

    `missing` are columns that part of the source lacked, `source_columns` all names the source has: renames
    are looked for among them. `clashes` are columns whose parts have types that cannot be one, each with a
    sentence on it. Columns the spec does not name are left out. Rows keep their order and index
    labels. An empty frame, an absent column, a changed type and (with labels) a feature without any value
    are structural: they block whatever the share of bad rows. Of rows with one key the newest is good.

    Raises:
        SpecError: when a cross-column check does not exist.
        ContractError: when a cross-column check itself fails.
    """
    plans = plan_columns(spec, with_label=with_label, identity=identity)
    for name in spec.contract.checks:
        find_check(name)
    known = [name for name in spec.columns if name in frame.columns]
    rows = frame.loc[:, ~frame.columns.duplicated()][known]
    absent = [plan.name for plan in plans if plan.name not in rows or plan.name in missing]
    renames = likely_renames(absent, {*map(str, [*source_columns, *frame.columns])} - set(spec.columns))
    silent = _silent_features(rows, spec)
    structural = [absence(name, renames) for name in absent] + _of_the_table(frame, known)
    structural += silent if with_label else []

    present = [plan for plan in plans if plan.name in rows]
    converted, faults, changed = _check_columns(rows, present)
    structural += changed + [text for name, text in clashes if any(plan.name == name for plan in plans)]
    faults += _duplicates(converted, spec) if identity else []
    near, spellings = _near_classes(converted, spec) if with_label else (None, "")
    if near is not None:
        faults.append(near)
        structural += [spellings] if near.rows.mean() > spec.contract.max_bad_share else []
    if not structural:
        faults += _across_faults(converted, ~any_fault(faults, len(rows)), spec)
    bad = any_fault(faults, len(rows))
    if len(rows) and bad.all():
        structural.append("no row keeps the contract")
    good = _converted_alone(converted, rows, present, bad)
    notices = tuple(silent) if not with_label else (spellings,) if near is not None else ()
    report = make_report(rows, faults, spec, structural=structural, renames=renames, notices=notices)
    if report.outcome != "block":
        _guard(good, plans, spec)
    set_aside = rows[bad].assign(**{reasons_column(rows): reasons_of(faults, bad)})
    return Checked(good, set_aside, report)


def reasons_column(rows: pd.DataFrame) -> str:
    """Return what the column of reasons is called beside these columns."""
    name = "reasons"
    while name in rows:
        name += "_"
    return name


def _near_classes(rows: pd.DataFrame, spec: ModelSpec) -> tuple[Fault | None, str]:
    """Return the rows whose class differs from a commoner one in case or blanks only, and the spellings.

    Classes that the contract lists under `isin` are what they are.
    """
    label = spec.label.column
    if spec.task == "regression" or label not in rows:
        return None, ""
    counts = rows[label][[isinstance(value, str) for value in rows[label]]].value_counts()
    rule = spec.contract.columns.get(label)
    agreed = set(map(str, rule.isin or ())) if rule else set()
    groups = [group for group in spelled_alike(set(counts.index) - agreed).values() if len(group) > 1]
    if not groups:
        return None, ""
    rare = {text for group in groups for text in group if text != max(group, key=lambda each: counts[each])}
    ways = "; ".join(", ".join(f"{text!r} ({counts[text]:,})" for text in group) for group in groups)
    fault = Fault("near_class", label, rows[label].isin(rare).to_numpy(dtype=bool))
    return fault, f"label {label!r} has classes that differ in case or blanks only: {ways}"


def _of_the_table(frame: pd.DataFrame, known: list[str]) -> list[str]:
    doubled = set(frame.columns[frame.columns.duplicated()])
    found = [f"column {name!r} stands more than once" for name in known if name in doubled]
    return found if len(frame) else [*found, "no rows"]


def _silent_features(rows: pd.DataFrame, spec: ModelSpec) -> list[str]:
    names = [name for name in spec.features.all if len(rows) and name in rows and rows[name].isna().all()]
    return [f"column {name!r} has no value in any of {len(rows):,} rows" for name in names]


def _converted_alone(
    converted: pd.DataFrame, rows: pd.DataFrame, plans: Iterable[ColumnPlan], bad: Mask
) -> pd.DataFrame:
    """Return the good rows in the types they have without the bad ones beside them."""
    good = converted[~bad]
    if not bad.any():
        return good
    mixed = [plan for plan in plans if plan.kind in {"category", "key", "label", "boolean"}]
    alone = {plan.name: plan.finished(coerce(rows.loc[~bad, plan.name], plan.kind).values) for plan in mixed}
    return good.assign(**alone)


def _check_columns(
    rows: pd.DataFrame, plans: Iterable[ColumnPlan]
) -> tuple[pd.DataFrame, list[Fault], list[str]]:
    """Return the rows in the contract's types, every fault, and which columns changed their type."""
    columns: dict[str, pd.Series[Any]] = {str(name): rows[name] for name in rows}
    faults: list[Fault] = []
    changed = []
    for plan in plans:
        column = rows[plan.name]
        coerced = coerce(column, plan.kind)
        found = dict(coerced.faults)
        nulls = column.isna().to_numpy(dtype=bool)
        usable = ~nulls & ~coerced.faulty
        for code in ("wrong_type", "naive_time"):
            if code in found and found[code].any() and not (~nulls & ~found[code]).any():
                changed.append(type_change(plan, column, code))
        if plan.required:
            found["missing_value"] = nulls
        values = plan.finished(coerced.values)
        for check in plan.checks:
            found[check.code] = found.get(check.code, False) | _failing(check, values, usable)
        faults += [Fault(code, plan.name, mask, plan.sensitive) for code, mask in found.items() if mask.any()]
        columns[plan.name] = values
    return pd.DataFrame(columns, index=rows.index), faults, changed


def _failing(check: ValueCheck, values: pd.Series[Any], usable: Mask) -> Mask:
    if usable.all():
        return ~check.passes(values)
    failing = np.zeros(len(values), dtype=bool)
    failing[usable] = ~check.passes(values[usable])
    return failing


def _duplicates(rows: pd.DataFrame, spec: ModelSpec) -> list[Fault]:
    """Return a fault on every copy of a key but the newest: last written, else happened, else given."""
    if spec.source.key not in rows:
        return []
    key = rows[spec.source.key]
    try:
        several = (key.duplicated(keep=False) & key.notna()).to_numpy(dtype=bool)
    except TypeError:  # keys that cannot be hashed are of the wrong type already
        return []
    positions = np.flatnonzero(several)
    order = [name for name in (spec.source.updated, spec.source.timestamp) if name and name in rows]
    copies = rows.iloc[positions][[spec.source.key, *order]].set_axis(positions)
    times = [name for name in order if pd.api.types.is_datetime64_any_dtype(copies[name].dtype)]
    if times:
        copies = copies.sort_values(times, kind="stable", na_position="first")
    older = copies.index[copies[spec.source.key].duplicated(keep="last")]
    mask = np.zeros(len(rows), dtype=bool)
    mask[older] = True
    return [Fault("duplicate_key", spec.source.key, mask)] if mask.any() else []


def _across_faults(rows: pd.DataFrame, good: Mask, spec: ModelSpec) -> list[Fault]:
    faults = []
    candidates = rows[good]
    for name in spec.contract.checks:
        mask = np.zeros(len(rows), dtype=bool)
        mask[good] = broken_rows(candidates, spec, name)
        if mask.any():
            faults.append(Fault("check_failed", name, mask))
    return faults


def _schema_column(plan: ColumnPlan) -> pa.Column:
    rules = [("type", f"a {plan.kind}", lambda values: ~coerce(values, plan.kind).faulty)]
    rules += [(check.code, check.text, check.passes) for check in plan.checks]
    return pa.Column(
        float if plan.as_float else None,
        checks=[pa.Check(_as_series(passes), name=name, error=text) for name, text, passes in rules],
        nullable=not plan.required,
        unique=plan.unique,
        required=True,
    )


def _as_series(passes: Callable[[pd.Series[Any]], Mask]) -> Callable[[pd.Series[Any]], pd.Series[bool]]:
    return lambda values: pd.Series(passes(values), index=values.index)


def _across(spec: ModelSpec, name: str) -> pa.Check:
    find_check(name)
    return pa.Check(lambda frame: pd.Series(~broken_rows(frame, spec, name), index=frame.index), name=name)


def _safely_converted(frame: pd.DataFrame, plans: Iterable[ColumnPlan]) -> pd.DataFrame:
    """Return the frame with every column converted that can be without a fault."""
    converted = {}
    for plan in plans:
        if plan.name in frame and not isinstance(frame[plan.name], pd.DataFrame):
            coerced = coerce(frame[plan.name], plan.kind)
            if not coerced.faulty.any():
                converted[plan.name] = plan.finished(coerced.values)
    return frame.assign(**converted)


def _guard(good: pd.DataFrame, plans: Iterable[ColumnPlan], spec: ModelSpec) -> None:
    """Let the schema itself have the last word on the good rows.

    The checks across columns have had theirs: one that compares a row with the others may answer differently
    when asked again without the rows it refused.
    """
    try:
        _schema(spec, plans, ()).validate(good, lazy=False)
    except SchemaError as err:
        raise ContractError(
            f"rows that passed but the schema refuses ({err.reason_code})",
            "one answer",
            "report this",
            model=spec.name,
        ) from None
