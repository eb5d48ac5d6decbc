"""Flows as the plain functions they are: the same order of the same work, without the Prefect engine."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from prefect import Flow, Task

import flows.detect_drift
import flows.monitor
import flows.promote
import flows.replay
import flows.retrain
import flows.rollback
import flows.score
import flows.scorecard

MODULES = (
    flows.retrain,
    flows.score,
    flows.detect_drift,
    flows.monitor,
    flows.replay,
    flows.promote,
    flows.rollback,
    flows.scorecard,
)


def plainly(monkeypatch: pytest.MonkeyPatch, *, artifacts: list[tuple[str, Any]] | None = None) -> None:
    """Replace every task and flow that the flows call by its own function; artifacts go into a list."""
    import tasks.pages.note
    import tasks.publish

    def keep(*, markdown: str, key: str, description: str) -> None:
        del description
        if artifacts is not None:
            artifacts.append((key, markdown))

    def collect(spec: Any, what: str, markdown: str, description: str, window: Any = None) -> str:
        if artifacts is not None:
            artifacts.append((what, markdown))
        return f"{spec.name}-{what}"

    monkeypatch.setattr(tasks.publish, "_publish", collect)
    monkeypatch.setattr(tasks.pages.note, "create_markdown_artifact", keep)
    for module in MODULES:
        for name, value in vars(module).copy().items():
            if isinstance(value, Task):
                monkeypatch.setattr(module, name, value.fn)
            elif isinstance(value, Flow):
                monkeypatch.setattr(module, name, _plain(value))


def _plain(flow: Flow[..., Any]) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        returned = flow.fn(*args, **kwargs)
        return getattr(returned, "data", returned)

    return call
