"""The app under load beside `mlflow models serve` and beside the bare pipeline's `predict` in a loop.

One fitted pipeline, the same rows, everybody in a process of their own on loopback, one after the other.
Ours logs every answer: before it is given (durable), soon after (fast), or, to see what that costs, not at
all (off; only this bench can do that). The answers of all are compared before anything is measured. Prints
one JSON line per figure.

    python -m bench.serving [--seconds 10] [--connections 16] [--no-peer] [--scratch /tmp]
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import httpx

from bench.load import Loaded, load
from bench.peers.figures import figure

LOGS = ("durable", "fast", "off")
MANY = 100
GOAL_TIMES, GOAL_SPREAD, GOAL_LOG = 10.0, 3.0, 0.20
_QUIET = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "true"}
Found = dict[tuple[str, int], Loaded]


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, and print a line per figure."""
    given = _parser().parse_args(argv)
    if given.child:
        return _child(given.child, Path(given.scratch), given.port)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that no server is left behind
    with tempfile.TemporaryDirectory(prefix="evergreen-bench-", dir=given.scratch) as place:
        folder = Path(place)
        expected = _prepare(folder, given.rows)
        found: Found = {}
        for log in given.log:
            port = _free_port()
            words = [sys.executable, "-m", "bench.serving", "--child", log, "--scratch", place]
            with _server([*words, "--port", str(port)], f"http://127.0.0.1:{port}/health"):
                _measure(f"ours, log {log}", _Ours(port), folder, expected, given, found)
        if given.peer:
            _peer(folder, expected, given, found)
        _floor(folder, given)
        _goals(found)
    return 0


class _Ours:
    def __init__(self, port: int):
        self.url = f"http://127.0.0.1:{port}/predict/churn"

    def body(self, rows: list[dict[str, Any]]) -> bytes:
        return json.dumps({"rows": rows}).encode()

    def predictions(self, answer: Any) -> list[Any]:  # Any: JSON
        return [one["prediction"] for one in answer["answers"]]


class _Mlflow:
    def __init__(self, port: int):
        self.url = f"http://127.0.0.1:{port}/invocations"

    def body(self, rows: list[dict[str, Any]]) -> bytes:
        split = {"columns": list(rows[0]), "data": [list(row.values()) for row in rows]}
        return json.dumps({"dataframe_split": split}).encode()

    def predictions(self, answer: Any) -> list[Any]:  # Any: JSON
        return list(answer["predictions"])


def _measure(
    who: str, server: _Ours | _Mlflow, folder: Path, expected: list[Any], given: Any, found: Found
) -> None:  # Any: JSON; parsed options
    rows = json.loads((folder / "rows.json").read_text())
    answer = httpx.post(
        server.url, content=server.body(rows), headers={"Content-Type": "application/json"}, timeout=60,
        trust_env=False,
    )  # fmt: skip
    agrees = answer.status_code == 200 and server.predictions(answer.json()) == expected
    for many in (1, MANY):
        body = server.body(rows[:many])
        load(server.url, body, seconds=min(2.0, given.seconds), connections=given.connections, scratch=folder)
        for connections in dict.fromkeys((1, given.connections)):
            one = load(server.url, body, seconds=given.seconds, connections=connections, scratch=folder)
            figure(
                "serving_load", who=who, rows=many, connections=connections, agrees=agrees, **asdict(one),
                rows_per_second=one.requests_per_second * many, p99_over_p50=one.p99_ms / one.p50_ms,
            )  # fmt: skip
            found[who, many if connections == given.connections else -many] = one


def _peer(folder: Path, expected: list[Any], given: Any, found: Found) -> None:
    port = _free_port()
    words = [sys.executable, "-m", "mlflow", "models", "serve", "-m", str(folder / "mlflow"), "-p", str(port)]
    try:
        with _server([*words, "--env-manager", "local"], f"http://127.0.0.1:{port}/ping"):
            _measure("mlflow models serve", _Mlflow(port), folder, expected, given, found)
    except (RuntimeError, httpx.HTTPError) as err:
        figure("serving_load", who="mlflow models serve", left_out=str(err)[-300:])


def _floor(folder: Path, given: Any) -> None:
    import pandas as pd
    from threadpoolctl import threadpool_limits

    from tasks.core.model.pipeline import predict
    from tasks.store.models import load_model

    model = load_model(folder / "model.skops")
    frame = pd.DataFrame(json.loads((folder / "rows.json").read_text()))
    for many in (1, MANY):
        rows, took = frame.head(many), []
        with threadpool_limits(1):
            ends = time.perf_counter() + given.seconds
            while time.perf_counter() < ends:
                start = time.perf_counter()
                predict(model, rows)
                took.append(time.perf_counter() - start)
        took.sort()
        p50, p95, p99 = (
            1000 * took[min(len(took) - 1, int(share * len(took)))] for share in (0.5, 0.95, 0.99)
        )
        figure(
            "serving_floor", who="predict in a loop", rows=many, requests_per_second=len(took) / sum(took),
            p50_ms=p50, p95_ms=p95, p99_ms=p99,
        )  # fmt: skip


