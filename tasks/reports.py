"""Report pages that open offline: one HTML file each, with the numbers beside it as JSON."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar

from prefect import task
from prefect.cache_policies import NO_CACHE

from tasks.core.drift.results import DriftVerdict
from tasks.core.records.drift_calendar import MEANINGS, SYMBOLS, how_many
from tasks.core.records.drift_page import DriftPage, drift_page, watched
from tasks.core.records.drift_words import class_names, named, short_percent
from tasks.core.records.text import number
from tasks.core.replay.advice import Advice
from tasks.core.replay.advice_text import advice_details, advice_sentence, amount, interval_text, signed
from tasks.core.replay.backtest_chart import (
    compared_policies,
    frontier_figure,
    policy_marks,
    scores_figure,
    staleness_figure,
)
from tasks.core.replay.backtest_result import Backtest
from tasks.core.replay.chart import Figure, planted_spans, replay_figure
from tasks.core.replay.summary import Summary, shown
from tasks.core.spec import ModelSpec
from tasks.core.window import Window
from tasks.log import task_logger
from tasks.pages.light import write_light_page
from tasks.pages.page import write_json, write_page
from tasks.settings import Settings
from tasks.store.engine import open_store
from tasks.store.reports import keep_report
from tasks.store.trends import feature_history, verdict_history

_Value = TypeVar("_Value")
TREND_WINDOWS = 60  # of the measures over time; our choice: what one line still shows


@task(retries=0, timeout_seconds=120, cache_policy=NO_CACHE)
def publish_replay(summary: Summary, folder: Path) -> Path:
    """Return the path of `report.html`, written with `summary.json` into the folder."""
    return write_report(summary, folder / "report.html")


@task(retries=0, timeout_seconds=120, cache_policy=NO_CACHE)
def publish_backtest(result: Backtest, advice: Advice, folder: Path) -> Path:
    """Return the path of `backtest.html`, written with `backtest.json` into the folder."""
    return write_backtest(result, advice, folder / "backtest.html")


@task(retries=2, retry_delay_seconds=5, timeout_seconds=300, cache_policy=NO_CACHE)
def publish_drift_report(
    spec: ModelSpec,
    verdict: DriftVerdict,
    window: Window,
    *,
    classes: Sequence[object] | None = None,
    settings: Settings | None = None,
) -> str:
    """Return where the drift report of this window stands: a file or `s3://` address below the artifact root.

    One page per window: publishing it again replaces it, and the same verdict with the same history gives
    the same page. Earlier windows come from the store, this one from the verdict.
    """
    started = time.monotonic()
    with class_names(classes), TemporaryDirectory() as folder:
        page = _drift_page(spec, verdict, window, settings)
        path = write_drift_report(page, Path(folder) / "drift.html")
        size = path.stat().st_size
        stands = keep_report(path, spec.name, name=f"drift/{_stamp(window)}.html", settings=settings)
    task_logger(__name__).info(
        "%s: drift report of %s, %.0f kB, in %.1f s: %s",
        spec.name, window, size / 1e3, time.monotonic() - started, stands,
    )  # fmt: skip
    return stands


def write_drift_report(page: DriftPage, path: Path) -> Path:
    """Return the path of the page just written: one HTML file that loads nothing."""
    return write_light_page(
        "drift.html.j2",
        path,
        filters={"number": number, "short": short_percent, "named": named},
        page=page,
        signs=SYMBOLS,
        meanings=MEANINGS,
    )


def write_report(summary: Summary, path: Path) -> Path:
    """Return the path of the replay's page: one HTML file, with `summary.json` beside it."""
    started, spans = time.monotonic(), list(planted_spans(summary.windows))
    _page("report.html.j2", path, replay_figure(summary), summary=summary, spans=spans)
    write_json(path.with_name("summary.json"), summary.to_json())
    task_logger(__name__).info(
        "%s: report of %d windows in %.1f s: %s",
        summary.model, len(summary.windows), time.monotonic() - started, path.name,
    )  # fmt: skip
    return path


def write_backtest(result: Backtest, advice: Advice, path: Path) -> Path:
    """Return the path of the backtest's page, with `backtest.json` beside it."""
    started, compared, more = time.monotonic(), compared_policies(result), dict[str, Figure]()
    if compared:
        more["scores"] = scores_figure(result, advice)
    if result.staleness_curve:
        more["staleness"] = staleness_figure(result)
    _page(
        "backtest.html.j2",
        path,
        frontier_figure(result, advice),
        more=more,
        result=result,
        advice=advice,
        lead=advice_sentence(advice),
        details=advice_details(advice),
        rows=list(zip(result.policies, advice.policies, strict=True)),
        marks=policy_marks(result.policies),
        compared=compared,
        windows=list(_window_rows(result)),
        amount=amount,
        signed=signed,
        interval=interval_text,
    )
    write_json(path.with_name("backtest.json"), {**result.to_json(), "advice": advice.to_json()})
    task_logger(__name__).info(
        "%s: backtest of %d policies in %.1f s: %s",
        result.model, len(result.policies), time.monotonic() - started, path.name,
    )  # fmt: skip
    return path


def _drift_page(
    spec: ModelSpec, verdict: DriftVerdict, window: Window, settings: Settings | None
) -> DriftPage:
    engine, many = open_store(settings), how_many(window.length)
    past = verdict_history(engine, spec.name, windows=many, before=window.end)
    history = feature_history(
        engine, spec.name, windows=TREND_WINDOWS, before=window.end, features=watched(verdict)
    )
    # The check of this window, where it is on record, knows the version; else the newest before it.
    version = past[-1].version if past else None
    return drift_page(spec, verdict, window, past=past, history=history, version=version)


def _window_rows(result: Backtest) -> Iterator[dict[str, object]]:
    """Yield what served in each window of the loop, as a reader sees it; dashes where it was not run."""
    loop = result.policy("loop")
    for place in range(result.windows):
        dated = len(result.starts) == result.windows
        version = _at(loop.versions, place) if loop else None
        partner = _at(loop.partners, place) if loop else None
        debt = _at(loop.debts, place) if loop else None
        yield {
            "place": place,
            "name": f"{result.starts[place]:%Y-%m-%d}" if dated else f"window {place + 1}",
            "version": "–" if version is None else f"v{version}",
            "partner": "–" if partner is None else f"v{partner}",
            "debt": "–" if debt is None else f"{debt:.3f}",
        }


def _at(values: Sequence[_Value], place: int) -> _Value | None:
    return values[place] if place < len(values) else None


def _stamp(window: Window) -> str:
    return f"{window.start:%Y%m%dT%H%M%S}Z_{window.end:%Y%m%dT%H%M%S}Z"


def _page(
    template: str, path: Path, figure: Figure, *, more: dict[str, Figure] | None = None, **values: object
) -> None:
    write_page(template, path, figure, more=more, filters={"shown": shown}, span=_span, **values)


def _span(start: datetime, end: datetime) -> str:
    """Return the dates as one reads them, saying no month or year twice."""
    if (start.year, start.month) == (end.year, end.month):
        return f"{start.day} – {end.day} {end:%b %Y}"
    if start.year == end.year:
        return f"{start.day} {start:%b} – {end.day} {end:%b %Y}"
    return f"{start.day} {start:%b %Y} – {end.day} {end:%b %Y}"
