"""What a person wants to read next week: report pages that open offline, and artifacts on the run page."""

from __future__ import annotations

import json
import re
import time
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import jinja2
from markupsafe import Markup
from prefect import task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE

from tasks.core.policy.decision import Decision
from tasks.core.replay.backtest_result import Backtest, backtest_sentence
from tasks.core.replay.chart import Figure, backtest_figure, planted_spans, replay_figure
from tasks.core.replay.records import (
    Compared,
    Ended,
    Started,
    comparison_markdown,
    decision_markdown,
    drift_markdown,
    ended_markdown,
    performance_markdown,
)
from tasks.core.replay.summary import Summary, shown
from tasks.core.spec import ModelSpec
from tasks.core.window import Window
from tasks.log import task_logger

if TYPE_CHECKING:
    from tasks.core.data.contract import ContractReport
    from tasks.core.drift.verdict import DriftVerdict
    from tasks.core.evaluation.performance import PerformanceVerdict

TEMPLATES = Path(__file__).parent / "templates"


@task(retries=0, timeout_seconds=120, cache_policy=NO_CACHE)
def publish_replay(summary: Summary, folder: Path) -> Path:
    """Return the path of `report.html`, written with `summary.json` into the folder."""
    return write_report(summary, folder / "report.html")


@task(retries=0, timeout_seconds=120, cache_policy=NO_CACHE)
def publish_backtest(result: Backtest, folder: Path) -> Path:
    """Return the path of `backtest.html`, written with `backtest.json` into the folder."""
    return write_backtest(result, folder / "backtest.html")


@task(retries=2, retry_delay_seconds=2, timeout_seconds=60, cache_policy=NO_CACHE)
def publish_validation(spec: ModelSpec, report: ContractReport, window: Window | None = None) -> str:
    """Return the key of the artifact that says what the contract found."""
    return _publish(spec, "validation", report.to_markdown(), f"contract: {report.outcome}", window)


@task(retries=2, retry_delay_seconds=2, timeout_seconds=60, cache_policy=NO_CACHE)
def publish_comparison(spec: ModelSpec, compared: Compared, window: Window | None = None) -> str:
    """Return the key of the artifact that sets champion and challenger side by side."""
    text = comparison_markdown(spec, compared)
    return _publish(spec, "comparison", text, f"gate: {compared.decision.outcome}", window)


@task(retries=2, retry_delay_seconds=2, timeout_seconds=60, cache_policy=NO_CACHE)
def publish_drift(spec: ModelSpec, verdict: DriftVerdict, window: Window | None = None) -> str:
    """Return the key of the artifact with every measure of every feature."""
    return _publish(spec, "drift", drift_markdown(spec, verdict), f"drift: {verdict.outcome}", window)


@task(retries=2, retry_delay_seconds=2, timeout_seconds=60, cache_policy=NO_CACHE)
def publish_performance(spec: ModelSpec, verdict: PerformanceVerdict, window: Window | None = None) -> str:
    """Return the key of the artifact that sets realised performance beside the champion's promise."""
    text = performance_markdown(spec, verdict)
    return _publish(spec, "performance", text, f"performance: {verdict.outcome}", window)


@task(retries=2, retry_delay_seconds=2, timeout_seconds=60, cache_policy=NO_CACHE)
def publish_decision(spec: ModelSpec, record: Decision | Ended, launched: Started | None = None) -> str:
    """Return the key of the artifact with the policy's decision, or with how an attempt to retrain ended."""
    if isinstance(record, Decision):
        text = decision_markdown(spec, record, outcome=launched.outcome if launched else "")
    else:
        text = ended_markdown(spec, record)
    return _publish(spec, "decision", text, record.sentence())


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


def artifact_key(model: str, what: str) -> str:
    """Return `<model>-<what>` in what Prefect allows of a key: lower-case letters, digits, single dashes.

    Example:
        >>> artifact_key("Churn_v2.EU", "drift")
        'churn-v2-eu-drift'
    """
    return re.sub(r"[^a-z0-9]+", "-", f"{model}-{what}".lower()).strip("-")


def _publish(
    spec: ModelSpec, what: str, markdown: str, description: str, window: Window | None = None
) -> str:
    started = time.monotonic()
    key = artifact_key(spec.name, what)
    told = f"{description}, window {window}" if window else description
    create_markdown_artifact(markdown=markdown, key=key, description=told[:1000])
    task_logger(__name__).info("%s: artifact %s in %.1f s", spec.name, key, time.monotonic() - started)
    return key


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
