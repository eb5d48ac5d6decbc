"""A version tried out where nothing else is: what a clean process does with a copy of its files.

`tasks.versions.probe` starts that process with `LAUNCH`, isolated from the environment and the working
directory. It gets its request as JSON on standard input and answers with one line of JSON. It reads the
folder it is given and nothing else of this project's state, and it needs neither prefect nor mlflow.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import metadata
from itertools import cycle, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.core.errors import RegistryError, WorkflowError
from tasks.core.model.bundle import GOLDEN, MANIFEST, Manifest
from tasks.store import registry
from tasks.store.version import spec_in

if TYPE_CHECKING:
    import pandas as pd

CALLS = 60  # our choice: enough for a P95, under a second for most models
ROUNDS = 3  # what else runs here can only slow a call down, so the best of a few rounds counts
WARM_UP = 5
BUDGET = 20.0  # seconds for all calls of a round; a model slower than that is measured on fewer
WATCHED = ("mlflow", "prefect", "pytest")  # that a clean process did without them is part of its answer
LAUNCH = (
    "import time; began = time.perf_counter(); import json, sys; request = json.load(sys.stdin);"
    "sys.modules['pytest'] = None;"  # scikit-learn takes it where it finds it; where models serve it is not
    "sys.path[:0] = request['project']; sys.path += request['homes'];"
    "from tasks.store.clean import main; sys.exit(main(request, began))"
)


@dataclass(frozen=True)
class Latency:
    """How long the model takes for one row on one thread, in milliseconds, over so many calls."""

    calls: int
    p50_ms: float
    p95_ms: float


def main(request: Mapping[str, Any], began: float) -> int:  # Any: JSON
    """Answer the request on standard output and return 0; 1 where the version failed, said in the answer.

    Args:
        request: `folder`, `also`, `limit_ms` and `pins`, as `examine` and `environment` take them.
        began: when this process began to import, by `time.perf_counter`.
    """
    imported = time.perf_counter() - began
    answer: dict[str, Any]
    try:
        answer = examine(Path(request["folder"]), also=request["also"], limit_ms=request["limit_ms"])
        answer |= {"import_seconds": round(imported, 3), "memory_mb": _memory_mb()}
        answer |= {"loaded": [name for name in WATCHED if sys.modules.get(name)]}
        answer |= {"environment": environment(request["pins"])}
    except WorkflowError as err:
        answer = {"fault": [err.found, err.expected, err.todo]}
    sys.stdout.write("\n" + json.dumps(answer) + "\n")
    return 1 if "fault" in answer else 0


def examine(
    folder: Path, *, also: Iterable[str] = (), limit_ms: float | None = None, calls: int = CALLS
) -> dict[str, Any]:  # Any: JSON
    """Return what a verified copy in this folder comes to when it is loaded, re-scored and timed.

    Args:
        folder: the files of one version.
        also: further classes to accept, from `tasks.store.models.own_types`.
        limit_ms: longest P95 that may be; above it the calls are timed again, and the best round counts.
        calls: how many single rows to time.

    Raises:
        RegistryError: when the model may not be loaded, answers its golden rows otherwise, or fails on one.
    """
    import pandas as pd

    started = time.perf_counter()
    manifest = Manifest.from_json((folder / MANIFEST).read_text("utf-8"))
    model = registry.load_checked(folder, manifest, also=also)
    loaded = time.perf_counter() - started
    rows = pd.read_parquet(folder / GOLDEN)[spec_in(folder).features.all]
    try:
        best = latency(model, rows, calls=calls)
        for _ in range(ROUNDS - 1):
            if limit_ms is not None and best.p95_ms > limit_ms:
                best = min(best, latency(model, rows, calls=calls), key=lambda one: one.p95_ms)
    except Exception as err:  # whatever a model raises on a row that it answered among others
        raise RegistryError(
            f"a model that fails on a single row ({type(err).__name__})",
            "an answer to each row alone",
            "look at estimator.preprocess; it may need more than one row",
            model=manifest.model,
        ) from err
    return {
        "golden_rows": len(rows),
        "load_seconds": round(loaded, 3),
        "calls": best.calls,
        "p50_ms": round(best.p50_ms, 3),
        "p95_ms": round(best.p95_ms, 3),
    }


def latency(model: object, rows: pd.DataFrame, *, calls: int = CALLS) -> Latency:
    """Return how long single rows take, frame in and probabilities out as in serving; at least one row."""
    import numpy as np
    from threadpoolctl import threadpool_limits

    from tasks.core.model.pipeline import predict

    single = [rows.iloc[[index]] for index in range(len(rows))]
    seconds: list[float] = []
    with threadpool_limits(1):
        for row in islice(cycle(single), WARM_UP):
            predict(model, row)
        until = time.perf_counter() + BUDGET
        for row in islice(cycle(single), calls):
            started = time.perf_counter()
            predict(model, row)
            ended = time.perf_counter()
            seconds.append(ended - started)
            if ended > until:
                break
    p50, p95 = np.quantile(np.array(seconds) * 1000, [0.5, 0.95]).tolist()
    return Latency(len(seconds), p50, p95)


def environment(pins: Iterable[str]) -> dict[str, Any]:  # Any: JSON
    """Return how the installed libraries differ from these pins (`name==version`), and Python's version.

    `locked` is None where there are no pins to compare with; versions are read from what is installed,
    nothing is imported.
    """
    pinned = dict(pin.split("==", 1) for pin in pins)
    found = {name: _installed(name) for name in pinned}
    differs = {name: [found[name], pinned[name]] for name in pinned if found[name] != pinned[name]}
    return {
        "python": ".".join(str(part) for part in sys.version_info[:3]),
        "locked": not differs if pinned else None,
        "differs": differs,
        "scikit_learn": _installed("scikit-learn"),
    }


def _installed(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _memory_mb() -> float | None:
    """Return the most memory this process has held, in MB; None where the system does not tell."""
    if sys.platform == "win32":
        return None
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (1024 * 1024 if sys.platform == "darwin" else 1024), 1)
