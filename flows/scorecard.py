"""Scorecard: how often, how fast and how usefully the model is renewed, from its ledgers."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from prefect import flow
from prefect.states import State

from tasks.board import write_board, write_fleet_board, write_review
from tasks.cli import run_flow
from tasks.clock import now_or
from tasks.core.form import ABOUT_MODEL, AsOf
from tasks.core.spec import ModelSpec
from tasks.declared import check_declared
from tasks.failure import explain_failure
from tasks.ran import note_run
from tasks.scorecard import as_state, gather_facts, publish_scorecard


@flow(
    name="scorecard",
    flow_run_name="{spec.name}: scorecard",
    persist_result=False,
    on_completion=[note_run],
    on_failure=[explain_failure, note_run],
    on_crashed=[explain_failure, note_run],
)
def scorecard(
    spec: ModelSpec = ABOUT_MODEL, since: datetime | None = None, month: str = "", as_of: AsOf = None
) -> State[Any]:
    """Compute the indicators of this model from its ledgers; write its board, the fleet's and a review.

    Args:
        spec: The model, as written under `definitions.models`.
        since: Leave out what happened before; default: everything on record.
        month: Month to review, as YYYY-MM; default: the last one that is over.
        as_of: Leave out what happened at or after; default: now.
    """
    check_declared(spec)
    moment = now_or(as_of)
    facts = gather_facts(spec, since, as_of=moment)
    card, page = publish_scorecard(spec, facts)
    write_review(spec, month, as_of=moment)
    write_board(spec, as_of=moment)
    write_fleet_board(as_of=moment)
    return as_state(card, page)


if __name__ == "__main__":
    raise SystemExit(run_flow(scorecard))
