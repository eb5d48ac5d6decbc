"""False alarms, power and delay of our check, of its peers' and of PSI > 0.25, on the same draws.

Undrifted windows of 30 mixed features, of AR(0.9) series and with a weekend effect tell how often each
detector cries wolf at its defaults. Then the one number that moves a peer is set so that it alarms on no
more undrifted windows than our budget allows, and all are given windows that did change. Prints one JSON line
per figure; `--out` gets the tables. Run as `python -m bench.alarms_beside_peers`.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench import draws
from bench.peers.collect import OWN, Plan, collect
from bench.peers.environments import PEERS, available, default_folder, say
from bench.peers.figures import figure
from bench.peers.paper import write_tables
from bench.peers.scenarios import RUN, SAYS, Cell
from bench.peers.scores import Checked, delays, found_at, interval, limit_at, share, typical

OUTSIDE = [name for name, peer in PEERS.items() if peer.lock]
Checks = dict[str, list[Checked]]  # of one detector, by the cell's name


def main(argv: Sequence[str] | None = None) -> int:
    """Draw, check, and print a line per figure."""
    given = _parser().parse_args(argv)
    pythons, failed = available(given.peers, given.environments)
    plan = Plan(
        cells=_cells(given), references=given.references, seed=given.seed, budget=given.false_alarms,
        checks={"undrifted": given.checks, "changed": given.power_checks},
        peer_checks={"undrifted": given.peer_checks, "changed": given.peer_power_checks},
        peer_sizes={"undrifted": _all_sizes(given), "changed": given.peer_power_sizes},
        row_checks=given.row_checks, row_sizes=given.row_sizes,
        seconds=given.limit,
    )  # fmt: skip
    lines = [figure("left_out", who=name, fault=why) for name, why in failed.items()]
    with tempfile.TemporaryDirectory(prefix="evergreen-bench-", dir=given.scratch) as place:
        for names, cells, found in collect(plan, pythons, Path(place)):
            new = [(who, cell) for cell in cells for who in names if cell.name in found.get(who, {})]
            lines += [
                _power(who, cell, found[who], plan)
                if cell.change
                else _false_alarms(who, cell, found[who], plan)
                for who, cell in new
            ]
    if given.out:
        write_tables(given.out, lines, plan.budget)
        say(f"tables in {given.out}")
    return 0


def _cells(given: argparse.Namespace) -> list[Cell]:
    cells = [Cell("mixed", rows) for rows in sorted({*given.sizes, *given.power_sizes})]
    cells += [Cell(family, rows) for family in ("series", "weekend") for rows in given.dependent_sizes]
    for rows in given.power_sizes:
        cells += [Cell("mixed", rows, change) for change in (*draws.CHANGES, "ramp")]
    return cells


def _all_sizes(given: argparse.Namespace) -> list[int]:
    return [n for n in {*given.sizes, *given.dependent_sizes, *given.power_sizes} if n <= given.peer_rows]


def _false_alarms(who: str, cell: Cell, mine: Checks, plan: Plan) -> dict[str, Any]:
    checks = mine[cell.name]
    alarms = [one.alarm for one in checks]
    low, high = interval(sum(alarms), len(alarms))
    return figure(
        "false_alarms", who=who, draws=SAYS[cell.family], family=cell.family, rows=cell.rows,
        checks=len(checks), alarms=share(alarms), low=low, high=high, budget=plan.budget,
        within=share(alarms) <= plan.budget, beyond_chance=low > plan.budget,
        undecided=share([one.undecided for one in checks]), **_noticed(checks),
    )  # fmt: skip


def _power(who: str, cell: Cell, mine: Checks, plan: Plan) -> dict[str, Any]:
    checks, base = mine[cell.name], mine.get(Cell(cell.family, cell.rows).name, [])
    limit = None if who in OWN else limit_at(base, plan.budget)
    caught = found_at(checks, limit)
    waited = delays(caught, RUN)
    return figure(
        "power", who=who, change=cell.change, rows=cell.rows, checks=len(checks), found=share(caught),
        limit_moved_to=limit, alarms_when_undrifted=share(found_at(base, limit)), undrifted_checks=len(base),
        found_at_defaults=share([one.alarm for one in checks]),
        named_at_defaults=share([bool(one.drifted & cell.changed) for one in checks]),
        delay_windows=typical(waited), never_caught=share([one is None for one in waited]), runs=len(waited),
        run=RUN, **_noticed(checks),
    )  # fmt: skip


def _noticed(checks: Sequence[Checked]) -> dict[str, float]:
    known = [one.noticed for one in checks if one.noticed is not None]
    return {"noticed": share(known)} if known else {}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    add = parser.add_argument
    sizes = [50, 200, 1_000, 10_000, 100_000]
    add("--sizes", type=int, nargs="*", default=sizes, help="rows of undrifted windows")
    add(
        "--dependent-sizes", type=int, nargs="*", default=[200, 1_000], help="the same of series and weekends"
    )
    add("--power-sizes", type=int, nargs="*", default=[200, 1_000, 10_000], help="rows of changed windows")
    add("--checks", type=int, default=1_000, help="undrifted checks per size by ours and PSI")
    add("--power-checks", type=int, default=200, help="checks per change and size by ours and PSI")
    add("--peers", nargs="*", choices=OUTSIDE, default=OUTSIDE, help="none: ours and PSI alone")
    add("--peer-checks", type=int, default=200, help="undrifted checks per size by each peer")
    add("--peer-power-checks", type=int, default=100, help="checks per change and size by each peer")
    add("--peer-rows", type=int, default=10_000, help="most rows of an undrifted window for peers")
    add("--peer-power-sizes", type=int, nargs="*", default=[1_000], help="those of them given to the peers")
    add("--row-checks", type=int, default=20, help="checks per size with our classifier over whole rows too")
    add("--row-sizes", type=int, nargs="*", default=[1_000], help="rows of those windows")
    add("--references", type=int, default=10, help="references among which the checks are shared")
    add("--false-alarms", type=float, default=0.01, help="our budget, to which the peers are moved")
    add("--limit", type=float, default=3_600, help="seconds for all checks of one peer")
    add("--seed", type=int, default=1)
    add("--environments", type=Path, default=default_folder(), help="folder of the peers' environments")
    add("--scratch", type=Path, default=None, help="folder for windows (default: temporary)")
    add("--out", type=Path, default=None, help="folder for the tables")
    return parser


if __name__ == "__main__":
    sys.exit(main())
