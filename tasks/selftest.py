"""The gate put to the test: challengers whose worth is known, through the code that judges real ones."""

from __future__ import annotations

import argparse
import math
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from tasks.core.errors import SpecError, WorkflowError
from tasks.core.evaluation.gate import floor_of
from tasks.core.evaluation.verdicts import GateDecision
from tasks.core.model.answers import answers_to
from tasks.core.model.bundle import ChampionRef
from tasks.core.model.guess import label_quantiles, learn_guess, score_of
from tasks.core.model.pipeline import build_pipeline
from tasks.core.planted import CUT, TRUTHS, Knowledge, compared_rows, planted_spec, taught_rows
from tasks.core.results import Trained
from tasks.core.spec import ModelSpec
from tasks.core.window import Window
from tasks.evaluate import evaluate_pair
from tasks.settings import Settings
from tasks.store.models import save_model

# What each planted model knows; the names are used below.
_KNOWN = {
    "better": Knowledge(),
    "serving": Knowledge((0,), 1.0),
    "equal": Knowledge((1,), -1.0),
    "worse": Knowledge((0, 2), 3.0),
    "guess": Knowledge(guesses=True),
}
_SHOWN = 90  # characters of a reason in the table
_NOT_BETTER = ("keep", "undecided")
_EQUAL = {"not_worse": ("promote", "keep"), "ahead": _NOT_BETTER, "better": _NOT_BETTER}
"""What may become of an equal challenger that chance does not favour, by `gate.rule`."""


@dataclass(frozen=True)
class Trial:
    """One planted comparison: the outcomes that are right, the one the gate gave, and its reason."""

    name: str
    expected: tuple[str, ...]
    outcome: str
    reason: str
    ok: bool


@dataclass(frozen=True)
class SelfTest:
    """What became of every planted comparison, with the rows compared and the time it took."""

    model: str
    metric: str
    rows: int
    seconds: float
    trials: tuple[Trial, ...]

    @property
    def ok(self) -> bool:
        """Whether the gate judged all of them rightly."""
        return all(trial.ok for trial in self.trials)

    def table(self) -> str:
        """Return the trials as aligned lines of text."""
        lines = [("", "planted", "right", "gate said", "because")]
        for trial in self.trials:
            mark = "ok" if trial.ok else "WRONG"
            lines.append((mark, trial.name, " or ".join(trial.expected), trial.outcome, _short(trial.reason)))
        widths = [max(len(line[column]) for line in lines) for column in range(4)]
        cells = ([f"{cell:<{width}}" for cell, width in zip(line[:4], widths, strict=True)] for line in lines)
        return "\n".join("  ".join([*row, line[4]]) for row, line in zip(cells, lines, strict=True))


def _short(reason: str) -> str:
    return reason if len(reason) <= _SHOWN else reason[: _SHOWN - 1].rsplit(" ", 1)[0] + " …"


def run_self_test(spec: ModelSpec, args: argparse.Namespace) -> None:
    """Put the gate to the test with planted challengers whose worth is known, and train nothing.

    Raises:
        WorkflowError: when it judged any of them wrongly.
    """
    del args
    found = self_test(spec)
    sys.stdout.write(
        f"{found.table()}\n{found.rows} made-up rows, judged on {found.metric} by the gate of "
        f"{spec.name}, {found.seconds:.1f} s\n"
    )
    wrong = [trial.name for trial in found.trials if not trial.ok]
    if wrong:
        raise WorkflowError(
            f"a gate that judged {len(wrong)} of {len(found.trials)} planted comparisons wrongly: "
            + ", ".join(wrong),
            "each judged as planted",
            "promote nothing by this gate; undo what changed in it or in the model's gate block",
            model=spec.name,
        )


def self_test(spec: ModelSpec, *, seed: int = 0, settings: Settings | None = None) -> SelfTest:
    """Return how the gate of this spec judges planted challengers, stored, loaded and scored as real ones.

    The rows are made up, with the spec's columns, task and label; the models are small trees that have a
    known part of them wrong. Gate and metric are the spec's own. Switched off is what made rows say nothing
    about: the anchor, groups and worth. Everything happens in a temporary folder.

    Classifiers tell two classes apart, also for a model of more: what is tested is the gate.

    Args:
        spec: the model.
        seed: of the made rows.
        settings: taken for its number of threads only.

    Raises:
        SpecError: when the metric says nothing of two classes.
    """
    if spec.metric == "top_k_accuracy":
        raise SpecError(
            "metric top_k_accuracy in a test of the gate, which plants two classes",
            "a metric that tells two classes apart",
            "run it with --set metric=accuracy",
            model=spec.name,
        )
    started = time.perf_counter()
    threads = settings.threads if settings else 1
    with tempfile.TemporaryDirectory(prefix="evergreen-self-test-") as name:
        place = Settings(state_dir=Path(name), store=None, mlflow=None, artifacts=None, threads=threads)
        plant = _Plant(planted_spec(spec), place, seed)
        trials = tuple(_trials(plant))
    return SelfTest(spec.name, spec.metric, len(plant.holdout), time.perf_counter() - started, trials)


