"""One report from the reports on parts of a table that is too large to be looked at whole."""

from __future__ import annotations

from collections.abc import Sequence

from tasks.core.data.contract_report import MAX_EXAMPLES, ContractReport, Failure, Outcome
from tasks.core.spec import ModelSpec


def merged_report(parts: Sequence[ContractReport], spec: ModelSpec) -> ContractReport:
    """Return what the parts say together, as one check of all their rows would.

    Counts add up. A fault of the whole table (a column that changed its type, no good row at all) is one
    only where every part has it; where some have it, all rows of those parts count as bad instead.

    Raises:
        ValueError: when there is no part.
    """
    if not parts:
        raise ValueError("no part of a table: an empty table is one part without rows")
    rows = sum(part.rows for part in parts)
    everywhere = all(part.structural for part in parts)
    structural = tuple(dict.fromkeys(text for part in parts for text in part.structural))
    bad = sum(part.rows if part.structural else part.bad_rows for part in parts)
    share = bad / rows if rows else 0.0
    outcome: Outcome = "quarantine" if bad else "ok"
    if everywhere or share > spec.contract.max_bad_share:
        outcome = "block"
    said = set(parts[0].notices)
    return ContractReport(
        rows=rows,
        bad_rows=bad,
        bad_share=share,
        structural=structural if outcome == "block" else (),
        renames={name: found for part in parts for name, found in part.renames.items()},
        failures=_failures(parts),
        outcome=outcome,
        notices=tuple(sorted(said.intersection(*(part.notices for part in parts)))),
    )


def _failures(parts: Sequence[ContractReport]) -> tuple[Failure, ...]:
    found: dict[tuple[str, str], Failure] = {}
    for failure in (one for part in parts for one in part.failures):
        key = failure.code, failure.column
        before = found.get(key)
        examples = dict.fromkeys([*(before.examples if before else ()), *failure.examples])
        count = failure.count + (before.count if before else 0)
        found[key] = Failure(failure.code, failure.column, count, tuple(examples)[:MAX_EXAMPLES])
    return tuple(found.values())
