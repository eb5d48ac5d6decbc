"""`python -m serving.explain REQUEST_ID --model M`: how one answer came about, from inputs to score."""

from __future__ import annotations

import argparse
import hmac
import json
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from serving.answer import masked
from serving.holder import Partner, Served, take
from serving.request import BadRows
from serving.scoring import PairScorer, Scorer, frame_of, one_thread_here
from serving.walk import Step, walk
from tasks.core.errors import RegistryError, SpecError, WorkflowError
from tasks.core.model.bundle import plain
from tasks.core.policy.partners import pair_text
from tasks.settings import Settings
from tasks.store import registry
from tasks.store.asked import Asked, find_asked
from tasks.store.catalog import is_held
from tasks.store.engine import open_store

_LONGEST_ID = 500


class NotAsked(SpecError):
    """No such prediction in the log."""


class OtherInputs(SpecError):
    """Values that are not those which were answered."""


@dataclass(frozen=True)
class Half:
    """What one of two versions says by itself."""

    version: int
    prediction: Any  # Any: a label of any type, or a number
    score: Any  # Any: probabilities, or None


@dataclass(frozen=True)
class Explained:
    """An answer, retraced. `steps` are those of `version`, `partner_steps` those of the version beside it.

    With a partner `halves` are the answers of both, the champion's first, and `again` is their mean.

    `unknown` are sensitive inputs that the log has hashes of: with any, no steps. `reproduces` says whether
    the very numbers of the log come out again; None: that cannot be told.
    """

    model: str
    prediction_id: str
    version: int
    is_champion: bool
    served_at: datetime
    route: str | None
    prediction: Any  # Any: a label of any type, or a number
    score: Any  # Any: probabilities, or None
    inputs: Mapping[str, Any]  # Any: JSON scalars
    unknown: tuple[str, ...]
    steps: tuple[Step, ...]
    partner: int | None
    partner_steps: tuple[Step, ...]
    halves: tuple[Half, ...]
    again: Any  # Any: as `prediction`
    again_score: Any  # Any: as `score`
    reproduces: bool | None
    says: str

    def as_json(self) -> dict[str, Any]:  # Any: JSON
        """Return it as JSON; a number that is none (a missing value within the pipeline) is null."""
        whole = plain({**asdict(self), "steps": [], "partner_steps": []})
        return {
            **whole,
            "steps": _steps_json(self.steps),
            "partner_steps": _steps_json(self.partner_steps),
        }


def _steps_json(steps: Sequence[Step]) -> list[dict[str, Any]]:  # Any: JSON
    return [
        {"step": one.name, "values": {name: plain(v) for name, v in one.values}}
        | ({"trouble": one.trouble} if one.trouble else {})
        for one in steps
    ]


def find(model: str, named: str, settings: Settings) -> Asked:
    """Return the prediction of this id, or the first of the request of this id.

    Raises:
        NotAsked: when the database holds none.
    """
    is_id = 0 < len(named) <= _LONGEST_ID and named.isprintable()  # no half character, no NUL
    asked = find_asked(open_store(settings), model, named) if is_id else None
    if asked is None:
        raise NotAsked(
            "no prediction of this id in the database",
            "the id of a prediction (REQUEST/INDEX) or of a request",
            "look in the files of the log if it is older than serving.keep",
            model=model,
        )
    return asked


def version_of(asked: Asked, current: Served | None, settings: Settings) -> Served:
    """Return what answered, the version with its partner: the one at hand, or else loaded from the registry.

    Raises:
        RegistryError: when either is not there any more, or was not made here.
    """
    served = _loaded(asked.model, asked.version, current, settings)
    if asked.partner is None:
        return replace(served, partner=None)
    if served.partner is not None and served.partner.version == asked.partner:
        return served
    partner = _loaded(asked.model, asked.partner, None, settings)
    return replace(served, partner=Partner(partner, PairScorer(served.scorer, partner.scorer)))


def _loaded(model: str, number: int, current: Served | None, settings: Settings) -> Served:
    if current is not None and current.version == number:
        return current
    version = registry.find_version(model, number, settings=settings)
    if not is_held(open_store(settings), version):
        raise RegistryError(
            f"version {number}, of which this store knows nothing",
            "a version that was made here",
            "do not load it",
            model=model,
        )
    return take(version, settings)


