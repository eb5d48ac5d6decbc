"""The ledgers of one model, read, counted and shown."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.states import Completed, State
from sqlalchemy.engine import Engine

from tasks.core.errors import SpecError
from tasks.core.kpi.chart import weekly_figure
from tasks.core.kpi.facts import Facts, Outcome, Trouble, moment_in, window_end_in
from tasks.core.kpi.measure import Scorecard, scorecard_of, span
from tasks.core.kpi.records import scorecard_markdown
from tasks.core.spec import ModelSpec
from tasks.core.window import utc
from tasks.log import task_logger
from tasks.pages.note import note
from tasks.pages.page import write_json, write_page
from tasks.settings import Settings, result_folder
from tasks.store import alerts, ledger, outbox
from tasks.store.engine import open_store
from tasks.store.reports import keep_report


@task(retries=2, retry_delay_seconds=5, timeout_seconds=300, cache_policy=NO_CACHE)
def gather_facts(
    spec: ModelSpec, since: datetime | None, *, as_of: datetime, settings: Settings | None = None
) -> Facts:
    """Return what the ledgers know of the model before `as_of`, to be counted from `since` on.

    Without `since` everything on record is counted, from its first decision, outcome or incident on.

    Raises:
        SpecError: when `since` is not before `as_of`.
    """
    engine, until = open_store(settings), utc(as_of)
    if since is not None and utc(since) >= until:
        raise SpecError(
            f"since {utc(since).isoformat()}", f"a moment before {until.isoformat()}", "give an earlier one",
            model=spec.name,
        )  # fmt: skip
    rows = [row for row in ledger.history(engine, spec.name) if row.at < until]
    troubles = tuple(
        Trouble(one.cause, one.tier, one.opened_at, one.resolved_at)
        for one in alerts.history(engine, spec.name)
        if one.opened_at < until
    )
    decided = [row.at for row in ledger.decisions(engine, spec.name) if row.at < until]
    starts = [*decided, *(row.at for row in rows), *(one.opened_at for one in troubles)]
    return Facts(
        model=spec.name,
        since=utc(since) if since else min(starts, default=until),
        until=until,
        outcomes=tuple(_outcomes(engine, spec.name, rows)),
        troubles=troubles,
    )


@task(retries=2, retry_delay_seconds=2, timeout_seconds=120, cache_policy=NO_CACHE)
def publish_scorecard(
    spec: ModelSpec, facts: Facts, *, settings: Settings | None = None
) -> tuple[Scorecard, Path]:
    """Return the indicators and their page, `scorecard.html` with `scorecard.json` beside it.

    They stand in `scorecard/<model>` of the state folder, copied below the artifact root, and as an artifact
    on the run.
    """
    card = scorecard_of(facts)
    folder = result_folder(spec.name, "scorecard", settings=settings)
    page = write_page(
        "scorecard.html.j2",
        folder / "scorecard.html",
        weekly_figure(facts),
        filters={"length_of_time": span},
        card=card,
    )
    numbers = write_json(folder / "scorecard.json", _plain(card))
    for path in (page, numbers):
        keep_report(path, spec.name, settings=settings)
    note(spec.name, "scorecard", scorecard_markdown(card), card.sentence())
    task_logger(__name__).info("%s: scorecard of %d outcomes: %s", spec.name, len(facts.counted), page)
    return card, page


def as_state(card: Scorecard, page: Path) -> State[Any]:
    """Return a completed state that tells the main indicators and where the page is."""
    return Completed(name="Scorecard", message=f"{card.sentence()}; {page}"[:400], data=card)


def _outcomes(engine: Engine, model: str, rows: Iterable[ledger.LedgerRow]) -> Iterable[Outcome]:
    for row in rows:
        # A version that waited for a person was asked for by the decision that trained it.
        asked = outbox.find(engine, model, str(row.evidence.get("waited_as") or row.decision_id))
        moved = row.action == "promoted"
        yield Outcome(
            decision_id=row.decision_id,
            action=row.action,
            at=row.at,
            actor=row.actor,
            version=row.to_version,
            from_version=row.from_version,
            asked_at=asked.written_at if asked else None,
            moved_at=moment_in(row.evidence, "moved_at") if moved else None,
            data_end=window_end_in(row.evidence) if moved else None,
        )


def _plain(card: Scorecard) -> dict[str, Any]:  # Any: JSON
    return {
        **asdict(card),
        "since": card.since.isoformat(),
        "until": card.until.isoformat(),
        "actions": dict(card.actions),
    }