def _trials(plant: _Plant) -> Iterator[Trial]:
    ahead = plant.judge("better", "serving")
    yield _trial("a better challenger", ("promote",), ahead)
    behind = plant.judge("serving", "better")
    swapped = _trial("the same two, swapped", ("keep",), behind)
    mirrored = math.isclose(ahead.difference, -behind.difference, abs_tol=1e-9)
    yield swapped if mirrored else Trial(swapped.name, ("keep",), behind.outcome, "not mirrored", ok=False)
    yield _trial("an equal challenger", _EQUAL[plant.spec.gate.rule], plant.judge(*plant.equals()))
    yield _trial("a worse challenger", ("keep",), plant.judge("worse", "serving"))
    yield _trial("the same version twice", ("refuse",), plant.judge("better", "better"))
    yield _trial("a damaged champion", ("refuse",), plant.judge("better", "damaged"))
    late = plant.judge("better", "serving", train_end=CUT + timedelta(days=2))
    yield _trial("a champion trained later than the rows", ("refuse",), late)
    learnt = plant.judge("better", "serving", snapshot=plant.learnt())
    yield _trial("a champion trained on rows with their keys", ("refuse",), learnt)
    yield _trial("a first version", ("promote",), plant.judge("better", None))
    idle = plant.judge(
        "guess", None
    )  # chance may put it ahead; then it is doubted, and `better` keeps it out
    doubted = ("promote", "ask") if idle.doubts and plant.spec.gate.rule != "better" else ()
    yield _trial("a first version that only guesses", (*_NOT_BETTER, "refuse", *doubted), idle)


def _trial(name: str, expected: tuple[str, ...], found: GateDecision) -> Trial:
    reason = "; ".join(found.reasons)
    return Trial(name, expected, found.outcome, reason, found.outcome in expected)


class _Plant:
    """Made rows and the models that know them more or less well, on disk as a training leaves them."""

    def __init__(self, spec: ModelSpec, place: Settings, seed: int):
        self.spec, self.place, self.folder = spec, place, place.root
        floor = floor_of(spec.gate, spec.metric)
        for truth in TRUTHS:
            rng = np.random.default_rng(seed)
            self.holdout = compared_rows(spec, truth, rng)
            self.models, self.taught = {}, {}
            for name, known in _KNOWN.items():
                self.taught[name], labels = taught_rows(spec, truth, known, rng)
                self.models[name] = build_pipeline(spec).fit(self.taught[name][spec.features.all], labels)
            if floor is None or self.score("better") >= floor:
                break
        self.holdout.to_parquet(self.folder / "holdout.parquet", index=False)
        self.digests = {name: save_model(model, self._file(name)) for name, model in self.models.items()}
        whole = self._file("serving").read_bytes()
        self._file("damaged").write_bytes(whole[: len(whole) // 2])

    def judge(
        self,
        challenger: str,
        champion: str | None,
        *,
        train_end: datetime = CUT,
        snapshot: Mapping[str, Any] | None = None,  # Any: JSON
    ) -> GateDecision:
        """Return what the gate says of two of the models by name."""
        train = self.taught[challenger]
        trained = Trained(
            model_path=str(self._file(challenger)),
            train_rows=len(train),
            holdout_path=str(self.folder / "holdout.parquet"),
            holdout_rows=len(self.holdout),
            cut=CUT,
            train_window=Window(CUT - timedelta(days=30), CUT + timedelta(days=1)),
            params={},
            seconds=0.0,
            train_keys_sha256="",
            guess=learn_guess(self.spec, train),
            model_sha256=self.digests[challenger],
            label_quantiles=label_quantiles(self.spec, train),
        )
        ref = ChampionRef(str(self._file(champion)), 1, train_end) if champion else None
        judge: Callable[..., Any] = evaluate_pair.fn  # Any: prefect loses the signature
        found = judge(self.spec, trained, ref, champion_snapshot=snapshot, settings=self.place)
        decision: GateDecision = found.decision
        return decision

    def equals(self) -> tuple[str, str]:
        """Return two models of equal worth, the one that chance favours last: it must not be beaten."""
        first, second = sorted(("serving", "equal"), key=self.score)
        return first, second

    def learnt(self) -> dict[str, Any]:  # Any: JSON
        """Return the record of a snapshot with the compared rows' keys, at times before the cut."""
        path, at = self.folder / "snapshot.parquet", self.spec.source.timestamp
        older = self.holdout.assign(**{at: self.holdout[at] - timedelta(days=10)})
        older.to_parquet(path, index=False)
        return {"path": str(path)}

    def score(self, name: str) -> float:
        """Return a model's score on the made rows."""
        return score_of(self.spec, answers_to(self.spec, self.models[name], self.holdout))

    def _file(self, name: str) -> Path:
        return self.folder / f"{name}.skops"
