"""What registering a version takes beside plain `mlflow.sklearn.log_model`, and whether both come back equal.

Ours writes the bundle, uploads it, downloads it again, checks every digest, loads it with our list of types,
re-scores its golden rows, and only then makes the version. Plain is one call of MLflow with a registered
model's name, the format skops and the types it asks for: with requirements inferred, as by default, and with
the same pinned requirements that ours writes. Each registers the same fitted pipeline several times in a
fresh process that has scored it before, as a flow has by then, on a registry of its own whose tables stand.
Prints one JSON line per figure.

    python -m bench.registration [--rows 20000] [--repeats 3] [--scratch /tmp]
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from statistics import median
from typing import Any

from bench.peers.figures import figure

WHO = ("ours", "mlflow, requirements given", "mlflow, requirements inferred")
GOAL_SECONDS = 5.0


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, and print a line per figure."""
    given = _parser().parse_args(argv)
    if given.child:
        return _child(given.child, Path(given.scratch), given.repeats)
    with tempfile.TemporaryDirectory(prefix="evergreen-bench-", dir=given.scratch) as place:
        folder = Path(place)
        size = _prepare(folder, given.rows)
        told = {who: _in_child(who, folder, given.repeats) for who in WHO}
    answers = {who: found.pop("answers") for who, found in told.items()}
    for who, found in told.items():
        agrees = answers[who] == answers["ours"] and found.pop("loaded_equal")
        figure("registration_seconds", who=who, rows=given.rows, model_mb=size / 1e6, agrees=agrees, **found)
    ours = told["ours"]["first"]
    figure("registration_goal", who="ours", seconds=ours, goal=GOAL_SECONDS, reached=ours < GOAL_SECONDS)
    return 0


def _prepare(folder: Path, rows: int) -> int:
    """Fit one pipeline and keep it with its rows; return the size of its file in bytes."""
    from tasks.core.model.pipeline import build_pipeline
    from tasks.store.models import save_model

    spec, frame = _spec(), _frame(rows)
    cut = int(rows * 0.8)
    model = build_pipeline(spec, threads=2).fit(frame.head(cut), frame["churned"].head(cut))
    save_model(model, folder / "model.skops")
    frame.to_parquet(folder / "rows.parquet")
    frame.tail(rows - cut).to_parquet(folder / "holdout.parquet")
    return (folder / "model.skops").stat().st_size


