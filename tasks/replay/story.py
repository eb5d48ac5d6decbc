"""What happened in a replay, told window by window and settled once every label is known."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tasks.core.dataset import Dataset
from tasks.core.evaluation.metrics import score
from tasks.core.model.labels import labels_of
from tasks.core.model.pipeline import predict
from tasks.core.model.second_opinion import combine
from tasks.core.replay.summary import Summary, WindowResult
from tasks.core.spec import ModelSpec
from tasks.core.window import Window
from tasks.replay.stage import Stage
from tasks.store.dataset_parts import check_part, parts_of
from tasks.store.models import own_types, shared_model
from tasks.store.version import ChampionInfo, PartnerInfo


@dataclass
class Story:
    """The windows so far; `first_model` is the one that a team without a loop would still be serving."""

    spec: ModelSpec
    stage: Stage
    first_model: str
    started: float = field(default_factory=time.monotonic)
    results: list[WindowResult] = field(default_factory=list)
    _served: list[Dataset | None] = field(default_factory=list)
    _models: list[tuple[str, PartnerInfo | None]] = field(default_factory=list)

    def add(
        self,
        window: Window,
        served: Any,  # Any: what score did (ScoredWindow)
        incumbent: ChampionInfo,
        checks: tuple[Any, Any],  # Any: what monitor and detect_drift concluded (CheckResult)
    ) -> WindowResult:
        """Return the result of the window as far as it is known now, and remember what it rests on."""
        watched, drifted = checks
        acting = next((item for item in checks if item.launched), None)
        told = next((item for item in checks if item.decision.kind == "BLOCK"), acting or drifted)
        phases = self.stage.planted(window)
        result = WindowResult(
            start=window.start,
            end=window.end,
            rows=served.rows,
            score=None,
            version=served.version,
            partner=served.partner,
            verdict=_worst(watched.outcome, drifted.outcome),
            decision=told.decision.kind,
            drift=drifted.outcome,
            performance=watched.outcome,
            events=tuple(told.decision.reasons),
            outcome=acting.launched.outcome
            if acting
            else ("blocked" if told.decision.kind == "BLOCK" else ""),
            cause=told.decision.cause,
            drifted=drifted.drifted,
            planted=", ".join(phase.kind for phase in phases),
            planted_note="; ".join(phase.note for phase in phases),
            harmful=any(phase.harmful for phase in phases),
        )
        self.results.append(result)
        self._served.append(served.dataset)
        self._models.append((incumbent.model_path, incumbent.partner if served.partner else None))
        return result

    def settle(self, labels: Dataset) -> Summary:
        """Return the summary: every served window scored on the labels as they finally stood."""
        known = (
            pd.read_parquet(labels.path).drop_duplicates(self.spec.source.key).set_index(self.spec.source.key)
        )
        settled = []
        for result, dataset, models in zip(self.results, self._served, self._models, strict=True):
            if dataset is None:
                settled.append(result)
                continue
            parts = parts_of(dataset, self.spec)
            frame = pd.concat([check_part(part, dataset, self.spec).good for part in parts])
            frame = frame[frame[self.spec.source.key].isin(known.index)]
            truth = labels_of(known.loc[frame[self.spec.source.key]], self.spec)
            settled.append(
                replace(
                    result,
                    score=self._score(*models, frame, truth),
                    never_score=self._score(self.first_model, None, frame, truth),
                )
            )
        seconds = time.monotonic() - self.started
        return Summary(self.spec.name, seconds, tuple(settled), self.spec.metric)

    def _score(
        self, model_path: str, partner: PartnerInfo | None, frame: pd.DataFrame, truth: NDArray[Any]
    ) -> float | None:
        if frame.empty:
            return None
        said = predict(shared_model(model_path, also=own_types(self.spec)), frame)
        if partner is not None:
            own = own_types(partner.spec)
            said = combine(said, predict(shared_model(partner.model_path, also=own), frame))
        value = score(
            truth,
            said.prediction,
            said.probabilities,
            said.classes,
            self.spec.metric,
            self.spec.label.positive,
        )
        return float(value) if np.isfinite(value) else None


def _worst(*outcomes: str) -> Any:  # Any: the literal type of a verdict
    order = ("drift", "warn", "undecided", "ok")
    return min(outcomes, key=order.index)
