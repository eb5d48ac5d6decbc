"""The ledgers of one model, read, counted and shown."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.states import State

from tasks.core.errors import SpecError
from tasks.core.kpi.chart import weekly_figure
from tasks.core.kpi.facts import Facts
from tasks.core.kpi.indicator import span
from tasks.core.kpi.measure import Scorecard, scorecard_of
from tasks.core.kpi.records import scorecard_markdown
from tasks.core.spec import ModelSpec
from tasks.core.window import utc
from tasks.log import task_logger
from tasks.pages.note import note
from tasks.pages.page import write_json, write_page
from tasks.run_state import completed
from tasks.settings import Settings, result_folder
from tasks.store.engine import open_store
from tasks.store.facts import gather, prices_of
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
    until = utc(as_of)
    if since is not None and utc(since) >= until:
        raise SpecError(
            f"since {utc(since).isoformat()}", f"a moment before {until.isoformat()}", "give an earlier one",
            model=spec.name,
        )  # fmt: skip
    return gather(
        open_store(settings), spec.name, since, as_of=until, prices=prices_of(spec), settings=settings
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
    return completed("Scorecard", f"{card.sentence()}; {page}", card)


def _plain(card: Scorecard) -> dict[str, Any]:  # Any: JSON
    return {
        **asdict(card),
        "since": card.since.isoformat(),
        "until": card.until.isoformat(),
        "actions": dict(card.actions),
    }