def _in_child(who: str, folder: Path, repeats: int) -> dict[str, Any]:  # Any: JSON
    environment = {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true", "EVERGREEN_PROBE": "here"}
    words = ["-m", "bench.registration", "--child", who, "--scratch", str(folder), "--repeats", str(repeats)]
    print(f"measuring {who}", file=sys.stderr, flush=True)
    done = subprocess.run(
        [sys.executable, *words], env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"{who} failed:\n{done.stderr[-3000:]}")
    return dict(json.loads(done.stdout.splitlines()[-1]))


def _child(who: str, folder: Path, repeats: int) -> int:
    from tasks.settings import Settings
    from tasks.store.engine import open_store
    from tasks.store.mlflow_client import open_client
    from tasks.store.models import load_model

    place = Settings(state_dir=folder / hashlib.sha256(who.encode()).hexdigest()[:8], threads=2)
    open_client(place)
    open_store(place)
    kept = _answers(load_model(folder / "model.skops"), folder)  # a flow has scored its model by then
    register = _ours(folder, place) if who == "ours" else _plain(folder, place, is_pinned="given" in who)
    seconds, cpu = [], []
    for number in range(repeats):
        began, began_cpu = time.perf_counter(), _cpu()
        loaded = register(number)
        seconds.append(time.perf_counter() - began)
        cpu.append(_cpu() - began_cpu)
    said = _answers(loaded(), folder)
    digest = hashlib.sha256(said.tobytes()).hexdigest()
    found = {"first": seconds[0], "median": median(seconds), "first_cpu": cpu[0], "median_cpu": median(cpu)}
    print(json.dumps({**found, "answers": digest, "loaded_equal": bool((said == kept).all())}))
    return 0


def _cpu() -> float:
    """Return the CPU seconds of this process and of the children it waited for."""
    spent = os.times()
    return spent.user + spent.system + spent.children_user + spent.children_system


def _ours(folder: Path, place: Any) -> Callable[[int], Callable[[], Any]]:  # Any: Settings; an estimator
    """Return what registers a version, and returns how to load it back."""
    from tasks.core.dataset import Dataset
    from tasks.core.evaluation.verdicts import GateDecision
    from tasks.core.model.bundle import MODEL, digest_of
    from tasks.core.results import Evaluated, Trained
    from tasks.core.window import Window
    from tasks.register import register_version
    from tasks.store.models import load_model
    from tasks.store.registry import local_copy
    from tests.make import START

    spec, window = _spec(), Window(START, START + timedelta(days=28))
    rows = folder / "rows.parquet"
    trained = Trained(
        model_path=str(folder / "model.skops"),
        train_rows=1,
        holdout_path=str(folder / "holdout.parquet"),
        holdout_rows=1,
        cut=START + timedelta(days=22),
        train_window=window,
        params=dict(spec.estimator.params),
        seconds=1.0,
        train_keys_sha256="0" * 64,
        guess=((0, 0.5), (1, 0.5)),
    )
    decided = GateDecision("promote", ("first",), 0.8, float("nan"), 0.3, 0.1, 0.4, 60)
    evaluated = Evaluated(decided, {"roc_auc": 0.8}, {}, 0.5, 60, 0.8, 0.7, 0.9)
    snapshot = Dataset(str(rows), 1, digest_of(rows.read_bytes()), window)

    def register(number: int) -> Callable[[], Any]:
        version = register_version.fn(
            spec, f"a{number}", trained, evaluated, {"rows": 1}, snapshot, {"id": f"d{number}"},
            as_of=window.end, settings=place,
        )  # fmt: skip

        def load() -> Any:
            kept = local_copy(version, settings=place)
            return load_model(kept.model_path, sha256=kept.manifest.files[MODEL])

        return load

    return register


def _plain(folder: Path, place: Any, *, is_pinned: bool) -> Callable[[int], Callable[[], Any]]:
    """Return what logs and registers the model with MLflow alone, and returns how to load it back."""
    import mlflow

    from tasks.store.models import load_model, trusted_in
    from tasks.store.provenance import pinned_requirements

    model, trusted = load_model(folder / "model.skops"), trusted_in(folder / "model.skops")
    requirements = list(pinned_requirements()) if is_pinned else None
    mlflow.create_experiment("plain", artifact_location=f"{place.artifact_root}/plain")
    mlflow.set_experiment("plain")

    def register(number: int) -> Callable[[], Any]:
        del number
        import mlflow.sklearn

        with mlflow.start_run():
            made = mlflow.sklearn.log_model(
                model,
                name="model",
                registered_model_name="plain",
                serialization_format="skops",
                skops_trusted_types=trusted,
                pip_requirements=requirements,
            )
        return lambda: mlflow.sklearn.load_model(made.model_uri)

    return register


def _answers(model: Any, folder: Path) -> Any:  # Any: an estimator; an array of probabilities
    import pandas as pd

    from tasks.core.model.pipeline import predict

    return predict(model, pd.read_parquet(folder / "holdout.parquet").drop(columns="churned")).probabilities


def _spec() -> Any:  # Any: ModelSpec
    from tests.make import make_spec

    params = {"max_iter": 200, "max_leaf_nodes": 31}
    kind = "sklearn.ensemble.HistGradientBoostingClassifier"
    return make_spec(estimator={"class": kind, "params": params})


def _frame(rows: int) -> Any:  # Any: a DataFrame
    from tests.make import make_frame

    return make_frame(rows)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=20_000, help="rows the model is fitted and held out on")
    parser.add_argument("--repeats", type=int, default=3, help="registrations per contender")
    parser.add_argument("--scratch", default=None, help="folder for everything that is written")
    parser.add_argument("--child", choices=WHO, help=argparse.SUPPRESS)
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
