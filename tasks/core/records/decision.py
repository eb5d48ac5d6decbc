"""Decisions, and how the attempts they caused ended, each with the way to the other."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Protocol

from tasks.core.policy.decision import Decision
from tasks.core.records.text import bullets, code, fenced, folded, link, said, title
from tasks.core.spec import ModelSpec


class Ended(Protocol):
    """How an attempt to retrain ended."""

    @property
    def action(self) -> str:
        """Promoted, kept, skipped, blocked and the like."""
        ...

    @property
    def attempt(self) -> str:
        """The id under which the attempt was claimed."""
        ...

    def sentence(self) -> str:
        """The end as one line."""
        ...


def decision_markdown(spec: ModelSpec, decision: Decision, *, outcome: str = "", page: str = "") -> str:
    """Return the decision record: what, why, what became of the retraining, and the evidence as JSON.

    Args:
        spec: The model.
        decision: What the policy concluded.
        outcome: How a launched retraining ended or where it stands.
        page: Address of the retraining's run.
    """
    lines = [title(spec, f"{decision.kind} ({decision.cause})"), "", *bullets(decision.reasons), ""]
    if outcome:
        text = f"{link('The retraining it asked for', page)}: **{said(outcome)}**."
        asked = f" It is among the runs of {code(f'retrain/{spec.name}')}." if outcome == "asked" else ""
        lines += [text + asked, ""]
    if decision.escalate:
        lines += ["**A person must look:** the loop cannot help itself here.", ""]
    evidence = json.dumps(decision.evidence, indent=1, default=str)
    return "\n".join([*lines, f"id {code(decision.id)}", "", *_evidence(evidence)])


def ended_markdown(
    spec: ModelSpec,
    ended: Ended,
    *,
    because: Mapping[str, Any] | None = None,  # Any: JSON, the decision as recorded
    page: str = "",
) -> str:
    """Return how an attempt to retrain ended and why it was made; `page` is the check that asked for it."""
    lines = [title(spec, ended.action), "", said(ended.sentence()), ""]
    if because:
        asked = link("this check", page) if page else "a person or a schedule"
        when = f" on {_moment(because['decided_at'])}" if because.get("decided_at") else ""
        lines += [f"Asked for by {asked}{when}: {said(because.get('cause') or 'no cause named')}.", ""]
        lines += [*bullets(because.get("reasons") or ()), ""]
    return "\n".join([*lines, f"attempt {code(ended.attempt)}"])


def _moment(text: str) -> str:
    return f"{datetime.fromisoformat(text):%Y-%m-%d %H:%M} UTC"


def _evidence(text: str) -> list[str]:
    return folded("The evidence it rests on", fenced(text, "json"))
