"""What a replay came to: one result per window, the totals, and the sentences a person reads first."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

Verdict = Literal["ok", "warn", "drift", "undecided"]
Outcome = Literal["", "promoted", "kept", "refused", "waiting", "skipped", "blocked", "failed"]

TRAINED = frozenset({"promoted", "kept", "refused", "waiting"})


@dataclass(frozen=True)
class WindowResult:
    """What happened in one served window.

    `score` is the realised metric of what served, the version alone or its mean with `partner`, in
    scikit-learn's convention (higher is better), None where it could not be told; `never_score` is that of
    the first model on the same rows.
    `outcome` is how a launched retraining ended, "blocked" when the data was not fit to train on, "" when
    nothing was launched. `planted` names what a simulation put into this window, where the truth is known.
    """

    start: datetime
    end: datetime
    rows: int
    score: float | None
    version: int | None
    verdict: Verdict
    decision: Literal["SKIP", "TRAIN", "BLOCK"]
    drift: Verdict = "undecided"
    performance: Verdict = "undecided"
    events: tuple[str, ...] = ()
    never_score: float | None = None
    outcome: Outcome = ""
    cause: str = ""
    drifted: tuple[str, ...] = ()
    planted: str = ""
    planted_note: str = ""
    harmful: bool = False
    partner: int | None = None

    @property
    def blocked(self) -> bool:
        """Whether bad data stopped the loop here."""
        return self.decision == "BLOCK" or self.outcome == "blocked"


@dataclass(frozen=True)
class Summary:
    """A replay: the model, how long it took, and its windows, oldest first.

    The training of the first version is not counted as a retraining.
    """

    model: str
    seconds: float
    windows: tuple[WindowResult, ...] = field(default_factory=tuple)
    metric: str = "score"

    @property
    def retrainings(self) -> int:
        """How often a challenger was trained."""
        return sum(window.outcome in TRAINED for window in self.windows)

    @property
    def promoted(self) -> int:
        """How often a challenger became champion."""
        return sum(window.outcome == "promoted" for window in self.windows)

    @property
    def kept(self) -> int:
        """How often the champion stayed after a retraining, because the gate said so."""
        return sum(window.outcome in TRAINED - {"promoted"} for window in self.windows)

    @property
    def blocked(self) -> int:
        """In how many windows bad data stopped the loop."""
        return sum(window.blocked for window in self.windows)

    @property
    def mean_score(self) -> float | None:
        """Mean score of the windows that have one; None when none has."""
        return mean([window.score for window in self.windows])

    @property
    def never_mean_score(self) -> float | None:
        """Mean score of the first model, never retrained, over the windows that have one."""
        return mean([window.never_score for window in self.windows])

    def after_first(self) -> tuple[WindowResult, ...]:
        """Return the windows after the first promotion: where loop and first model differ."""
        for index, window in enumerate(self.windows):
            if window.outcome == "promoted":
                return self.windows[index + 1 :]
        return ()

    def sentences(self) -> list[str]:
        """Return the replay in plain language: what was held, what was done, what was stopped."""
        if not self.windows:
            return [f"No window of {self.model} was served, so there is nothing to say yet."]
        first, last = self.windows[0].start, self.windows[-1].end
        said = [
            f"From {_day(first)} to {_day(last)} the loop served {plural(len(self.windows), 'window')} of "
            f"{self.model} and held a mean {self.metric} of {shown(self.mean_score)}. The first model, never "
            f"retrained, would have held {shown(self.never_mean_score)}."
        ]
        later = self.after_first()
        if later:
            loop, never = mean([w.score for w in later]), mean([w.never_score for w in later])
            said.append(
                f"In the {plural(len(later), 'window')} after the first promotion the two stand at "
                f"{shown(loop)} and {shown(never)}."
            )
        if self.retrainings:
            said.append(
                f"It retrained {plural(self.retrainings, 'time')}: {self.promoted} promoted, "
                f"{self.kept} kept back by the gate."
            )
        else:
            said.append("It never retrained.")
        if self.blocked:
            said.append(
                f"In {plural(self.blocked, 'window')} the data could not be trusted, and nothing was trained "
                "on it."
            )
        return said

    def to_json(self) -> dict[str, Any]:  # Any: a JSON tree
        """Return the content of `summary.json`; a number that could not be told is null."""
        return {
            "model": self.model,
            "seconds": round(self.seconds, 1),
            "retrainings": self.retrainings,
            "promoted": self.promoted,
            "kept": self.kept,
            "blocked": self.blocked,
            "mean_score": rounded(self.mean_score),
            "never_mean_score": rounded(self.never_mean_score),
            "windows": [_window_json(window) for window in self.windows],
        }


def mean(values: Sequence[float | None]) -> float | None:
    """Return the mean of the values that could be told; None when there is none.

    Example:
        >>> mean([0.8, None, 0.6, float("nan")])
        0.7
    """
    known = [value for value in values if value is not None and math.isfinite(value)]
    return math.fsum(known) / len(known) if known else None


def rounded(value: float | None) -> float | None:
    """Return the value with six digits; None for what JSON cannot hold.

    Example:
        >>> rounded(0.12345678), rounded(float("nan"))
        (0.123457, None)
    """
    return None if value is None or not math.isfinite(value) else round(value, 6)


def shown(value: float | None) -> str:
    """Return the value as a person reads it, or a dash for what could not be told.

    Example:
        >>> shown(0.81249), shown(None)
        ('0.812', '–')
    """
    return "–" if value is None or not math.isfinite(value) else f"{value:.3f}"


def plural(count: int, noun: str) -> str:
    """Return the count with its noun.

    Example:
        >>> plural(1, "window"), plural(3, "window")
        ('1 window', '3 windows')
    """
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _day(moment: datetime) -> str:
    return f"{moment.day} {moment:%B %Y}"


def _window_json(window: WindowResult) -> dict[str, Any]:  # Any: a JSON tree
    return {
        "start": window.start.isoformat(),
        "end": window.end.isoformat(),
        "rows": window.rows,
        "score": rounded(window.score),
        "version": window.version,
        "partner": window.partner,
        "verdict": window.verdict,
        "decision": window.decision,
        "never_score": rounded(window.never_score),
        "drift": window.drift,
        "performance": window.performance,
        "outcome": window.outcome,
        "cause": window.cause,
        "drifted": list(window.drifted),
        "events": list(window.events),
        "planted": window.planted,
        "harmful": window.harmful,
    }
