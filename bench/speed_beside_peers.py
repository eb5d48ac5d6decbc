"""A check of a million rows against its reference: ours, the peers', and merely reading the same Parquet.

Prints one JSON line per figure. Our time runs from the path of the file to the verdict; a peer's runs from
frames in memory to its verdict, without import and reading, and it needs the reference's rows, which ours
does not. The same planted drift must be named by all, and our Kolmogorov-Smirnov distances are held beside
the exact ones of all rows. Run as `python -m bench.speed_beside_peers`.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from scipy import stats

from bench.peers.environments import OURS, PEERS, READ, Peer, available, default_folder, environment_of, say
from bench.peers.figures import figure
from bench.peers.protocol import Columns
from bench.peers.run import Answers, ask

NUMERIC = tuple(f"x{place:02d}" for place in range(20))
CATEGORICAL = ("plan", "region", "device", "city", "shop")
COLUMNS = Columns(NUMERIC, CATEGORICAL)
LEVELS = {"plan": 3, "region": 8, "device": 20, "city": 100, "shop": 500}
MOVED = {"x03": 0.7, "x11": 0.7}  # by so many standard deviations; every peer's limit is passed
SWAPPED = "plan"
PLANTED = {*MOVED, SWAPPED}
ROW_GROUP = 131_072
WHOLE = "ours with whole rows"
ENOUGH = 120  # seconds after which a check is not repeated
# Our distance is taken at the cells' edges only: never above the exact one, and below it by less than half of
# what chance alone makes of it, which is about 1 / sqrt(rows).
KS_WITHIN = 0.5


@dataclass(frozen=True)
class Files:
    """The reference and the window that every peer is given."""

    reference: Path
    current: Path
    rows: int


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, and print a line per figure."""
    given = _parser().parse_args(argv)
    pythons, failed = available(given.peers, given.environments)
    for name, why in failed.items():
        figure("speed", who=name, rows=given.rows, seconds=None, agrees=None, fault=why)
    with tempfile.TemporaryDirectory(prefix="evergreen-bench-", dir=given.scratch) as place:
        folder = Path(place)
        files = write(folder, given.rows, given.seed)
        ours = _own_side(files, given)
        peers = [_peer(name, python, folder, files, given) for name, python in pythons.items()]
        _distances(ours, files)
        _compare(ours, [peer for peer in peers if peer])
    return 0


def write(folder: Path, rows: int, seed: int) -> Files:
    """Write a reference and a window with the planted drift, as many rows each."""
    paths = []
    for name, drifted in (("reference", False), ("current", True)):
        path = folder / f"{name}-{rows}.parquet"
        rng = np.random.default_rng([seed, rows, drifted])
        pq.write_table(_table(rows, rng, drifted=drifted), path, row_group_size=ROW_GROUP)
        paths.append(path)
    say(f"{rows:,} rows x {len(COLUMNS.all)} columns: {paths[1].stat().st_size / 1e6:.0f} MB of Parquet each")
    return Files(paths[0], paths[1], rows)


def _table(rows: int, rng: np.random.Generator, *, drifted: bool) -> pa.Table:
    columns: dict[str, Any] = {}
    for place, name in enumerate(NUMERIC):
        normal = rng.normal(size=rows) + (MOVED.get(name, 0.0) if drifted else 0.0)
        shaped = (normal, np.exp(normal), np.round(normal * 10), normal * 100 + 1e4)
        columns[name] = shaped[place % 4] if name not in MOVED else normal
    for name, levels in LEVELS.items():
        share = 1 / np.arange(1, levels + 1)
        if drifted and name == SWAPPED:
            share = share[::-1]
        codes = rng.choice(levels, rows, p=share / share.sum()).astype(np.int32)
        words = pa.array([f"{name}_{place:03d}" for place in range(levels)])
        columns[name] = pa.DictionaryArray.from_arrays(pa.array(codes), words).cast(pa.string())
    return pa.table(columns)


def _job(files: Files, repeat: int) -> dict[str, Any]:
    return {
        **{"name": "speed", "reference": str(files.reference), "windows": str(files.current)},
        **{"whole": True, "rows": files.rows, "repeat": repeat, "details": True},
        **{"enough": ENOUGH},
    }


def _own_side(files: Files, given: argparse.Namespace) -> dict[str, Any]:
    """Print the figures of reading alone and of our check, without and with whole rows; return our line."""
    job = _job(files, max(given.repeat, 3))
    read = _ask(READ, [job], given).windows["speed"][0]
    reading = median(read["seconds"])
    figure(
        "speed",
        agrees=read["read_rows"] == files.rows,
        threads=read["threads"],
        **_times(READ.name, read, files),
    )
    whole = {**job, "name": WHOLE, "whole_rows": True, "repeat": 1}
    answers = _ask(OURS, [job, whole], given)
    mine = answers.windows["speed"][0]
    for who, line in ((OURS.name, mine), (WHOLE, answers.windows[WHOLE][0])):
        figure(
            "speed", **_times(who, line, files), agrees=set(line["drifted"]) == PLANTED,
            drifted=sorted(line["drifted"]), times_reading=median(line["seconds"]) / reading,
            reference_seconds=answers.references["speed"]["ready_seconds"],
            import_seconds=answers.peer["import_seconds"],
        )  # fmt: skip
    return {**mine, "rows": files.rows, "reading": reading, "drifted": sorted(mine["drifted"])}


