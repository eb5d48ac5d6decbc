"""Numbers for Prometheus: requests by outcome, how long answers take, what the log does, who serves."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.holder import Holder
from serving.record import Recorder
from serving.rollout import Rollout
from serving.traffic import Traffic

PREFIX = "/predict/"
GONE = 499
"""Status of a request whose client left before its answer: neither ours to answer nor a failure of ours."""
_SECONDS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)


@dataclass
class _Answered:
    """What is known of a request once it was answered."""

    version: int = 0
    rows: int = 0


# The layer in front makes it, the route fills it: they share no other object for the length of a request.
_answered: ContextVar[_Answered | None] = ContextVar("answered", default=None)


class Metrics:
    """The app's own registry: two apps of one process count apart. `traffic` counts for the store too."""

    def __init__(self, holders: Mapping[str, Holder], traffic: Traffic | None = None):
        self.registry = CollectorRegistry()
        self._holders = holders
        self._traffic = traffic
        self._requests = Counter(
            "evergreen_requests", "Requests to predict, by what came of them.", ("model", "status"),
            registry=self.registry,
        )  # fmt: skip
        self._seconds = Histogram(
            "evergreen_answer_seconds", "From the request to the acknowledged answer.", ("model",),
            buckets=_SECONDS, registry=self.registry,
        )  # fmt: skip
        self._rows = Counter(
            "evergreen_rows", "Rows predicted, by the version that did.", ("model", "version"),
            registry=self.registry,
        )  # fmt: skip
        self.registry.register(_Holders(holders))

    def watch(self, recorder: Recorder) -> None:
        """Tell of this prediction log too."""
        self.registry.register(_Log(recorder))

    def watch_rollouts(self, rollouts: Mapping[str, Rollout]) -> None:
        """Tell of what versions that wait are shown too."""
        self.registry.register(_Rollouts(rollouts))

    def predicted(self, model: str, version: int, rows: int) -> None:
        """Count rows that were predicted and kept, and note which version answered the present request."""
        self._rows.labels(model, str(version)).inc(rows)
        if answered := _answered.get():
            answered.version, answered.rows = version, rows

    def ended(self, model: str, status: int, seconds: float, *, version: int = 0, rows: int = 0) -> None:
        """Count a request; names of models that are not here are one, or anybody could make any number."""
        known = model if model in self._holders else "unknown"
        self._requests.labels(known, str(status)).inc()
        if status < 400:
            self._seconds.labels(known).observe(seconds)
        if self._traffic and model in self._holders:
            self._traffic.count(model, version, status, rows=rows, seconds=seconds)

    def lost(self, rows: Sequence[Mapping[str, Any]]) -> None:  # Any: column values
        """Count rows that were answered and could not be kept."""
        for row in rows:
            if self._traffic:
                self._traffic.lost(row["model"], row["version"], 1)


class Counted:
    """A layer in front of the app that counts every request to predict, also those refused before it."""

    def __init__(self, app: ASGIApp, *, metrics: Metrics):
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass everything on, and note how a request to predict ended."""
        if scope["type"] != "http" or not scope["path"].startswith(PREFIX):
            await self._app(scope, receive, send)
            return
        status, began, answered = 500, time.perf_counter(), _Answered()
        token = _answered.set(answered)

        async def noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, noted)
        except ClientDisconnect:
            status = GONE
            raise
        finally:
            _answered.reset(token)
            self._metrics.ended(
                scope["path"].removeprefix(PREFIX),
                status,
                time.perf_counter() - began,
                version=answered.version,
                rows=answered.rows,
            )


class _Holders(Collector):
    """Which version of each model answers, and whether something keeps a newer one from it."""

    def __init__(self, holders: Mapping[str, Holder]):
        self._holders = holders

    def collect(self) -> Iterable[Metric]:
        version = GaugeMetricFamily("evergreen_served_version", "The version that answers.", labels=["model"])
        trouble = GaugeMetricFamily(
            "evergreen_trouble", "1 where the champion cannot be taken.", labels=["model"]
        )
        partner = GaugeMetricFamily(
            "evergreen_served_partner", "The version that has half the vote beside it.", labels=["model"]
        )
        alone = GaugeMetricFamily(
            "evergreen_partner_trouble", "1 where a partner does not answer that should.", labels=["model"]
        )
        without = CounterMetricFamily(
            "evergreen_partner_failures", "Requests answered without the partner.", labels=["model"]
        )
        swaps = CounterMetricFamily("evergreen_swaps", "Versions taken since the start.", labels=["model"])
        for name, one in self._holders.items():
            if one.current is not None:
                version.add_metric([name], one.current.version)
                if one.current.partner is not None:
                    partner.add_metric([name], one.current.partner.version)
            trouble.add_metric([name], float(bool(one.trouble)))
            alone.add_metric([name], float(bool(one.partner_trouble)))
            without.add_metric([name], one.partner_failures)
            swaps.add_metric([name], one.swaps)
        return [version, partner, trouble, alone, without, swaps]


class _Rollouts(Collector):
    """What a waiting version does with live rows; each count begins with its exposure."""

    def __init__(self, rollouts: Mapping[str, Rollout]):
        self._rollouts = rollouts

    def collect(self) -> Iterable[Metric]:
        told = {
            "failures": "Failures of the canary.",
            "refused": "Requests that only the canary's contract refuses.",
            "shadow_rows": "Rows that the version in the shadow scored.",
            "shadow_dropped": "Rows that it had no time for.",
        }
        found = []
        known = {name: one.described() for name, one in self._rollouts.items()}
        described = {name: one for name, one in known.items() if one is not None and "version" in one}
        for what, meaning in told.items():
            family = GaugeMetricFamily(f"evergreen_exposed_{what}", meaning, labels=["model", "version"])
            for name, one in described.items():
                family.add_metric([name, str(one["version"])], float(one[what]))
            found.append(family)
        return found


class _Log(Collector):
    """What the prediction log has written, in how many commits, and what it could not keep."""

    def __init__(self, recorder: Recorder):
        self._recorder = recorder

    def collect(self) -> Iterable[Metric]:
        one = self._recorder
        return [
            CounterMetricFamily("evergreen_log_rows", "Predictions in the store.", value=one.written),
            CounterMetricFamily("evergreen_log_commits", "Transactions that took.", value=one.commits),
            CounterMetricFamily(
                "evergreen_log_failures", "Requests not kept, and so refused.", value=one.failed
            ),
            CounterMetricFamily("evergreen_log_lost_rows", "Rows answered and not kept.", value=one.lost),
            CounterMetricFamily("evergreen_log_spooled_rows", "Rows that went to disk.", value=one.spooled),
            GaugeMetricFamily(
                "evergreen_log_waiting_rows", "Rows on disk until the store answers.", value=one.on_disk
            ),
            CounterMetricFamily(
                "evergreen_log_damaged_rows", "Rows on disk that the store can never take.", value=one.damaged
            ),
        ]
