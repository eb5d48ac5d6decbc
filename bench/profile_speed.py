"""What a check costs beside merely reading the same Parquet, and whether memory stays constant.

A million rows of 20 numbers and 5 dictionary-coded text categories, read by pyarrow and checked by us on the
same threads, in turns in one warm process, and each once in a process of its own, as a flow run meets them.
With `--big`, files of 1, 10 and 100 million rows are counted, each in a fresh process. What was counted is
held against numpy's histogram and pandas' value counts. Prints one JSON line per figure.

    python bench/profile_speed.py [--rows 1000000] [--big] [--threads 2] [--scratch /tmp]
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

NUMBERS = tuple(f"x{place:02d}" for place in range(20))
LEVELS = {"plan": 3, "region": 10, "device": 50, "city": 200, "shop": 1000}
GROUP = 1_000_000
SIZES = (1_000_000, 10_000_000, 100_000_000)
BYTES_PER_ROW = 180
WATCHED = ("x00", "x07")  # whose cells are held against numpy in the large files too


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, and print a line per figure."""
    given = _parser().parse_args(argv)
    if given.child:
        return _child(*given.child)
    with tempfile.TemporaryDirectory(prefix="evergreen-bench-", dir=given.scratch) as place:
        folder = Path(place)
        rows, reference = folder / "rows.parquet", folder / "reference.json"
        pq.write_table(_table(given.rows, seed=1), rows)
        reference.write_text(_reference(_table(200_000, seed=0)))
        _warm(rows, reference, given)
        for what in ("read", "check"):
            figure(f"cold_{what}", rows=given.rows, **_fresh(what, rows, reference, given.threads))
        figure("counts", rows=given.rows, equal=_counts_are_right(rows, reference, given.threads))
        if given.big:
            rows.unlink()
            _grow(folder / "big.parquet", reference, given)
    return 0


def figure(name: str, **facts: Any) -> None:
    """Print one figure on a line of its own."""
    short = {key: float(f"{fact:.4g}") if isinstance(fact, float) else fact for key, fact in facts.items()}
    print(json.dumps({"figure": name, **short}), flush=True)


def _warm(rows: Path, reference: Path, given: argparse.Namespace) -> None:
    """Measure reading, profiling and checking in turns, so that a busy machine is busy for all three."""
    pa.set_cpu_count(given.threads)
    work = {what: _work(what, rows, reference, given.threads) for what in ("read", "profile", "check")}
    seconds: dict[str, list[float]] = {what: [] for what in work}
    cpu: dict[str, list[float]] = {what: [] for what in work}
    for _ in range(given.repeats + 1):
        for what, do in work.items():
            began, began_cpu = time.perf_counter(), time.process_time()
            do()
            seconds[what].append(time.perf_counter() - began)
            cpu[what].append(time.process_time() - began_cpu)
    for what, all_found in seconds.items():
        found, spent = all_found[1:], cpu[what][1:]  # the first warms up
        figure(
            f"{what}_seconds",
            rows=given.rows,
            threads=given.threads,
            best=min(found),
            median=median(found),
            cpu_best=min(spent),
            cpu_median=median(spent),
        )
    best = {what: min(found[1:]) for what, found in seconds.items()}
    middle = {what: median(found[1:]) for what, found in seconds.items()}
    spent = {what: median(found[1:]) for what, found in cpu.items()}
    figure(
        "check_over_read",
        rows=given.rows,
        aim=2.0,
        best=best["check"] / best["read"],
        median=middle["check"] / middle["read"],
        cpu=spent["check"] / spent["read"],
    )


def _grow(path: Path, reference: Path, given: argparse.Namespace) -> None:
    """Count ever larger files, each in a fresh process."""
    for rows in SIZES:
        if shutil.disk_usage(path.parent).free < 1.3 * rows * BYTES_PER_ROW:
            figure("profile_of", rows=rows, fault="not enough disk")
            continue
        expected = _append_groups(path, rows, reference)
        for what in ("stream", "profile"):
            facts = _fresh(what, path, reference, given.threads)
            held = facts.pop("held", None)
            right = {} if held is None else {"equal": held == expected}
            figure(
                "merely_streaming" if what == "stream" else "profile_of",
                rows=rows,
                megabytes=path.stat().st_size / 1e6,
                rows_per_second=rows / facts["seconds"],
                **facts,
                **right,
            )
        path.unlink()


