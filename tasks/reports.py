"""Report pages that open offline: one HTML file each, with the numbers beside it as JSON."""

from __future__ import annotations

import time
from datetime import datetime
from pathlib import Path

from prefect import task
from prefect.cache_policies import NO_CACHE

from tasks.core.replay.backtest_result import Backtest, backtest_sentence
from tasks.core.replay.chart import Figure, backtest_figure, planted_spans, replay_figure
from tasks.core.replay.summary import Summary, shown
from tasks.log import task_logger
from tasks.pages.page import write_json, write_page


@task(retries=0, timeout_seconds=120, cache_policy=NO_CACHE)
def publish_replay(summary: Summary, folder: Path) -> Path:
    """Return the path of `report.html`, written with `summary.json` into the folder."""
    return write_report(summary, folder / "report.html")


@task(retries=0, timeout_seconds=120, cache_policy=NO_CACHE)
def publish_backtest(result: Backtest, folder: Path) -> Path:
    """Return the path of `backtest.html`, written with `backtest.json` into the folder."""
    return write_backtest(result, folder / "backtest.html")


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


def write_backtest(result: Backtest, path: Path) -> Path:
    """Return the path of the backtest's page, with `backtest.json` beside it."""
    started, lead = time.monotonic(), backtest_sentence(result)
    _page("backtest.html.j2", path, backtest_figure(result), result=result, lead=lead)
    write_json(path.with_name("backtest.json"), result.to_json())
    task_logger(__name__).info(
        "%s: backtest of %d policies in %.1f s: %s",
        result.model, len(result.policies), time.monotonic() - started, path.name,
    )  # fmt: skip
    return path


def _page(template: str, path: Path, figure: Figure, **values: object) -> None:
    write_page(template, path, figure, filters={"shown": shown}, span=_span, **values)


def _span(start: datetime, end: datetime) -> str:
    """Return the dates as one reads them, saying no month or year twice."""
    if (start.year, start.month) == (end.year, end.month):
        return f"{start.day} – {end.day} {end:%b %Y}"
    if start.year == end.year:
        return f"{start.day} {start:%b} – {end.day} {end:%b %Y}"
    return f"{start.day} {start:%b %Y} – {end.day} {end:%b %Y}"
