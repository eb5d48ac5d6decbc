"""A model's health on the run's page: the diagnosis, then what stands behind it."""

from __future__ import annotations

from datetime import timedelta
from typing import Protocol

from tasks.core.health.alarms import Health
from tasks.core.health.service import ServiceVerdict
from tasks.core.health.slices import SlicesVerdict
from tasks.core.health.staleness import Freshness
from tasks.core.records.text import number, said, table, title
from tasks.core.spec import ModelSpec


class Part(Protocol):
    """One part of a model's health."""

    @property
    def outcome(self) -> str:
        """One of ok, warn, drift and undecided."""
        ...

    @property
    def reason(self) -> str:
        """Why."""
        ...


def health_markdown(spec: ModelSpec, health: Health) -> str:
    """Return the page: what is wrong, then service, predictions, groups, budget, and what is overdue."""
    parts: tuple[Part, ...] = (
        health.service,
        health.predictions,
        health.slices,
        health.budget,
        health.freshness,
    )
    lines = [title(spec, health.diagnosis.kind), "", said(health.diagnosis.why), ""]
    told = [(name, part.outcome, part.reason) for name, part in zip(_NAMES, parts, strict=True)]
    told.insert(1, ("burn", health.burning.outcome, health.burning.sentence()))
    lines += table(("", "outcome", "why"), told)
    lines += [*_service(health.service), *_slices(health.slices), *_freshness(health.freshness)]
    return "\n".join(lines)


_NAMES = ("service", "predictions", "groups", "error budget", "freshness")


def _service(verdict: ServiceVerdict) -> list[str]:
    if not verdict.versions:
        return []
    head = ("version", "requests", "rows", "4xx", "5xx", "not kept", "P50 ms", "P95 ms", "P99 ms")
    rows = [
        (
            one.version or "none",
            *(f"{count:,}" for count in (one.counted.requests, one.counted.rows)),
            *(f"{count:,}" for count in (one.counted.errors_4xx, one.counted.errors_5xx, one.counted.lost)),
            *(number(took) for took in (one.latency.p50_ms, one.latency.p95_ms, one.latency.p99_ms)),
        )
        for one in verdict.versions
    ]
    return ["", "### Service", "", *table(head, rows)]


def _slices(verdict: SlicesVerdict) -> list[str]:
    lines = []
    if verdict.slices:
        rows = [
            (f"{one.column} = {one.value}", f"{one.rows:,}", number(one.score),
             f"{number(one.low)} to {number(one.high)}", number(one.usual), one.outcome)
            for one in verdict.slices
        ]  # fmt: skip
        head = ("group", "labelled", "score", "interval", "usually", "outcome")
        lines += ["", "### Groups", "", *table(head, rows)]
    if verdict.calibration:
        lines += ["", "### Calibration", "", said(verdict.calibration.sentence())]
    return lines


def _freshness(verdict: Freshness) -> list[str]:
    rows = [
        (one.what, f"{one.newest:%Y-%m-%d %H:%M}" if one.newest else "never", one.limit // timedelta(hours=1),
         "overdue" if one.is_stale else "")
        for one in verdict.looked
        if not one.is_forgotten
    ]  # fmt: skip
    head = ("what", "last", "hours that may pass", "")
    return ["", "### Freshness", "", *table(head, rows)] if rows else []
