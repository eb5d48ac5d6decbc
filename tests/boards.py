"""What a store holds after some weeks, for the tests of boards."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy.engine import Engine

from tasks.core.window import Window
from tasks.store import alerts, checks, ledger

T0 = datetime(2026, 10, 5, tzinfo=UTC)
WEEK, DAY = timedelta(days=7), timedelta(days=1)
NOW = T0 + 5 * WEEK
HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(1)>"


def week(number: int) -> Window:
    return Window(T0 + number * WEEK, T0 + (number + 1) * WEEK)


def fill(engine: Engine, *, model: str = "churn", windows: int = 4, text: str = "") -> None:
    """Write what checks, ledger and alerts hold after some weeks; `text` stands wherever one may write."""
    for number in range(windows):
        span, value = week(number), 0.8 - 0.1 * (number % 4 == 1)
        known = {"model": model, "window": span, "version": 1, "run_id": f"run-{number}", "at": span.end}
        checks.record(
            engine, kind="performance", outcome="drift" if value < 0.75 else "ok",
            summary={
                "value": value, "low": value - 0.02, "high": value + 0.02, "promise": 0.8, "limit": 0.76,
                "rows": 400, "metric": text or "roc_auc", "reason": f"roc_auc {value:.2f} {text}",
            },
            **known,
        )  # fmt: skip
        checks.record(
            engine, kind="drift", outcome="ok", summary={"reason": text or "calm", "drifted": [text]}, **known
        )
    at = T0 + windows * WEEK - DAY
    ledger.record(
        engine, model=model, decision_id="first", action="promoted", from_version=None, to_version=1,
        actor="gate", reason=f"no champion {text}", at=T0 - DAY,
    )  # fmt: skip
    alerts.open_incident(
        engine, model=model, cause=f"decay{text}", tier="warning", message=f"below {text}", at=at
    )


def more(engine: Engine, *, model: str = "churn") -> None:
    """Write checks of the kinds that serving gives, as raw rows: their writer is another."""
    summaries: dict[str, dict[str, Any]] = {
        "service": {
            "requests": 900, "rows": 900, "availability": 0.999, "errors_4xx": 3, "errors_5xx": 1, "lost": 0,
            "versions": [{"version": 1, "requests": 900, "p50_ms": 3.1, "p95_ms": 6.2, "p99_ms": 9.3}],
        },
        "labels": {
            "predictions": 400, "labelled": 360, "coverage": 0.9, "delay_p50_s": 9e4, "delay_p95_s": 2e5,
        },
        "budget": {"share": 0.25, "budget": 0.5, "left": 0.5, "windows": 4},
    }  # fmt: skip
    for kind, summary in summaries.items():
        known = {"model": model, "kind": kind, "window": week(3), "version": 1, "outcome": "ok"}
        checks.record(engine, summary=summary, **known)  # type: ignore[arg-type]