def _ask(who: Peer, jobs: list[dict[str, Any]], given: argparse.Namespace) -> Answers:
    """Return the answers of our own environment, without which there is nothing to compare."""
    answers = ask(who.name, environment_of(who, given.environments), COLUMNS, jobs, seconds=given.limit)
    if answers.fault or len(answers.windows) < len(jobs):
        raise SystemExit(f"{who.name}: {answers.fault}")
    return answers


def _times(who: str, line: dict[str, Any], files: Files) -> dict[str, Any]:
    seconds = line["seconds"]
    return {
        **{"who": who, "rows": files.rows, "seconds": median(seconds), "runs": len(seconds)},
        **{"slowest": max(seconds), "peak_mb": line["peak_mb"]},
    }


def _peer(
    name: str, python: Path, folder: Path, files: Files, given: argparse.Namespace
) -> dict[str, Any] | None:
    """Print a peer's figure, on fewer rows where it cannot do all in time; return its facts."""
    while True:
        say(f"{name}: {files.rows:,} rows, at most {given.limit:.0f} s")
        answers = ask(name, python, COLUMNS, [_job(files, given.repeat)], seconds=given.limit)
        line = _only(answers)
        if line:
            return _report_peer(name, answers, line, files)
        figure("speed", who=name, rows=files.rows, seconds=None, agrees=None, fault=answers.fault)
        if not answers.too_slow or files.rows < 20_000:
            return None
        files = write(folder, files.rows // 10, given.seed)


def _report_peer(name: str, answers: Answers, line: dict[str, Any], files: Files) -> dict[str, Any]:
    """Print what a peer needed and named; PSI alone is a function of numbers and cannot name a category."""
    drifted = set(line["drifted"])
    planted = PLANTED if name != "article-psi" else set(MOVED)
    shown = {
        **_times(name, line, files), "agrees": drifted == planted, "all_rows": PEERS[name].all_rows,
        "missed": sorted(planted - drifted), "named_besides": sorted(drifted - planted),
        "reference_seconds": answers.references["speed"]["ready_seconds"],
        "read_seconds": line["read_seconds"],
        "import_seconds": answers.peer["import_seconds"], "versions": answers.peer["versions"],
    }  # fmt: skip
    figure("speed", **shown)
    return {**shown, "drifted": sorted(drifted), "values": line.get("values", {})}


def _distances(ours: dict[str, Any], files: Files) -> None:
    """Print how far our distances on the cells are from scipy's exact ones on all rows."""
    before = pq.read_table(files.reference, columns=list(NUMERIC))
    now = pq.read_table(files.current, columns=list(NUMERIC))
    exact = {
        name: float(stats.ks_2samp(before[name].to_numpy(), now[name].to_numpy(), method="asymp").statistic)
        for name in NUMERIC
    }
    off = {name: exact[name] - ours["values"][name] for name in NUMERIC}
    worst = max(off, key=lambda name: abs(off[name]))
    figure(
        "ks_distance", who="ours", beside="scipy.stats.ks_2samp", rows=files.rows, columns=len(off),
        largest_difference=off[worst], column=worst, exact=exact[worst], ours=ours["values"][worst],
        largest_where_drifted=max(off[name] for name in MOVED),
        agrees=all(-1e-9 <= gap <= KS_WITHIN / files.rows**0.5 for gap in off.values()),
    )  # fmt: skip


def _compare(ours: dict[str, Any], peers: list[dict[str, Any]]) -> None:
    """Print how many times as long the peers take, and what the fastest that uses all rows means for the aim.

    `times_faster` holds our reading of the file and not theirs; with theirs it is `times_faster_from_file`.
    No check that reads the file can be faster than the reading alone: `reading_alone` times.
    """
    mine = median(ours["seconds"])
    for peer in peers:
        more: dict[str, Any] = {}
        if peer["who"] == "alibi" and peer["rows"] == ours["rows"]:
            off = [abs(peer["values"][name] - ours["values"][name]) for name in NUMERIC]
            more["largest_ks_difference"] = max(off)
        figure(
            "speed_ratio", who="ours", beside=peer["who"], rows=peer["rows"], ours_rows=ours["rows"],
            times_faster=peer["seconds"] / mine, reading_alone=peer["seconds"] / ours["reading"],
            times_faster_from_file=(peer["seconds"] + peer["read_seconds"]) / mine,
            same_rows=peer["rows"] == ours["rows"], same_drift=ours["drifted"] == peer["drifted"], **more,
        )  # fmt: skip
    whole = [p for p in peers if p["all_rows"] and p["rows"] == ours["rows"] and p["who"] != "article-psi"]
    if whole:
        best = min(whole, key=lambda peer: peer["seconds"])
        ratio = best["seconds"] / mine
        figure(
            "speed_aim", beside=best["who"], rows=ours["rows"], times_faster=ratio, aim=20, met=ratio >= 20,
            reading_alone=best["seconds"] / ours["reading"],
        )  # fmt: skip
    share = mine / ours["reading"]
    figure("reading_aim", rows=ours["rows"], times_reading=share, aim=2, met=share <= 2)


def _only(answers: Answers) -> dict[str, Any] | None:
    lines = answers.windows.get("speed")
    return None if answers.fault or not lines else lines[0]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("--rows", type=int, default=1_000_000, help="of the reference and of the window each")
    parser.add_argument(
        "--peers", nargs="*", choices=list(PEERS), default=list(PEERS), help="none: ours alone"
    )
    parser.add_argument("--repeat", type=int, default=3, help="checks by each peer; the median counts")
    parser.add_argument("--limit", type=float, default=600, help="seconds for all of a peer's checks")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--environments", type=Path, default=default_folder(), help="folder of the peers' environments"
    )
    parser.add_argument("--scratch", type=Path, default=None, help="folder for data (default: temporary)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
