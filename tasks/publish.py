"""What a person wants on the run page: artifacts that say what was found, decided and done."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.settings import PREFECT_API_URL, PREFECT_UI_URL
from prefect.utilities.urls import url_for

from tasks.core.policy.decision import Decision
from tasks.core.records.comparison import Compared, comparison_markdown
from tasks.core.records.decision import Ended, decision_markdown, ended_markdown
from tasks.core.records.drift import drift_markdown
from tasks.core.records.drift_words import class_names
from tasks.core.records.performance import performance_markdown
from tasks.core.spec import ModelSpec
from tasks.core.window import Window
from tasks.log import task_logger
from tasks.pages.note import note

if TYPE_CHECKING:
    from tasks.core.data.contract import ContractReport
    from tasks.core.drift.results import DriftVerdict
    from tasks.core.evaluation.performance import PerformanceVerdict


class Started(Protocol):
    """What became of the launch that a decision asked for."""

    @property
    def outcome(self) -> str:
        """How the retraining ended, or where it stands."""
        ...

    @property
    def run_id(self) -> str | None:
        """Its flow run; None where that is not known."""
        ...

    @property
    def link(self) -> str | None:
        """The page of the run or event, where there is one."""
        ...


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
def publish_drift(
    spec: ModelSpec,
    verdict: DriftVerdict,
    window: Window | None = None,
    *,
    report: str = "",
    classes: Sequence[object] | None = None,
) -> str:
    """Return the key of the artifact with the verdict in words and numbers; `report` is where its page is.

    `classes` are the champion's labels, in the order of its probabilities.
    """
    with class_names(classes):
        text = drift_markdown(spec, verdict, window, report=report)
    return _publish(spec, "drift", text, f"drift: {verdict.outcome}", window)


@task(retries=2, retry_delay_seconds=2, timeout_seconds=60, cache_policy=NO_CACHE)
def publish_performance(spec: ModelSpec, verdict: PerformanceVerdict, window: Window | None = None) -> str:
    """Return the key of the artifact that sets realised performance beside the champion's promise."""
    text = performance_markdown(spec, verdict)
    return _publish(spec, "performance", text, f"performance: {verdict.outcome}", window)


@task(retries=2, retry_delay_seconds=2, timeout_seconds=60, cache_policy=NO_CACHE)
def publish_decision(
    spec: ModelSpec,
    record: Decision | Ended,
    launched: Started | None = None,
    *,
    because: Mapping[str, Any] | None = None,  # Any: JSON
) -> str:
    """Return the key of the artifact with the policy's decision, or with how an attempt to retrain ended.

    A decision links to the retraining it `launched`; the end of an attempt to the check run that asked for
    it, which `because`, the decision as `begin_attempt` found it on record, names in `caused_by`.
    """
    if isinstance(record, Decision):
        page = run_page(launched.run_id) or launched.link or "" if launched else ""
        text = decision_markdown(spec, record, outcome=launched.outcome if launched else "", page=page)
    else:
        page = run_page((because or {}).get("caused_by"))
        text = ended_markdown(spec, record, because=because, page=page)
    return _publish(spec, "decision", text, record.sentence())


def run_page(run_id: str | None) -> str:
    """Return the address of a flow run's page as an artifact should hold it; empty without a run.

    A path where the page and the artifact are of one server, because the address under which a worker
    reaches the server (`http://server:4200`) is often not the one under which a person does. The whole
    address where somebody set PREFECT_UI_URL, and on Prefect Cloud, whose paths name a workspace.
    """
    if not run_id:
        return ""
    api, known = str(PREFECT_API_URL.value() or ""), str(PREFECT_UI_URL.value() or "")
    whole = (
        url_for("flow-run", obj_id=run_id) if known and known.rstrip("/") != api.removesuffix("/api") else ""
    )
    return whole or f"/runs/flow-run/{run_id}"


def _publish(
    spec: ModelSpec, what: str, markdown: str, description: str, window: Window | None = None
) -> str:
    started = time.monotonic()
    key = note(spec.name, what, markdown, f"{description}, window {window}" if window else description)
    task_logger(__name__).info("%s: artifact %s in %.1f s", spec.name, key, time.monotonic() - started)
    return key
