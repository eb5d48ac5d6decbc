"""Whether the app answered as many requests, and as quickly, as was promised."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from tasks.core.evaluation.bootstrap import Interval
from tasks.core.evaluation.intervals import share_interval
from tasks.core.health.burn import Burn, Burning
from tasks.core.health.latency import NOT_MEASURED, Latency
from tasks.core.spec_serving import Slo

Outcome = Literal["ok", "warn", "drift", "undecided"]
CONFIDENCE = 0.95
SLOWEST = 0.01  # share of requests that P99 leaves beyond it
_RANK = {"undecided": 0, "ok": 1, "warn": 2, "drift": 3}


@dataclass(frozen=True)
class Counted:
    """Requests of one version, 0 where none answered, by how they ended; `rows` were predicted."""

    requests: int = 0
    rows: int = 0
    errors_4xx: int = 0
    errors_5xx: int = 0
    lost: int = 0

    def __add__(self, other: Counted) -> Counted:
        return Counted(
            self.requests + other.requests,
            self.rows + other.rows,
            self.errors_4xx + other.errors_4xx,
            self.errors_5xx + other.errors_5xx,
            self.lost + other.lost,
        )


@dataclass(frozen=True)
class VersionService:
    """How one version served; `per_second` is its mean throughput in requests over the whole window."""

    version: int
    counted: Counted
    latency: Latency
    per_second: float


@dataclass(frozen=True)
class ServiceVerdict:
    """How the app served a model in one window.

    `drift` where less was answered than promised, or more slowly, beyond chance, or where a burn rule fires;
    `warn` where chance may explain it or answered rows were not kept. With too few requests in the window the
    longer ones of the burn rules speak, so that an incident of a quiet model can end; `undecided` where those
    had too few as well.
    Availability is taken over requests that were well-formed: a 4xx is the caller's. Its interval takes
    requests as independent, which those of one outage are not: the burn is what tells outages.
    """

    outcome: Outcome
    reason: str
    total: Counted
    availability: Interval
    slow: Interval
    latency: Latency
    versions: tuple[VersionService, ...] = ()
    burns: tuple[Burn, ...] = ()
    slo: Slo = field(default_factory=Slo)
    seconds: float = 0.0

    @property
    def firing(self) -> Burn | None:
        """The loudest burn rule that fires."""
        return Burning(self.burns).firing

    def sentence(self) -> str:
        """Return the verdict in one sentence."""
        return f"service {self.outcome}: {self.reason}"

    def summary(self) -> dict[str, Any]:  # Any: JSON
        """Return the verdict as JSON values; what could not be told is None."""
        shown, found = self.total, self.availability
        return {
            "reason": self.reason,
            "requests": shown.requests,
            "rows": shown.rows,
            "per_second": shown.requests / self.seconds if self.seconds else None,
            "availability": found.value if found.is_known else None,
            "availability_low": found.low if found.is_known else None,
            "availability_high": found.high if found.is_known else None,
            "errors_4xx": shown.errors_4xx,
            "errors_5xx": shown.errors_5xx,
            "lost": shown.lost,
            **_latency(self.latency),
            "versions": [_version(one) for one in self.versions],
            "burn": [
                {"tier": burn.tier, "hours": burn.window.total_seconds() / 3600, "long": burn.long,
                 "short": burn.short, "limit": burn.limit, "fires": burn.fires}
                for burn in self.burns
            ],
            "slo": {"availability": self.slo.availability, "p99_ms": self.slo.p99_ms},
        }  # fmt: skip


def judge_service(
    counted: Mapping[int, Counted],
    latencies: Mapping[int, Latency],
    slo: Slo,
    *,
    together: Latency = NOT_MEASURED,
    burns: tuple[Burn, ...] = (),
    seconds: float,
) -> ServiceVerdict:
    """Return the verdict on one window.

    Args:
        counted: By version, what became of its requests; 0 for those that no version answered.
        latencies: By version.
        slo: What was promised.
        together: Latency over all versions.
        burns: What the burn rules say at the end of the window.
        seconds: Length of the window.
    """
    total = sum(counted.values(), Counted())
    had_to = total.requests - total.errors_4xx
    available = share_interval(had_to - total.errors_5xx, had_to, CONFIDENCE)
    slow = share_interval(together.slow, together.requests, CONFIDENCE)
    said = [
        _available(available, had_to, slo),
        _quick(slow, together, slo),
        *_burning(Burning(burns), is_thin=0 < had_to < slo.min_requests),
        *((("warn", f"{total.lost:,} answered rows were not kept"),) if total.lost else ()),
    ]
    outcome = max((one for one, _ in said), key=lambda one: _RANK[one])
    shown = [why for one, why in said if why and (one == outcome or one in {"warn", "drift"})]
    versions = tuple(
        VersionService(
            number,
            counted.get(number, Counted()),
            latencies.get(number, NOT_MEASURED),
            counted.get(number, Counted()).requests / seconds,
        )
        for number in sorted({*counted, *latencies})
    )
    return ServiceVerdict(
        outcome=outcome,
        reason="; ".join(shown),
        total=total,
        availability=available,
        slow=slow,
        latency=together,
        versions=versions,
        burns=burns,
        slo=slo,
        seconds=seconds,
    )


def _available(found: Interval, requests: int, slo: Slo) -> tuple[str, str]:
    if not requests:
        return "undecided", "no requests were counted"
    shown = f"{found.value:.3%} of {requests:,} requests answered, {slo.availability:.3%} are promised"
    if requests < slo.min_requests:
        return "undecided", f"{requests} requests, {slo.min_requests} are needed for a verdict"
    if found.high < slo.availability:
        return "drift", f"{shown}: too few, beyond chance"
    if found.value < slo.availability:
        return "warn", f"{shown}: too few, which chance does not rule out"
    return "ok", shown


def _quick(slow: Interval, latency: Latency, slo: Slo) -> tuple[str, str]:
    if slo.p99_ms is None or latency.p99_ms is None or latency.requests < slo.min_requests:
        return "undecided", ""
    shown = f"P99 {latency.p99_ms:.3g} ms, {slo.p99_ms:g} ms are promised"
    if slow.low > SLOWEST:
        return "drift", f"{shown}: too slow, beyond chance"
    if latency.p99_ms > slo.p99_ms:
        return "warn", f"{shown}: too slow, which chance does not rule out"
    return "ok", shown


def _burning(burning: Burning, *, is_thin: bool) -> tuple[tuple[str, str], ...]:
    """Return the vote of the burn rules: against the service where one fires, else only on thin traffic."""
    if burning.firing:
        return (("drift", burning.firing.sentence()),)
    if not is_thin or burning.told is None:
        return ()
    told = burning.told
    # Much was lost in the long window, and nothing more in the short one.
    return (("warn", f"{told.sentence()}, and not any more") if told.long > told.limit
            else ("ok", burning.sentence()),)  # fmt: skip


def _version(one: VersionService) -> dict[str, Any]:  # Any: JSON
    count = one.counted
    return {
        "version": one.version,
        "requests": count.requests,
        "rows": count.rows,
        "errors_4xx": count.errors_4xx,
        "errors_5xx": count.errors_5xx,
        "lost": count.lost,
        "per_second": one.per_second,
        **_latency(one.latency),
    }


def _latency(one: Latency) -> dict[str, Any]:  # Any: JSON
    return {"p50_ms": one.p50_ms, "p95_ms": one.p95_ms, "p99_ms": one.p99_ms, "exact": one.exact}
