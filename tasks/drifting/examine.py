"""A window's rows looked at beyond their counts: whole rows, and alibi-detect's tests where asked for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.core.drift.profile import SCORE
from tasks.core.drift.verdict import judge
from tasks.core.errors import DriftError
from tasks.log import task_logger

if TYPE_CHECKING:
    from tasks.core.drift.counting.sample import Sample
    from tasks.core.drift.counting.values import Floats
    from tasks.core.drift.measures.base import Reading
    from tasks.core.drift.past.calendar import Against
    from tasks.core.drift.profile import Profile, Reference
    from tasks.core.drift.verdict import DriftVerdict
    from tasks.core.spec import ModelSpec
    from tasks.drifting.alibi import Theirs


@dataclass(frozen=True)
class Check:
    """Everything that tests beyond the counts are made of."""

    spec: ModelSpec
    reference: Reference
    profile: Profile
    against: Against
    path: str
    reference_rows_path: str | None
    key: bytes | None

    @property
    def seed(self) -> int:
        """The seed of every draw."""
        learnt = self.reference.calibration
        return 0 if learnt is None else learnt.seed

    def judge(self, **more: Any) -> DriftVerdict:  # Any: further arguments of judge
        """Return the verdict with what else is known."""
        return judge(self.reference, self.profile, self.spec, against=self.against, **more)


def examine(check: Check) -> DriftVerdict:
    """Return the verdict with whole rows looked at, and alibi-detect's tests where they are asked for."""
    from tasks.drifting import alibi

    drift = check.spec.drift
    by_rows = drift.detector == "alibi_classifier"
    current = _sample(check) if drift.multivariate or by_rows else None
    joint = _joint(check, current) if current is not None else None
    ours = check.judge(joint=joint)
    if drift.detector == "tabular" and not (drift.compare and alibi.installed()):
        if drift.compare:
            task_logger(__name__).info("alibi-detect is not installed: nothing to compare with")
        return ours
    theirs = {} if by_rows else _their_tests(check)
    their_joint = _their_joint(check, current) if by_rows and current is not None else None
    compared = alibi.compare(ours, theirs, their_joint)
    if drift.detector == "tabular":
        return replace(ours, compared=compared)
    heard = their_joint if their_joint is not None and their_joint.value is not None else joint
    tests = {name: test.outer() for name, test in theirs.items()}
    return check.judge(joint=heard, tests=tests, detector=drift.detector, compared=compared)


def _sample(check: Check) -> Sample | None:
    from tasks.core.drift.counting.sample import MOST_ROWS, sample_codes
    from tasks.drifting.sample import sample_rows

    if check.reference.sample is None:
        return None
    cells = [cell for cell in check.reference.bins if not cell.name.startswith(SCORE)]
    with _readable(check.path, check.spec):
        names = [cell.name for cell in cells]
        rows = sample_rows(check.path, names, min(check.spec.drift.sample, MOST_ROWS), seed=check.seed)
    return sample_codes(rows, cells, key=check.key)


def _joint(check: Check, current: Sample) -> Reading:
    from threadpoolctl import threadpool_limits

    from tasks.core.drift.rows.joint import joint_reading

    with threadpool_limits(1):  # fits this small are slower on more
        return joint_reading(check.reference, check.against, current, seed=check.seed)


def _their_joint(check: Check, current: Sample) -> Reading | None:
    from threadpoolctl import threadpool_limits

    from tasks.core.drift.rows.joint import rows_compared, rows_depend
    from tasks.drifting.alibi import row_test

    found = rows_compared(check.reference, check.against)
    if isinstance(found, str) or rows_depend(check.reference, check.against):
        task_logger(__name__).info("rows depend on each other or are not kept: our own classifier stands")
        return None
    with threadpool_limits(1):
        return row_test(found[0], current.codes, seed=check.seed)


def _their_tests(check: Check) -> dict[str, Theirs]:
    from tasks.core.drift.rows.joint import dispersions_used
    from tasks.drifting.alibi import feature_tests

    return feature_tests(
        check.spec,
        check.reference,
        check.against.profile,
        check.profile,
        dispersions=dispersions_used(check.reference, check.against),
        values=_values(check),
        seed=check.seed,
    )


def _values(check: Check) -> dict[str, tuple[Floats, Floats]]:
    """Return finite values of numeric features in rows of both sides; none without the reference's rows."""
    from tasks.core.drift.counting.values import read_numbers
    from tasks.drifting.sample import sample_rows

    spec, before = check.spec, check.reference_rows_path
    if before is None or check.against.kind != "champion":
        return {}
    sides = []
    for path in (before, check.path):
        with _readable(path, spec):
            sides.append(sample_rows(path, spec.features.numeric, spec.drift.sample, seed=check.seed))
    shared = [name for name in spec.features.numeric if all(name in side for side in sides)]
    return {
        name: (read_numbers(sides[0][name]).finite, read_numbers(sides[1][name]).finite) for name in shared
    }


@contextmanager
def _readable(path: str, spec: ModelSpec) -> Iterator[None]:
    import pyarrow as pa

    try:
        yield
    except (OSError, pa.ArrowException) as err:
        raise DriftError(
            f"no readable Parquet file {Path(path).name} ({type(err).__name__})",
            "the rows of the window",
            "fetch it again",
            model=spec.name,
        ) from err
