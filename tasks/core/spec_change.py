"""What a changed model block means for the champion that was trained under an earlier one."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from tasks.core.spec import ModelSpec
from tasks.core.spec_parts import Contract, Features


@dataclass(frozen=True)
class SpecChange:
    """How this block differs from the one the champion was trained under.

    `lost` are features that only the champion looks at, `added` those that only this block names, `retyped`
    those that were numbers and are categories by now, or the other way round. `label` is the champion's
    label column where this block names another.
    """

    lost: tuple[str, ...] = ()
    added: tuple[str, ...] = ()
    retyped: tuple[str, ...] = ()
    label: str = ""

    @property
    def is_none(self) -> bool:
        """True where the champion has the features and the label of this block."""
        return self == SpecChange()

    def sentence(self, version: int) -> str:
        """Return what differs from this version; empty where nothing does.

        Example:
            >>> SpecChange(lost=("amount",), added=("sum",)).sentence(1)
            "version 1 also looks at 'amount', does not look at 'sum', unlike this model block"
        """
        parts = [f"also looks at {_quoted(self.lost)}"] if self.lost else []
        parts += [f"does not look at {_quoted(self.added)}"] if self.added else []
        parts += [f"takes {_quoted(self.retyped)} for another type"] if self.retyped else []
        parts += [f"was trained on the label {self.label!r}"] if self.label else []
        return f"version {version} {', '.join(parts)}, unlike this model block" if parts else ""


def spec_change(spec: ModelSpec, champion: ModelSpec) -> SpecChange:
    """Return how the block differs in features and label from that of the champion."""
    now, then = spec.features, champion.features
    moved = {*now.numeric} & {*then.categorical} | {*now.categorical} & {*then.numeric}
    return SpecChange(
        lost=tuple(name for name in then.all if name not in now.all),
        added=tuple(name for name in now.all if name not in then.all),
        retyped=tuple(sorted(moved)),
        label="" if spec.label.column == champion.label.column else champion.label.column,
    )


def as_served(spec: ModelSpec, champion: ModelSpec) -> ModelSpec:
    """Return the block with the features that the champion looks at, to score and watch it by.

    Rules of the contract on features the champion does not know are left out, and those it was trained
    under come back for the features that this block no longer names.
    """
    if (change := spec_change(spec, champion)).is_none or not (change.lost or change.added or change.retyped):
        return spec
    features = champion.features
    marks = {spec.source.key, spec.source.timestamp}
    served = spec.model_copy(update={"features": features.model_copy(update=_without(features, marks))})
    known = {*served.columns}
    rules = {name: rule for name, rule in spec.contract.columns.items() if name in known}
    rules |= {
        name: champion.contract.columns[name] for name in change.lost if name in champion.contract.columns
    }
    limits = {"max_bad_share": spec.contract.max_bad_share, "checks": list(spec.contract.checks)}
    contract = Contract.model_validate(
        {**limits, **{name: rule.model_dump() for name, rule in rules.items()}}
    )
    return served.model_copy(update={"contract": contract})


def beside(spec: ModelSpec, champion: ModelSpec, present: Iterable[str] | None = None) -> ModelSpec:
    """Return the block which also reads the champion's own features, so that both can score the same rows.

    Args:
        spec: The block.
        champion: That of the champion.
        present: Columns that the source has; default: all of them.
    """
    taken = {*spec.columns} if spec.beside is None else {*spec.columns} - {*spec.beside.all}
    there = None if present is None else {*present}
    lost = {name for name in champion.features.all if name not in taken and (there is None or name in there)}
    if not lost:
        return spec.reading(None)
    other = {name for name in champion.features.all if name not in lost}
    return spec.reading(champion.features.model_copy(update=_without(champion.features, other)))


def _without(features: Features, names: set[str]) -> dict[str, list[str]]:
    parts = {part: getattr(features, part) for part in ("numeric", "categorical", "sensitive")}
    return {part: [name for name in columns if name not in names] for part, columns in parts.items()}


def _quoted(names: Iterable[str]) -> str:
    return ", ".join(map(repr, names))[:200]
