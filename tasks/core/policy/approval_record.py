"""What waits for a person as Markdown: champion and challenger side by side, until when, and what to type."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from tasks.core.model.bundle import Manifest
from tasks.core.policy.approval import Waiting
from tasks.core.records.text import code, fenced, number, said, table


@dataclass(frozen=True)
class Shelf:
    """Everything a person needs in order to rule on a version; `chosen` is the one looked at.

    `waiting` is what waits, oldest first; `serving` the version that serves now, None where there is none.
    """

    model: str
    serving: int | None
    waiting: tuple[Waiting, ...]
    chosen: int | None = None
    manifest: Manifest | None = None

    @property
    def one(self) -> Waiting | None:
        """The chosen version's entry among those that wait; None where it does not wait."""
        return next((item for item in self.waiting if item.version == self.chosen), None)

    def sentence(self) -> str:
        """Return what waits as one line."""
        now = f"version {self.serving} serves" if self.serving is not None else "no version serves yet"
        if self.chosen is None:
            return f"nothing waits for approval; {now}"
        one = self.one
        if one is None:
            return f"version {self.chosen} does not wait, approving it takes a reason of your own; {now}"
        late = "" if not one.is_overtaken(self.serving) else f"; it was compared with {_named(one.against)}"
        return f"version {one.version} waits until {_stamp(one.until)}: {one.why}; {now}{late}"


def shelf_markdown(shelf: Shelf) -> str:
    """Return the page a person reads before approving or rejecting."""
    title = f"## {said(shelf.model)}: " + (
        f"version {shelf.chosen}" + (" waits for approval" if shelf.one else " does not wait")
        if shelf.chosen is not None
        else "nothing waits for approval"
    )
    lines = [title, "", said(shelf.sentence()), ""]
    if shelf.manifest is not None:
        lines += [*_compared(shelf.manifest, shelf), "", *_made_of(shelf.manifest), ""]
    if shelf.one and shelf.one.is_overtaken(shelf.serving):
        lines += [
            f"**It was compared with {_named(shelf.one.against)}, and that one no longer serves:** approving "
            "it will be refused. Retrain, so that the gate compares it with what serves.",
            "",
        ]
    lines += [*_others(shelf), *_how(shelf)]
    return "\n".join(lines).rstrip() + "\n"


def _compared(manifest: Manifest, shelf: Shelf) -> list[str]:
    gate, mine = manifest.gate, _numbers(manifest.training.get("metrics"))
    theirs = _numbers(manifest.training.get("champion_metrics"))
    metric, before = manifest.promise.metric, manifest.training.get("champion_version")
    main = (metric, gate.get("challenger_score"), gate.get("champion_score"))
    others = [(name, mine.get(name), theirs.get(name)) for name in {**mine, **theirs} if name != metric]
    rows = [(name, number(one), number(other)) for name, one, other in (main, *others)]
    spread = f"{number(gate.get('difference'))} ({number(gate.get('low'))} to {number(gate.get('high'))})"
    why = "; ".join(str(reason) for reason in gate.get("reasons") or ())
    return [
        *table(("higher is better", f"version {shelf.chosen}", _named(before)), rows),
        "",
        f"The gate said **{said(gate.get('outcome'))}**: {said(why)}.",
        "",
        f"Difference {spread} on {gate.get('rows') or 0:,} rows that neither version has learnt from.",
    ]


def _made_of(manifest: Manifest) -> list[str]:
    commit = str(manifest.code.get("commit") or "unknown")[:12]
    dirty = " with uncommitted changes" if manifest.code.get("dirty") else ""
    return [
        f"Trained on {manifest.training.get('train_rows') or 0:,} rows of {manifest.train_window}, "
        f"code {said(commit)}{dirty}, snapshot {code(str(manifest.snapshot.get('sha256'))[:12])}, "
        f"attempt {code(manifest.attempt)}."
    ]


def _others(shelf: Shelf) -> list[str]:
    rest = [item for item in shelf.waiting if item.version != shelf.chosen]
    rows = [(item.version, _stamp(item.since), _stamp(item.until), item.why) for item in rest]
    return ["Also waiting:", "", *table(("version", "since", "until", "why"), rows), ""] if rest else []


def _how(shelf: Shelf) -> list[str]:
    if shelf.chosen is None:
        return []
    line = f"python flows/promote.py --model {shelf.model} --version {shelf.chosen} --actor YOU --reason WHY"
    verdicts = ("approve", "reject") if shelf.one else ("approve",)
    return fenced("\n".join(f"{line} --verdict {verdict}" for verdict in verdicts), "sh")


def _named(version: object) -> str:
    return f"version {version}" if version is not None else "a guess (no champion then)"


def _stamp(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M}Z"


def _numbers(found: object) -> Mapping[str, float]:
    return found if isinstance(found, Mapping) else {}