def explain(asked: Asked, served: Served, *, key: bytes, given: Mapping[str, Any] | None = None,
            is_champion: bool = True) -> Explained:  # Any: JSON scalars  # fmt: skip
    """Return the answer retraced by the version that gave it.

    Args:
        asked: the prediction as the log has it.
        served: the version that answered.
        key: of the hashes that stand for sensitive values.
        given: the values of sensitive inputs (others may stand beside them); each is checked against the log.
        is_champion: whether this version answers now.

    Raises:
        OtherInputs: when a given value is not the one that was answered.
        BadRows: when a given value breaks the contract.
    """
    if asked.inputs is None:
        return _untold(asked, {}, served.checker.names, "The log kept no inputs of it.", is_champion)
    row = _whole_row(asked.inputs, served, given or {}, key)
    unknown = tuple(name for name in served.checker.names if name not in row)
    if unknown:
        says = f"The log has hashes of {', '.join(unknown)} only; give the values to retrace it."
        return _untold(asked, row, unknown, says, is_champion)
    one_thread_here()
    partner = served.partner
    versions = [served, *([partner.served] if partner else [])]
    steps, *others = [walk(one.model, frame_of([row], one.spec)) for one in versions]
    partner_steps = others[0] if others else ()
    every = (*steps, *partner_steps)
    lost = "".join(f" Step {one.name} cannot be followed ({one.trouble})." for one in every if one.trouble)
    try:
        whole = _half(served.version, partner.scorer if partner else served.scorer, row)
        halves = tuple(_half(one.version, one.scorer, row) for one in versions) if partner else ()
    except Exception as err:  # of the version's own; its text may hold values
        says = f"The version gives no answer to this now ({type(err).__name__}).{lost}"
        untold = _untold(asked, row, (), says, is_champion)
        return replace(untold, steps=steps, partner_steps=partner_steps, reproduces=False)
    same = (whole.prediction, whole.score) == (asked.prediction, asked.score)
    says = "The version gives the same numbers again." if same else _differs(whole.score, asked.score)
    return Explained(
        **_told(asked, row, is_champion),
        unknown=(),
        steps=steps,
        partner_steps=partner_steps,
        halves=halves,
        again=whole.prediction,
        again_score=whole.score,
        reproduces=same,
        says=says + lost,
    )


def _half(version: int, scorer: Scorer | PairScorer, row: Mapping[str, Any]) -> Half:  # Any: checked values
    [answer] = scorer.answers([row])
    score = list(answer["probabilities"].values()) if "probabilities" in answer else None
    return Half(version, answer["prediction"], score)


def _whole_row(
    logged: Mapping[str, Any], served: Served, given: Mapping[str, Any], key: bytes
) -> dict[str, Any]:  # Any: JSON scalars
    """Return the inputs that are known: those of the log, and given ones that are the same as it has."""
    sensitive = {name for name in served.spec.features.sensitive if logged.get(name) is not None}
    known = {name: logged.get(name) for name in served.checker.names if name not in sensitive}
    if not given:
        return known
    row = {**{name: given[name] for name in sensitive if name in given}, **known}
    row |= {name: value for name, value in given.items() if name not in sensitive}
    if sensitive - set(row):
        lacking = sorted(sensitive - set(row))
        raise OtherInputs(f"values without {lacking}", "the value of every sensitive input that had one")
    [checked] = served.checker.check([row])
    kept = masked(served, checked, key)
    wrong = [name for name in served.checker.names if not _is_same(kept[name], logged.get(name))]
    if wrong:
        raise OtherInputs(f"another value of {wrong[:5]}", "the values that were answered")
    return {name: checked[name] for name in served.checker.names}


def _is_same(one: object, other: object) -> bool:
    if isinstance(one, str) and isinstance(other, str):
        return hmac.compare_digest(one.encode(), other.encode())
    return one == other and isinstance(one, bool) == isinstance(other, bool)


