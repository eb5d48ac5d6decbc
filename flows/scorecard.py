"""Scorecard: how often, how fast and how usefully the model is renewed, from its ledgers."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from prefect import flow
from prefect.states import State

from tasks.cli import run_flow
from tasks.clock import now_or
from tasks.core.form import ABOUT_MODEL, AsOf
from tasks.core.spec import ModelSpec
from tasks.failure import explain_failure
from tasks.scorecard import as_state, gather_facts, publish_scorecard


@flow(
    name="scorecard",
    flow_run_name="{spec.name}: scorecard",
    persist_result=False,
    on_failure=[explain_failure],
    on_crashed=[explain_failure],
)
def scorecard(spec: ModelSpec = ABOUT_MODEL, since: datetime | None = None, as_of: AsOf = None) -> State[Any]:
    """Compute the indicators of this model from its ledgers and show them on one page.

    Args:
        spec: The model, as written under `definitions.models`.
        since: Leave out what happened before; default: everything on record.
        as_of: Leave out what happened at or after; default: now.
    """
    facts = gather_facts(spec, since, as_of=now_or(as_of))
    card, page = publish_scorecard(spec, facts)
    return as_state(card, page)


if __name__ == "__main__":
    raise SystemExit(run_flow(scorecard))
