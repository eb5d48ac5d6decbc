"""Compact: predictions that no check needs any more move from the database to files, day by day."""

from __future__ import annotations

from typing import Any

from prefect import flow
from prefect.states import State

from tasks.cli import run_flow
from tasks.clock import now_or
from tasks.compact import compact_log
from tasks.core.form import ABOUT_MODEL, AsOf, DryRun
from tasks.core.spec import ModelSpec
from tasks.declared import check_declared
from tasks.failure import explain_failure
from tasks.ran import note_run


@flow(
    name="compact",
    flow_run_name="{spec.name}: compact, dry run {dry_run}",
    persist_result=False,
    on_completion=[note_run],
    on_failure=[explain_failure, note_run],
    on_crashed=[explain_failure, note_run],
)
def compact(spec: ModelSpec = ABOUT_MODEL, as_of: AsOf = None, dry_run: DryRun = True) -> State[Any]:
    """Move predictions older than `serving.keep` to files; drop those older than `serving.keep_files`.

    Args:
        spec: The model, as written under `definitions.models`.
        as_of: The moment to act as if it were; default: now.
        dry_run: Only tell how much would move; the default, because rows leave the database.
    """
    check_declared(spec)
    return compact_log(spec, as_of=now_or(as_of), dry_run=dry_run).state()


if __name__ == "__main__":
    raise SystemExit(run_flow(compact))