def _told(asked: Asked, row: Mapping[str, Any], is_champion: bool) -> dict[str, Any]:  # Any: fields
    return {
        "model": asked.model,
        "prediction_id": asked.prediction_id,
        "version": asked.version,
        "is_champion": is_champion,
        "served_at": asked.served_at,
        "route": asked.route,
        "partner": asked.partner,
        "prediction": asked.prediction,
        "score": asked.score,
        "inputs": row,
    }


def _untold(
    asked: Asked, row: Mapping[str, Any], unknown: Sequence[str], says: str, is_champion: bool
) -> Explained:  # Any: JSON scalars
    return Explained(
        **_told(asked, row, is_champion), unknown=tuple(unknown), steps=(), partner_steps=(), halves=(),
        again=None, again_score=None, reproduces=None, says=says,
    )  # fmt: skip


def _differs(one: Any, other: Any) -> str:  # Any: probabilities or None
    if isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        largest = max((abs(a - b) for a, b in zip(one, other, strict=True)), default=math.nan)
        return (
            f"The version gives other numbers now, by {largest:.3g} at most: compare the libraries' versions."
        )
    return "The version gives another answer now: compare the libraries' versions."


def main(argv: Sequence[str] | None = None) -> int:
    """Print how the answer came about; return the exit code."""
    parser = argparse.ArgumentParser("python -m serving.explain", description=__doc__)
    parser.add_argument("named", metavar="REQUEST_ID", help="of a request, or REQUEST_ID/INDEX of one row")
    parser.add_argument("--model", required=True, help="which was asked")
    parser.add_argument(
        "--row", metavar="FILE", help="JSON of the sensitive inputs, which the log has no values of; -: stdin"
    )
    args = parser.parse_args(argv)
    place = Settings()
    try:
        given = _read(args.row) if args.row else None
        asked = find(args.model, args.named, place)
        served = version_of(asked, None, place)
        told = explain(asked, served, key=place.masking_key(), given=given)
    except BadRows as err:
        sys.stderr.write("".join(f"{one.field}: {one.problem}\n" for one in err.problems))
        return 2
    except WorkflowError as err:
        sys.stderr.write(f"{type(err).__name__}: {err}\n")
        return 2
    except Exception as err:  # of the store, a file or the model; its text may hold values
        sys.stderr.write(f"the answer cannot be retraced ({type(err).__name__})\n")
        return 2
    sys.stdout.write(_as_text(told))
    return 0 if told.reproduces is not False else 1


def _read(path: str) -> dict[str, Any]:  # Any: JSON scalars
    text = sys.stdin.read() if path == "-" else Path(path).read_text("utf-8")
    try:
        given = json.loads(text)
    except ValueError as err:
        raise SpecError("inputs that are no JSON", '{"field": value, …}') from err
    if not isinstance(given, dict):
        raise SpecError(f"inputs that are a {type(given).__name__}", '{"field": value, …}')
    return given


def _as_text(told: Explained) -> str:
    lines = [
        f"{told.prediction_id} · {told.model} {pair_text(told.version, told.partner)} · "
        f"{told.served_at:%Y-%m-%d %H:%M:%S}"
    ]
    lines += ["", "inputs", *(f"  {name}: {_shown(value)}" for name, value in told.inputs.items())]
    lines += [f"  {name}: (hash only)" for name in told.unknown]
    for number, steps in ((told.version, told.steps), (told.partner, told.partner_steps)):
        beside = f" (version {number})" if told.partner is not None else ""
        for step in steps:
            lines += ["", step.name + beside, *(f"  {name}: {_shown(value)}" for name, value in step.values)]
            lines += [f"  (cannot be followed: {step.trouble})"] if step.trouble else []
    for half in told.halves:
        lines += ["", f"version {half.version}, half the vote"]
        lines += [f"  {_shown(half.prediction)}  {_shown(half.score)}"]
    answer = "answer, the mean" if told.partner is not None else "answer"
    lines += ["", answer, f"  {_shown(told.prediction)}  {_shown(told.score)}", "", told.says]
    return "\n".join(lines) + "\n"


def _shown(value: Any) -> str:  # Any: whatever a step gives
    is_missing = value is None or (isinstance(value, float) and math.isnan(value))
    return "missing" if is_missing else str(value)


if __name__ == "__main__":
    raise SystemExit(main())
