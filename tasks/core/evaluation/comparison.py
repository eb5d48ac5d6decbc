"""Every champion that is kept, scored on the newest labelled window: losses for the debt, and a partner."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tasks.core.evaluation.champions import SecondOpinion, choose_partner, money_loss
from tasks.core.evaluation.clusters import cluster_codes, clustered_difference
from tasks.core.evaluation.scoring import Scored
from tasks.core.model.labels import labels_of
from tasks.core.model.pipeline import predict
from tasks.core.model.second_opinion import can_combine
from tasks.core.policy.staleness import VersionLoss, WindowLosses
from tasks.core.spec import ModelSpec
from tasks.core.window import Window

MAX_ROWS = 50_000
"""Most rows of a window that the champions are compared on, evenly spaced in time. Our choice: the standard
error of a difference of losses is then far below a hundredth of the loss."""


@dataclass(frozen=True)
class FormerChampion:
    """A version that serves or served: its model, and up to when it has learnt."""

    number: int
    model: Any  # Any: a fitted pipeline
    learnt_until: datetime


@dataclass(frozen=True)
class ComparedChampions:
    """What became of one window; `losses` is None where nothing could be measured."""

    window: Window
    opinion: SecondOpinion
    losses: WindowLosses | None

    @property
    def outcome(self) -> Literal["ok", "warn", "undecided"]:
        """Return warn where an earlier champion was ahead, undecided where the window could not tell."""
        if not self.opinion.decided:
            return "undecided"
        return "ok" if self.opinion.partner is None else "warn"

    @property
    def reason(self) -> str:
        """Return the comparison in words."""
        return self.opinion.reason

    def summary(self) -> dict[str, Any]:  # Any: JSON
        """Return the comparison as JSON values."""
        return {
            "reason": self.opinion.reason,
            "rows": self.opinion.rows,
            "partner": self.opinion.partner,
            "losses": self.losses.summary() if self.losses else None,
        }


def compare_champions(
    champions: Mapping[int, FormerChampion],
    newest: int,
    rows: pd.DataFrame,
    spec: ModelSpec,
    window: Window,
    *,
    as_of: datetime,
    withdrawn: Collection[int] = (),
) -> ComparedChampions:
    """Return what each champion loses on these rows, and which should answer beside the newest.

    Champions that have learnt a row of the window are left out; so is one that cannot answer these rows, as
    after a feature was renamed. With `serving.second_opinion: off` losses are measured and no partner chosen.

    Args:
        champions: By version number; all of them have served.
        newest: The champion.
        rows: Labelled rows of the window with the features, by rising time.
        spec: The model.
        window: When the rows happened.
        as_of: The moment it counts as measured.
        withdrawn: Versions that may not be the partner.
    """
    rows = _spaced(rows)
    unseen = {
        number: champion for number, champion in champions.items() if champion.learnt_until <= window.start
    }
    truth = labels_of(rows, spec) if len(rows) else np.empty(0)
    answers = {}
    for number, champion in unseen.items():
        try:
            answers[number] = predict(champion.model, rows)
        except Exception:  # noqa: S112 - of whatever kind: a model made for other columns is left out
            continue
    scored = {
        number: Scored(truth, found.prediction, found.probabilities, found.classes)
        for number, found in answers.items()
    }
    is_asked = spec.serving.second_opinion == "auto" and newest in answers
    opinion = choose_partner(
        scored,
        newest,
        spec.metric,
        _entities(rows, spec),
        min_rows=spec.performance.min_rows,
        excluded=withdrawn,
        combinable=[number for number in answers if can_combine(answers[newest], answers[number])]
        if is_asked
        else (),
    )
    if not opinion.decided:
        return ComparedChampions(window, opinion, None)
    values = spec.gate.value.outcomes
    losses = WindowLosses(
        window=window,
        at=as_of,
        champion=newest,
        losses=tuple(
            VersionLoss(number, loss, (window.start - unseen[number].learnt_until) / window.length)
            for number, loss in sorted(opinion.losses.items())
        ),
        money=money_loss(scored[newest], values) if values else None,
    )
    return ComparedChampions(window, opinion, losses)


def shown_better(earlier: Scored, later: Scored, spec: ModelSpec, codes: NDArray[Any]) -> bool:
    """Return whether the earlier version is shown to be better than the later one on the same rows.

    Both are scored in the model's metric, at `performance.confidence`, with rows in clusters. False where it
    cannot be told: too few rows (`gate.min_rows`), or one class.

    Args:
        earlier: Answers of the version that served before.
        later: Answers of the one that serves, to the same rows in the same order.
        spec: The model.
        codes: The cluster of each row, integers; see `clusters.cluster_codes`.
    """
    if len(codes) < spec.gate.min_rows:
        return False
    try:
        found = clustered_difference(earlier, later, spec.metric, codes, positive=spec.label.positive)
    except ValueError:  # the metric has no meaning for these answers
        return False
    return found.value > 0 and found.p_better >= spec.performance.confidence


def row_clusters(rows: pd.DataFrame, spec: ModelSpec) -> NDArray[np.intp]:
    """Return the cluster of every row: its entity where the spec names one, else its block of time."""
    group = spec.source.group
    return cluster_codes(rows[spec.source.timestamp], None if group is None else rows[group])


def _entities(rows: pd.DataFrame, spec: ModelSpec) -> NDArray[np.intp]:
    """Return the cluster of every row: its entity, or the row itself where the spec names no entity.

    Neighbours in time are not put together here: a state that lasts for part of the window is what the second
    opinion has to follow, not an error of its measurement.
    """
    if spec.source.group is None:
        return np.arange(len(rows), dtype=np.intp)
    return cluster_codes(rows[spec.source.timestamp], rows[spec.source.group])


def _spaced(rows: pd.DataFrame) -> pd.DataFrame:
    if len(rows) <= MAX_ROWS:
        return rows
    return rows.iloc[np.linspace(0, len(rows) - 1, MAX_ROWS).round().astype(int)]
