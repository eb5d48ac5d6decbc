"""Boards: one page per model and one for the fleet, from what is on record."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

from prefect import task
from prefect.cache_policies import NO_CACHE
from sqlalchemy.exc import SQLAlchemyError

from tasks.core.board.facts import Board
from tasks.core.board.figures import figures_of, score_figure
from tasks.core.board.fleet import fleet_of
from tasks.core.board.month import month_before, month_window
from tasks.core.board.review import Review, review_markdown, review_of
from tasks.core.board.rows import MOST_RECORDS, anchors_of, changes_of, incidents_of, records_of
from tasks.core.board.state import MISSING, state_of, tiles_of
from tasks.core.errors import SpecError, WorkflowError
from tasks.core.kpi.measure import Scorecard, scorecard_of
from tasks.core.records.drift_calendar import MEANINGS, SYMBOLS, calendar_of
from tasks.core.spec import ModelSpec
from tasks.core.window import Window, utc
from tasks.log import task_logger
from tasks.pages.guarded import write_guarded_page
from tasks.pages.page import write_whole
from tasks.settings import Settings, result_folder
from tasks.store.board import asked_in, board_facts, known_models
from tasks.store.engine import open_store
from tasks.store.facts import gather, prices_of
from tasks.store.pages import FLEET
from tasks.store.reports import keep_report

_BEFORE = timedelta(days=92)  # of time that a review's chart shows before its month


@task(retries=2, retry_delay_seconds=5, timeout_seconds=300, cache_policy=NO_CACHE)
def write_board(spec: ModelSpec, *, as_of: datetime, settings: Settings | None = None) -> Path | None:
    """Return the page of this model, `board/<model>/board.html` of the state folder; None where it failed.

    A copy stands below the artifact root, beside the model's drift reports, where the app shows it. The page
    is one file that loads nothing; writing it again replaces it. A run never fails for want of it: why it
    could not be written is logged, and the page of before stays.
    """
    try:
        return _written(spec, as_of, settings or Settings())
    except (WorkflowError, SQLAlchemyError, OSError) as err:
        task_logger(__name__).error(
            "%s: the board could not be written: %s",
            spec.name, err if isinstance(err, WorkflowError) else type(err).__name__,
        )  # fmt: skip
        return None


def _written(spec: ModelSpec, as_of: datetime, place: Settings) -> Path:
    started, engine = time.monotonic(), open_store(place)
    board = board_facts(engine, spec.name, as_of=as_of, settings=place)
    prices = prices_of(spec)
    card = scorecard_of(gather(engine, spec.name, None, as_of=as_of, prices=prices, settings=place))
    folder = result_folder(spec.name, "board", settings=place)
    kept = write_board_page(board, card, folder / ".kept.html", drift_at="")
    keep_report(kept, spec.name, name="board.html", settings=place)
    kept.unlink()
    page = write_board_page(board, card, folder / "board.html", drift_at=_drift_at(folder, spec.name, place))
    task_logger(__name__).info(
        "%s: board of %d records, %s, in %.1f s: %s",
        spec.name, len(board.lines), state_of(board).word, time.monotonic() - started, page,
    )  # fmt: skip
    return page


@task(retries=2, retry_delay_seconds=5, timeout_seconds=600, cache_policy=NO_CACHE)
def write_fleet_board(*, as_of: datetime, settings: Settings | None = None) -> Path:
    """Return the page of all models, `board/_fleet/fleet.html` of the state folder, kept like a model's.

    Its cards lead to the models' own boards, as they were last written.
    """
    started, engine = time.monotonic(), open_store(settings)
    boards = [
        board_facts(engine, name, as_of=as_of, settings=settings, reports=False)
        for name in known_models(engine)
    ]
    folder = result_folder(FLEET, "board", settings=settings)
    page = write_fleet_page(boards, folder / "fleet.html", as_of=as_of)
    keep_report(page, FLEET, name="fleet.html", settings=settings)
    task_logger(__name__).info(
        "fleet: board of %d models in %.1f s: %s", len(boards), time.monotonic() - started, page
    )
    return page


@task(retries=2, retry_delay_seconds=5, timeout_seconds=300, cache_policy=NO_CACHE)
def write_review(
    spec: ModelSpec, month: str = "", *, as_of: datetime, settings: Settings | None = None
) -> Path:
    """Return the review of a month in plain words, `review-YYYY-MM.html`, with its Markdown beside it.

    It stands where the board does. Without a month it is the last one that was over at `as_of`; a month that
    is not over yet is told so far.

    Raises:
        SpecError: when the month is none, or had not begun at `as_of`.
    """
    name, until, engine = month or month_before(as_of), utc(as_of), open_store(settings)
    span = month_window(name)
    if span.start >= until:
        raise SpecError(
            f"a review of {name}", "a month that has begun", "give an earlier one", model=spec.name
        )
    end = min(span.end, until)
    since = span.start - _BEFORE
    board = board_facts(engine, spec.name, as_of=end, since=since, settings=settings, reports=False)
    prices = prices_of(spec)
    card = scorecard_of(gather(engine, spec.name, span.start, as_of=end, prices=prices, settings=settings))
    asked = asked_in(engine, spec.name, Window(span.start, end))
    review = review_of(board, card, spec, span, asked=asked)
    folder = result_folder(spec.name, "board", settings=settings)
    page = write_review_page(review, board, span, folder / f"review-{name}.html")
    text = write_whole(folder / f"review-{name}.md", review_markdown(review))
    for path in (page, text):
        keep_report(path, spec.name, settings=settings)
    task_logger(__name__).info("%s: review of %s: %s", spec.name, name, page)
    return page


def write_board_page(board: Board, card: Scorecard, path: Path, *, drift_at: str | None) -> Path:
    """Return the path of the page just written; `drift_at` leads to the drift reports, None: to none."""
    return write_guarded_page(
        "board.html.j2",
        path,
        figures_of(board),
        board=board,
        state=state_of(board),
        tiles=tiles_of(board),
        missing=MISSING,
        calendar=calendar_of(board.drift),
        anchors=anchors_of(board),
        signs=SYMBOLS,
        meanings=MEANINGS,
        records=records_of(board),
        hidden=max(0, len(board.lines) - MOST_RECORDS),
        changes=changes_of(board),
        incidents=incidents_of(board),
        card=card,
        drift_at=drift_at,
    )


def write_fleet_page(boards: list[Board], path: Path, *, as_of: datetime) -> Path:
    """Return the path of the page just written: a card per model, those that need somebody first."""
    cards = fleet_of(boards)
    needy = sum(card.state.level in ("bad", "warn") for card in cards)
    return write_guarded_page("fleet.html.j2", path, {}, cards=cards, needy=needy, as_of=utc(as_of))


def write_review_page(review: Review, board: Board, month: Window, path: Path) -> Path:
    """Return the path of the page just written; its chart shows the month and a quarter before it."""
    shown = tuple(one for one in board.lines if month.start - _BEFORE < one.window.end <= month.end)
    figures = {"score": score_figure(replace(board, lines=shown))}
    figures = {name: figure for name, figure in figures.items() if figure["data"]}
    return write_guarded_page("review.html.j2", path, figures, review=review, as_of=board.as_of)


def _drift_at(folder: Path, model: str, place: Settings) -> str | None:
    """Return the way from the state folder to the drift reports; None where they lie in another place."""
    if place.artifact_root.startswith("s3://"):
        return None
    target = Path(place.artifact_root, "reports", model)
    return f"{Path(os.path.relpath(target, folder)).as_posix()}/"
