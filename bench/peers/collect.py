"""Every detector's checks of every cell: our side as the windows are drawn, the peers from Parquet after."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from bench.peers import ours
from bench.peers.environments import say
from bench.peers.protocol import Check, Columns
from bench.peers.run import ask
from bench.peers.run_article import prepare_with
from bench.peers.scenarios import COLUMNS, RUN, Cell, reference_name, reference_of, windows_of
from bench.peers.scores import Checked
from tasks.core.drift.profile import Reference
from tasks.core.drift.verdict import DriftVerdict
from tasks.core.spec import ModelSpec

Found = dict[str, dict[str, list[Checked]]]  # by detector and by the cell's name
OWN = ("ours", "ours with whole rows")  # judged by their own budget, and nothing is moved
ONLY_TOGETHER = "correlation only"  # no column changes, only how two of them hang together
ARTICLE = {"article-psi-10": 10, "article-psi-20": 20}  # by name, buckets


@dataclass(frozen=True)
class Plan:
    """What is to be checked how often.

    Attributes:
        cells: Kinds of windows.
        references: Among which the checks of a cell are shared equally.
        seed: Of all draws.
        budget: Our false alarms.
        checks: Of a cell by the cheap detectors: keys "undrifted" and "changed".
        peer_checks: The same for the peers, which get the first of the same windows.
        peer_sizes: Rows of the windows that peers are given, by the same keys.
        row_checks: By our check with the classifier over whole rows, of undrifted windows of mixed features
            and of those that only that classifier can tell.
        row_sizes: Rows of those windows.
        seconds: For all of one peer's checks.
    """

    cells: Sequence[Cell]
    references: int
    seed: int
    budget: float
    checks: Mapping[str, int]
    peer_checks: Mapping[str, int]
    peer_sizes: Mapping[str, Sequence[int]]
    row_checks: int
    row_sizes: Sequence[int]
    seconds: float

    def each(self, counts: Mapping[str, int], cell: Cell) -> int:
        """Return how many windows of this cell each reference gets: of changed ones, whole runs."""
        count = counts["changed" if cell.change else "undrifted"]
        part = RUN if cell.change else 1
        return -(-count // (self.references * part)) * part

    def with_whole_rows(self, cell: Cell) -> int:
        """Return how many windows per reference of this cell get the classifier too."""
        asked = (
            cell.family == "mixed" and cell.change in {None, ONLY_TOGETHER} and cell.rows in self.row_sizes
        )
        return -(-self.row_checks // self.references) if asked else 0

    def given_to_peers(self, cell: Cell) -> int:
        """Return how many windows per reference of this cell the peers get."""
        sizes = self.peer_sizes["changed" if cell.change else "undrifted"]
        return self.each(self.peer_checks, cell) if cell.rows in sizes else 0


@dataclass
class _Made:
    """A reference, made once for all cells that use it."""

    spec: ModelSpec
    reference: Reference
    article: dict[str, Check]
    path: Path


@dataclass
class _Work:
    """What has been found and what is left for the peers."""

    found: Found = field(default_factory=lambda: defaultdict(dict))
    jobs: dict[Columns, list[dict[str, Any]]] = field(default_factory=lambda: defaultdict(list))
    made: dict[str, _Made] = field(default_factory=dict)

    def add(self, who: str, cell: Cell, one: Checked) -> None:
        self.found[who].setdefault(cell.name, []).append(one)


def collect(
    plan: Plan, pythons: Mapping[str, Path], folder: Path
) -> Iterator[tuple[list[str], Sequence[Cell], Found]]:
    """Yield detectors and cells as they are done, our side first, with all that has been found.

    What was found is by detector and by the cell's name, in the order of the windows.
    """
    work = _Work()
    for cell in plan.cells:
        say(f"{cell.name}: {plan.each(plan.checks, cell) * plan.references} windows")
        for place in range(plan.references):
            _own_side(plan, work, cell, place, folder, keep=bool(pythons))
        yield [*OWN, *ARTICLE], [cell], work.found
    for name, python in pythons.items():
        before = set(work.found)
        for columns, jobs in work.jobs.items():
            _peer(name, python, columns, jobs, work, plan)
        yield [who for who in work.found if who not in before], plan.cells, work.found


def _own_side(plan: Plan, work: _Work, cell: Cell, place: int, folder: Path, *, keep: bool) -> None:
    """Check the windows of one reference, and write those that the peers get."""
    made = _reference(plan, work, cell, place, folder)
    kept = plan.given_to_peers(cell) if keep else 0
    with_rows = plan.with_whole_rows(cell)
    writer, path = None, folder / f"{cell.name}-{place}.parquet"
    for number, (frame, window) in enumerate(
        windows_of(cell, place, plan.each(plan.checks, cell), plan.seed)
    ):
        verdict = ours.check_frame(frame, made.reference, made.spec, window=window)
        work.add(OWN[0], cell, _ours(verdict))
        if number < with_rows:
            whole = ours.check_frame(frame, made.reference, made.spec, window=window, rows=True)
            work.add(OWN[1], cell, _ours(whole))
        for who, check in made.article.items():
            said = check(frame)
            work.add(who, cell, Checked(said.alarm, said.score, frozenset(said.drifted)))
        if number < kept:
            table = pa.Table.from_pandas(frame, preserve_index=False)
            writer = writer or pq.ParquetWriter(path, table.schema)
            writer.write_table(table.cast(writer.schema), row_group_size=len(frame))
    if writer:
        writer.close()
        job = {"name": f"{cell.name}|{place}", "reference": str(made.path), "windows": str(path)}
        job |= {"rows": cell.rows, "limit": kept, "numbers": True, "compare": place == 0}
        work.jobs[COLUMNS[cell.family]].append(job)


def _reference(plan: Plan, work: _Work, cell: Cell, place: int, folder: Path) -> _Made:
    name = reference_name(cell, place)
    if name not in work.made:
        frame, times = reference_of(cell, place, plan.seed)
        columns = COLUMNS[cell.family]
        spec = ours.spec_of(columns, plan.budget)
        path = folder / f"reference-{name}.parquet"
        frame.to_parquet(path, index=False)
        article = {who: prepare_with(frame, columns, buckets) for who, buckets in ARTICLE.items()}
        work.made[name] = _Made(spec, ours.build(frame, spec, times=times, seed=place), article, path)
    return work.made[name]


def _ours(verdict: DriftVerdict) -> Checked:
    noticed = any(
        one.p_value is not None and one.alpha is not None and one.p_value <= one.alpha
        for feature in verdict.features
        for one in feature.measures
    )
    alarm = verdict.outcome == "drift"
    undecided = verdict.outcome == "undecided" or any(f.outcome == "undecided" for f in verdict.features)
    return Checked(alarm, None, frozenset(verdict.drifted), undecided and not alarm, noticed)


def _peer(
    name: str, python: Path, columns: Columns, jobs: list[dict[str, Any]], work: _Work, plan: Plan
) -> None:
    """Let one peer check its windows; what it does not do in time is missing from its figures."""
    say(f"{name}: {sum(job['limit'] for job in jobs)} windows against {len(jobs)} references")
    answers = ask(name, python, columns, jobs, seconds=plan.seconds)
    if answers.fault:
        say(f"{name}: {answers.fault}")
    cells = {cell.name: cell for cell in plan.cells}
    for job in jobs:
        for line in answers.windows.get(job["name"], []):
            cell = cells[job["name"].partition("|")[0]]
            work.add(name, cell, Checked(line["alarm"], line["score"], frozenset(line["drifted"])))
            if "dataset_drift" in line:
                preset = Checked(line["dataset_drift"], line["share"] * 2, frozenset(line["drifted"]))
                work.add(f"{name} (half of the columns)", cell, preset)
