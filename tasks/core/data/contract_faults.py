"""Faults of a table as masks over its rows, and what is said about them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from tasks.core.data.column_plan import ColumnPlan
from tasks.core.data.contract_report import ContractReport, Failure, Outcome, masked_examples
from tasks.core.data.parse_numbers import Mask
from tasks.core.spec import ModelSpec

_EXAMPLES_LOOKED_AT = 100
_REASONS_PER_PASS = 62  # bits of an int64 that stay positive


@dataclass(frozen=True)
class Fault:
    """One reason code on one column, and the rows it is true of."""

    code: str
    column: str
    rows: Mask
    sensitive: bool = False


def make_report(
    rows: pd.DataFrame,
    faults: list[Fault],
    spec: ModelSpec,
    *,
    structural: list[str],
    renames: dict[str, str],
    notices: tuple[str, ...] = (),
) -> ContractReport:
    """Return the counted and masked form of the faults, with the outcome they lead to."""
    count = int(any_fault(faults, len(rows)).sum())
    share = count / len(rows) if len(rows) else 0.0
    outcome: Outcome = "quarantine" if count else "ok"
    if structural or share > spec.contract.max_bad_share:
        outcome = "block"
    failures = tuple(_failure(fault, rows) for fault in faults)
    return ContractReport(len(rows), count, share, tuple(structural), renames, failures, outcome, notices)


def _failure(fault: Fault, rows: pd.DataFrame) -> Failure:
    examples: tuple[str, ...] = ()
    if fault.column in rows:
        looked_at = rows[fault.column].iloc[np.flatnonzero(fault.rows)[:_EXAMPLES_LOOKED_AT]]
        examples = masked_examples(looked_at, sensitive=fault.sensitive)
    return Failure(fault.code, fault.column, int(fault.rows.sum()), examples)


def reasons_of(faults: list[Fault], bad: Mask) -> pd.Categorical:
    """Return per bad row its reasons as `column:code;column:code`, each distinct text held once."""
    codes, texts = np.zeros(int(bad.sum()), dtype=np.int64), [""]
    for start in range(0, len(faults), _REASONS_PER_PASS):
        part = faults[start : start + _REASONS_PER_PASS]
        bits = np.zeros(len(codes), dtype=np.int64)
        for place, fault in enumerate(part):
            bits |= fault.rows[bad].astype(np.int64) << place
        combined, patterns = pd.factorize(bits)
        added = [[f"{f.column}:{f.code}" for i, f in enumerate(part) if int(p) >> i & 1] for p in patterns]
        pairs, distinct = pd.factorize(codes * len(patterns) + combined)
        texts = [
            ";".join([*filter(None, [texts[pair // len(patterns)]]), *added[pair % len(patterns)]])
            for pair in distinct
        ]
        codes = pairs.astype(np.int64)
    texts = texts if len(codes) else []
    return pd.Categorical.from_codes(codes.tolist(), categories=pd.Index(texts, dtype=object))


def any_fault(faults: list[Fault], rows: int) -> Mask:
    """Return where any of the faults is, over this many rows."""
    bad = np.zeros(rows, dtype=bool)
    for fault in faults:
        bad |= fault.rows
    return bad


def absence(name: str, renames: dict[str, str]) -> str:
    """Return what is said of an absent column, with its likely new name."""
    hint = f" (renamed to {renames[name]!r}?)" if name in renames else ""
    return f"column {name!r} is missing{hint}"


def type_change(plan: ColumnPlan, column: pd.Series[Any], code: str) -> str:
    """Return what is said of a column none of whose values has the agreed type."""
    if code == "naive_time":
        return f"column {plan.name!r} holds times without a zone: set source.timezone, or write offsets"
    found = pd.api.types.infer_dtype(column, skipna=True)
    hint = " (write yes and no in quotes in YAML)" if plan.kind == "boolean" and found == "string" else ""
    return f"column {plan.name!r} changed its type: found {found}, expected {plan.kind}{hint}"
