"""Numbers for Prometheus: requests by outcome, how long answers take, what the log does, who serves."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.holder import Holder
from serving.record import Recorder

PREFIX = "/predict/"
_SECONDS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)


class Metrics:
    """The app's own registry: two apps of one process count apart."""

    def __init__(self, holders: Mapping[str, Holder]):
        self.registry = CollectorRegistry()
        self._holders = holders
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

    def predicted(self, model: str, version: int, rows: int) -> None:
        """Count rows that were predicted and kept."""
        self._rows.labels(model, str(version)).inc(rows)

    def ended(self, model: str, status: int, seconds: float) -> None:
        """Count a request; names of models that are not here are one, or anybody could make any number."""
        known = model if model in self._holders else "unknown"
        self._requests.labels(known, str(status)).inc()
        if status < 400:
            self._seconds.labels(known).observe(seconds)


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
        status, began = 500, time.perf_counter()

        async def noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, noted)
        finally:
            model = scope["path"].removeprefix(PREFIX)
            self._metrics.ended(model, status, time.perf_counter() - began)


class _Holders(Collector):
    """Which version of each model answers, and whether something keeps a newer one from it."""

    def __init__(self, holders: Mapping[str, Holder]):
        self._holders = holders

    def collect(self) -> Iterable[Metric]:
        version = GaugeMetricFamily("evergreen_served_version", "The version that answers.", labels=["model"])
        trouble = GaugeMetricFamily(
            "evergreen_trouble", "1 where the champion cannot be taken.", labels=["model"]
        )
        swaps = CounterMetricFamily("evergreen_swaps", "Versions taken since the start.", labels=["model"])
        for name, one in self._holders.items():
            if one.current is not None:
                version.add_metric([name], one.current.version)
            trouble.add_metric([name], float(bool(one.trouble)))
            swaps.add_metric([name], one.swaps)
        return [version, trouble, swaps]


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
        ]