def _goals(found: Found) -> None:
    ours, peer = found.get(("ours, log durable", 1)), found.get(("mlflow models serve", 1))
    if ours and peer:
        times = ours.requests_per_second / peer.requests_per_second
        figure(
            "serving_goal", what="times the peer", value=times, goal=GOAL_TIMES, reached=times >= GOAL_TIMES
        )
    if ours:
        spread = ours.p99_ms / ours.p50_ms
        figure(
            "serving_goal", what="p99 over p50", value=spread, goal=GOAL_SPREAD, reached=spread < GOAL_SPREAD
        )
    for many in (1, MANY):
        on, off = found.get(("ours, log durable", many)), found.get(("ours, log off", many))
        if on and off:
            share = 1 - on.requests_per_second / off.requests_per_second
            figure(
                "serving_goal", what="share that a durable log costs", rows=many, value=share, goal=GOAL_LOG,
                reached=share < GOAL_LOG,
            )  # fmt: skip


def _prepare(folder: Path, rows: int) -> list[Any]:
    """Fit one pipeline, keep it for both servers with the rows to ask; return the predictions expected."""
    import mlflow.sklearn
    from threadpoolctl import threadpool_limits

    from serving.scoring import rows_of
    from tasks.core.model.pipeline import build_pipeline, predict
    from tasks.store.models import save_model, trusted_in
    from tests.make import make_frame

    spec, frame = _spec(), make_frame(rows)
    with threadpool_limits(1):
        model = build_pipeline(spec).fit(frame, frame["churned"])
    save_model(model, folder / "model.skops")
    asked = frame.tail(MANY)[spec.features.all]
    asked.to_parquet(folder / "golden.parquet")
    (folder / "rows.json").write_text(json.dumps(rows_of(asked, spec)))
    mlflow.sklearn.save_model(
        model, str(folder / "mlflow"), serialization_format="skops", pip_requirements=["scikit-learn"],
        skops_trusted_types=trusted_in(folder / "model.skops"), signature=_signature(asked),
    )  # fmt: skip
    return list(predict(model, asked).prediction.tolist())


def _signature(frame: Any) -> Any:  # Any: a DataFrame; MLflow's signature
    from mlflow.models import infer_signature

    return infer_signature(frame)


def _spec() -> Any:  # Any: ModelSpec
    from tests.make import make_spec

    params = {"max_iter": 100, "max_leaf_nodes": 31}
    kind = "sklearn.ensemble.HistGradientBoostingClassifier"
    return make_spec(estimator={"class": kind, "params": params})


def _child(log: str, folder: Path, port: int) -> int:
    """Serve the model until it is told to end."""
    import pandas as pd

    from serving.__main__ import server_of
    from tasks.settings import Settings
    from tasks.store.models import load_model
    from tests.serving.served import a_served, an_app

    place = Settings(state_dir=folder / f"state-{log}", threads=1, log="durable" if log == "off" else log)
    golden = pd.read_parquet(folder / "golden.parquet")
    served = a_served(_spec(), load_model(folder / "model.skops"), golden)
    app = an_app(place, {"churn": served})
    if log == "off":
        app.state.service._recorder = _NoLog
    server_of(app, "127.0.0.1", port).run()
    return 0


class _NoLog:
    """A log that keeps nothing and says it did: for the bench alone."""

    is_alive = True
    written = commits = failed = lost = spooled = waiting_on_disk = 0

    def record(self, rows: object) -> Future[None]:
        del rows
        done: Future[None] = Future()
        done.set_result(None)
        return done

    def close(self) -> None: ...


@contextmanager
def _server(words: Sequence[str], url: str, *, seconds: float = 240) -> Iterator[None]:
    """Run a server for the length of a block, once it answers this address."""
    print(f"starting {' '.join(words[2:5])}", file=sys.stderr, flush=True)
    environment = {**os.environ, **_QUIET, "OMP_NUM_THREADS": "1"}
    # MLflow's command starts uvicorn by name
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment.get('PATH', os.defpath)}"
    with tempfile.TemporaryFile("w+") as told:
        running = subprocess.Popen(
            words, env=environment, stdout=told, stderr=told, start_new_session=True, text=True
        )
        try:
            ends = time.monotonic() + seconds
            while not _answers(url):
                if running.poll() is not None or time.monotonic() > ends:
                    told.seek(0)
                    raise RuntimeError(f"it did not start: {told.read()[-1500:]}")
                time.sleep(0.1)
            yield
        finally:
            if running.poll() is None:
                os.killpg(running.pid, signal.SIGTERM)
            try:
                running.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(running.pid, signal.SIGKILL)
                running.wait()


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=2, trust_env=False).status_code == 200
    except httpx.HTTPError:
        return False


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=5_000, help="rows the model is fitted on")
    parser.add_argument("--seconds", type=float, default=10.0, help="length of each measurement")
    parser.add_argument("--connections", type=int, default=16, help="beside a single one")
    parser.add_argument("--log", nargs="+", choices=LOGS, default=list(LOGS), help="which logs to measure")
    parser.add_argument("--no-peer", dest="peer", action="store_false", help="leave mlflow models serve out")
    parser.add_argument("--scratch", default=None, help="folder for everything that is written")
    parser.add_argument("--child", choices=LOGS, help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, default=0, help=argparse.SUPPRESS)
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