def _append_groups(path: Path, rows: int, reference: Path) -> dict[str, list[int]]:
    """Write row groups, each shifted a little against the last; return what some columns' cells must hold."""
    edges = _edges(reference)
    base = _table(GROUP, seed=1)
    expected = {name: np.zeros(len(edges[name]) + 1, np.int64) for name in WATCHED}
    with pq.ParquetWriter(path, base.schema) as writer:
        for group in range(rows // GROUP):
            table = base
            for place, name in enumerate(NUMBERS):
                moved = base.column(name).to_numpy() * (1 + group * 1e-4)
                table = table.set_column(place, name, pa.array(moved))
                if name in expected:
                    expected[name] += _histogram(moved, edges[name])
            writer.write_table(table, row_group_size=GROUP)
    return {name: held.tolist() for name, held in expected.items()}


def _fresh(what: str, rows: Path, reference: Path, threads: int) -> dict[str, Any]:
    """Return what a process of its own took for this."""
    command = [sys.executable, __file__, "--child", what, str(rows), str(reference), str(threads)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return dict(json.loads(done.stdout))


def _child(what: str, rows: str, reference: str, threads: str) -> int:
    """Do one thing once, and print how long it took and the most memory this process had."""
    pa.set_cpu_count(int(threads))
    do = _work(what, Path(rows), Path(reference), int(threads))
    idle = _peak_mb()
    began, began_cpu = time.perf_counter(), time.process_time()
    found = do()
    facts = {"seconds": time.perf_counter() - began, "cpu": time.process_time() - began_cpu}
    held = {name: list(found.features[name].cells) for name in WATCHED} if what == "profile" else None
    print(json.dumps({**facts, "idle_mb": idle, "peak_mb": _peak_mb(), **({"held": held} if held else {})}))
    return 0


def _work(what: str, rows: Path, reference: Path, threads: int) -> Callable[[], Any]:
    if what == "read":
        return lambda: pq.read_table(rows)
    if what == "stream":
        return lambda: sum(
            batch.num_rows for batch in pq.ParquetFile(rows, pre_buffer=False).iter_batches(131_072)
        )
    from tasks.core.drift.verdict import judge
    from tasks.drifting.profile import profile_parquet, read_reference

    known, spec = read_reference(str(reference)), _spec()
    if what == "profile":
        return lambda: profile_parquet(str(rows), known, threads=threads)
    return lambda: judge(known, profile_parquet(str(rows), known, threads=threads), spec)


def _counts_are_right(rows: Path, reference: Path, threads: int) -> bool:
    """Return whether every cell holds what numpy's histogram or pandas' value counts say."""
    from tasks.drifting.profile import profile_parquet, read_reference

    known = read_reference(str(reference))
    profile = profile_parquet(str(rows), known, threads=threads)
    frame = pq.read_table(rows).to_pandas()
    for bins in known.bins:
        held = profile.features[bins.name]
        if bins.kind == "numeric":
            want = _histogram(frame[bins.name].to_numpy(), np.array(bins.edges)).tolist()
        else:
            times = frame[bins.name].value_counts()
            want = [int(times.get(name, 0)) for name in bins.categories]
            want.append(int(times.sum()) - sum(want))
        if list(held.cells) != want:
            return False
    return True


def _histogram(values: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Return how many values lie in cells closed on the right; numpy closes them on the left."""
    ends = np.array([-np.inf, *-edges[::-1], np.inf])
    return np.histogram(-values, ends)[0][::-1]


def _table(rows: int, *, seed: int) -> pa.Table:
    rng = np.random.default_rng(seed)
    columns: dict[str, Any] = {}
    for place, name in enumerate(NUMBERS):
        columns[name] = _draw(place % 5, rows, rng)
    for name, levels in LEVELS.items():
        codes = rng.integers(0, levels, rows).astype(np.int32)
        labels = pa.array([f"{name} {level:04d}" for level in range(levels)])
        columns[name] = pa.DictionaryArray.from_arrays(pa.array(codes), labels)
    return pa.table(columns)


def _draw(kind: int, rows: int, rng: np.random.Generator) -> np.ndarray:
    draws: tuple[Callable[[], np.ndarray], ...] = (
        lambda: rng.normal(size=rows),
        lambda: rng.lognormal(0, 1, rows),
        lambda: np.where(rng.random(rows) < 0.3, 0.0, rng.gamma(2, 3, rows)),
        lambda: rng.random(rows),
        lambda: rng.normal(1000, 15, rows),
    )
    return draws[kind]()


def _spec() -> Any:
    from tasks.core.spec import parse_spec

    return parse_spec(
        {
            "name": "bench",
            "task": "classification",
            "source": {"url": "rows.parquet", "key": "id", "timestamp": "at"},
            "label": {"column": "y", "maturity": "1d"},
            "features": {"numeric": list(NUMBERS), "categorical": list(LEVELS)},
            "estimator": {"class": "sklearn.linear_model.LogisticRegression"},
            "window": {"training": "90d", "check": "1d"},
            "metric": "roc_auc",
        }
    )


def _reference(table: pa.Table) -> str:
    from tasks.core.drift.profile import build_reference

    return build_reference(table.to_pandas(), _spec(), deep=False).to_json()


def _edges(reference: Path) -> dict[str, np.ndarray]:
    from tasks.drifting.profile import read_reference

    return {bins.name: np.array(bins.edges) for bins in read_reference(str(reference)).bins}


def _peak_mb() -> float:
    """Return the most memory this process ever had; unlike getrusage, without its parent's."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--rows", type=int, default=1_000_000, help="rows of the check beside reading")
    parser.add_argument("--big", action="store_true", help="1, 10 and 100 million rows; needs 20 GB of disk")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--scratch", default=None, help="folder for the files, removed at the end")
    parser.add_argument("--child", nargs=4, help=argparse.SUPPRESS)
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
