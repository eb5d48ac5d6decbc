"""Report pages that open offline: one HTML file each, with the numbers beside it as JSON."""

from __future__ import annotations

import json
import time
from datetime import datetime
from pathlib import Path

import jinja2
from markupsafe import Markup
from prefect import task
from prefect.cache_policies import NO_CACHE

from tasks.core.replay.backtest_result import Backtest, backtest_sentence
from tasks.core.replay.chart import Figure, backtest_figure, planted_spans, replay_figure
from tasks.core.replay.summary import Summary, shown
from tasks.log import task_logger

TEMPLATES = Path(__file__).parent / "templates"


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
    _write_page("report.html.j2", path, replay_figure(summary), summary=summary, spans=spans)
    _write_json(path.with_name("summary.json"), summary.to_json())
    task_logger(__name__).info(
        "%s: report of %d windows in %.1f s: %s",
        summary.model, len(summary.windows), time.monotonic() - started, path.name,
    )  # fmt: skip
    return path


def write_backtest(result: Backtest, path: Path) -> Path:
    """Return the path of the backtest's page, with `backtest.json` beside it."""
    started, lead = time.monotonic(), backtest_sentence(result)
    _write_page("backtest.html.j2", path, backtest_figure(result), result=result, lead=lead)
    _write_json(path.with_name("backtest.json"), result.to_json())
    task_logger(__name__).info(
        "%s: backtest of %d policies in %.1f s: %s",
        result.model, len(result.policies), time.monotonic() - started, path.name,
    )  # fmt: skip
    return path


def _write_page(template: str, path: Path, figure: Figure, **values: object) -> None:
    from plotly.offline import get_plotlyjs

    pages = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES), autoescape=True, undefined=jinja2.StrictUndefined
    )
    pages.filters["shown"] = shown
    pages.globals["span"] = _span
    # Our own style sheet and plotly's script; everything else on the page is escaped.
    css = Markup((TEMPLATES / "page.css").read_text(encoding="utf-8"))  # noqa: S704
    script = Markup(get_plotlyjs())  # noqa: S704
    _write(path, pages.get_template(template).render(figure=figure, css=css, plotly=script, **values))


def _write_json(path: Path, content: dict[str, object]) -> None:
    _write(path, json.dumps(content, indent=1, allow_nan=False) + "\n")


def _write(path: Path, text: str) -> None:
    """Write the file whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    part.write_text(text, encoding="utf-8")
    part.replace(path)


def _span(start: datetime, end: datetime) -> str:
    """Return the dates as one reads them, saying no month or year twice."""
    if (start.year, start.month) == (end.year, end.month):
        return f"{start.day} – {end.day} {end:%b %Y}"
    if start.year == end.year:
        return f"{start.day} {start:%b} – {end.day} {end:%b %Y}"
    return f"{start.day} {start:%b %Y} – {end.day} {end:%b %Y}"
