"""Cross-column checks of a contract, by registered name or import string."""

from __future__ import annotations

from collections.abc import Callable
from difflib import get_close_matches
from importlib import import_module

import numpy as np
import numpy.typing as npt
import pandas as pd

from tasks.core.errors import ContractError, SpecError
from tasks.core.importing import check_home, check_named
from tasks.core.spec import ModelSpec

CrossCheck = Callable[[pd.DataFrame, ModelSpec], "pd.Series[bool]"]

_REGISTRY: dict[str, CrossCheck] = {}


def register_check(name: str) -> Callable[[CrossCheck], CrossCheck]:
    """Return a decorator that makes a function usable under `contract.checks` by this name.

    The function gets the rows that satisfy every column rule, in the contract's types, and the spec; it
    returns one boolean per row, True where the row is good.
    """

    def keep(function: CrossCheck) -> CrossCheck:
        if _REGISTRY.setdefault(name, function) is not function:
            raise SpecError(f"cross-column check {name!r} registered twice", "one function per name")
        return function

    return keep


def find_check(name: str) -> CrossCheck:
    """Return the check of this registered name, or the function at this import string.

    Raises:
        SpecError: when there is no such check; the message lists what there is.
    """
    if name in _REGISTRY:
        return _REGISTRY[name]
    separator = ":" if ":" in name else "."
    module, _, function = name.rpartition(separator)
    if not module:
        close = get_close_matches(name, _REGISTRY, n=1)
        hint = f"did you mean {close[0]!r}?" if close else "correct the name, or write module:function"
        raise SpecError(
            f"contract.checks names {name!r}", f"one of {sorted(_REGISTRY)} or an import string", hint
        )
    check_named(name, field="contract.checks")
    try:
        found = getattr(import_module(module), function)
    except (ImportError, AttributeError, ValueError) as err:
        raise SpecError(
            f"contract.checks names {name!r}, which cannot be imported ({type(err).__name__})",
            "an importable module:function",
            "correct the import string, or put the module on the path",
        ) from err
    if not callable(found):
        raise SpecError(
            f"contract.checks names {name!r}, which is no function", "a function of frame and spec"
        )
    check_home(found, name, field="contract.checks")
    return found  # type: ignore[no-any-return]  # what it returns is checked when it is run


def broken_rows(frame: pd.DataFrame, spec: ModelSpec, name: str) -> npt.NDArray[np.bool_]:
    """Return where rows break the check; a missing answer counts as broken, because silence is not ok.

    A check that needs a column of the spec which this frame lacks (the label of rows to be scored) does
    not apply.

    Raises:
        ContractError: when the check itself fails, or gives anything but one boolean per row.
    """
    check = find_check(name)
    try:
        answer = check(frame.copy(deep=False), spec)
    except KeyError as err:
        absent = err.args[0] if err.args else None
        if absent in spec.columns and absent not in frame:
            return np.zeros(len(frame), dtype=bool)  # e.g. on the label, where it is not known yet
        raise _failed(name, err, spec) from None
    except Exception as err:
        # Its own text may hold row values, so it is neither repeated nor chained.
        raise _failed(name, err, spec) from None
    kept = pd.Series(answer).astype(object) if np.ndim(answer) == 1 else pd.Series(dtype=object)
    if (
        len(kept) != len(frame)
        or not kept.map(lambda value: isinstance(value, bool | np.bool_) or pd.isna(value)).all()
    ):
        raise ContractError(
            f"cross-column check {name!r} gave no boolean per row",
            f"{len(frame)} booleans, True where a row is good",
            "correct what the check returns",
            model=spec.name,
        )
    return ~kept.map(lambda value: value is True or value is np.True_).to_numpy(dtype=bool)


def _failed(name: str, err: Exception, spec: ModelSpec) -> ContractError:
    return ContractError(
        f"cross-column check {name!r} raised {type(err).__name__}",
        "one boolean per row",
        "run the check on these rows by hand and correct it",
        model=spec.name,
    )


@register_check("updated_not_before_timestamp")
def _updated_not_before_timestamp(frame: pd.DataFrame, spec: ModelSpec) -> pd.Series[bool]:
    """Where a row was last written no earlier than its event happened; a row never rewritten is good."""
    updated = spec.source.updated
    if updated is None or updated not in frame:
        return pd.Series(True, index=frame.index)
    return (frame[updated] >= frame[spec.source.timestamp]) | frame[updated].isna()


@register_check("some_feature_known")
def _some_feature_known(frame: pd.DataFrame, spec: ModelSpec) -> pd.Series[bool]:
    """Where at least one feature has a value: a row without any says nothing."""
    return frame[spec.features.all].notna().any(axis=1)
