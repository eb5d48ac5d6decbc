"""Objects named in a spec by import string: scikit-learn's estimators, and code of this place's own packages.

A spec may be typed in a form, so it names no callable of just any module: only what is defined in code of
the user's own. That is the packages that `EVERGREEN_CODE` lists; where it is not set, `models` and every
module on the path that is neither installed, nor Python's, nor this project's.
"""

from __future__ import annotations

import os
import site
import sysconfig
from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import BuiltinFunctionType, FunctionType
from typing import Any

from tasks.core.errors import SpecError
from tasks.core.spec import ModelSpec
from tasks.core.spec_estimator import is_part

OWN_CODE = "models"
_PARTS = "estimator.params"
_OURS = frozenset({"tasks", "flows", "serving", "deployments", "bench", "tests", "__main__"})
# Whose functions and classes a module of one's own may pass on under its own name.
_LIBRARIES = frozenset({"sklearn", "numpy", "scipy", "pandas"})


def own_packages() -> tuple[str, ...] | None:
    """Return the packages whose code a spec of this place may name, from `EVERGREEN_CODE`; None: not set."""
    named = os.environ.get("EVERGREEN_CODE")
    return None if named is None else tuple(part.strip() for part in named.split(",") if part.strip())


def is_own(module: str) -> bool:
    """Return whether a spec of this place may name what this module defines; the module is not imported."""
    listed, top = own_packages(), module.partition(".")[0]
    if listed is not None:
        return any(f"{module}.".startswith(f"{package}.") for package in listed)
    if top == OWN_CODE or top in _OURS:
        return top == OWN_CODE
    try:
        found = find_spec(top)
    except ValueError:  # of a module that was made by hand, such as __main__
        return False
    places = [Path(place) for place in (found.submodule_search_locations or ())] if found else []
    if found and found.has_location and found.origin:
        places.append(Path(found.origin))
    return bool(places) and not any(place.is_relative_to(home) for place in places for home in _installed())


def _installed() -> set[str]:
    """Return the folders of Python's own modules and of installed ones."""
    paths = sysconfig.get_paths()
    known = {paths[name] for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    return {*known, *site.getsitepackages(), site.getusersitepackages()}


def _expected() -> str:
    listed = own_packages()
    if listed is None:
        return f"code of your own, in {OWN_CODE} or another module that is not installed"
    return f"code in {', '.join(listed) or 'no package at all'}, as EVERGREEN_CODE lists packages"


def check_named(path: str, *, field: str) -> None:
    """Return nothing where a spec of this place may name what stands at this import string.

    Raises:
        SpecError: otherwise; nothing was imported.
    """
    module = path.rpartition(":" if ":" in path else ".")[0]
    if module == "sklearn" or module.startswith("sklearn.") or (field == _PARTS and module == "numpy"):
        return
    if not is_own(module):
        top = module.partition(".")[0]
        missing = f", but there is no module {top!r}" if own_packages() is None and not _exists(top) else ""
        raise SpecError(
            f"{field} {path!r}{missing}",
            _expected(),
            "move the function or class there, or add its package to EVERGREEN_CODE where the flows run",
        )


def load_object(path: str, *, field: str = "import string") -> Any:  # Any: whatever the path names
    """Return the object at `package.module:name` or `package.module.name`.

    Args:
        path: The import string.
        field: Where in the spec it stands, for the error's text.

    Raises:
        SpecError: when the spec may not name it, the module cannot be found or has no such name. An error
            inside the module itself is passed on as it is, because only its own text tells what is wrong.

    Example:
        >>> load_object("sklearn.linear_model.Ridge").__name__
        'Ridge'
    """
    module_name, _, name = path.rpartition(":" if ":" in path else ".")
    if not module_name or not name:
        raise SpecError(f"{field} {path!r}", "package.module:name", "write the module and the name in it")
    check_named(path, field=field)
    if not _exists(module_name):
        raise SpecError(f"{field} {path!r}, but there is no module {module_name!r}", "an installed module")
    module = import_module(module_name)
    if not hasattr(module, name):
        near = [other for other in dir(module) if other.lower() == name.lower()]
        hint = f"did you mean {near[0]}?" if near else f"see what {module_name} defines"
        raise SpecError(f"{field} {path!r}, but {module_name} has no {name!r}", "a name it defines", hint)
    found = getattr(module, name)
    check_home(found, path, field=field)
    return found


def named_code(spec: ModelSpec) -> set[str]:
    """Return the import strings in the spec, besides those of scikit-learn and numpy."""
    estimator = spec.estimator
    paths = {estimator.class_path, *_parts(estimator.params), *_parts(estimator.search)}
    paths |= {path for path in (estimator.preprocess, spec.gate.value.function) if path}
    paths |= {name for name in spec.contract.checks if ":" in name or "." in name}
    return {path for path in paths if path.split(".")[0] not in {"sklearn", "numpy"}}


def _parts(value: Any) -> Iterator[str]:  # Any: YAML
    if isinstance(value, dict):
        if is_part(value):
            yield str(value["function"] if "function" in value else value["class"])
        for inner in value.values():
            yield from _parts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _parts(inner)


def check_home(found: object, path: str, *, field: str) -> None:
    """Refuse scikit-learn's loaders and helpers, and what a module of one's own merely imported.

    Raises:
        SpecError: saying where it comes from.
    """
    if path.startswith("sklearn."):
        if isinstance(found, type) and hasattr(found, "fit"):
            return
        if field == _PARTS and path.startswith("sklearn.feature_selection."):
            return
        raise SpecError(f"{field} {path!r}", "a scikit-learn estimator class", "name one of its estimators")
    if not isinstance(found, type | FunctionType | BuiltinFunctionType):
        return
    home = str(found.__module__ or "")
    if home.split(".", maxsplit=1)[0] not in _LIBRARIES and not is_own(home):
        raise SpecError(
            f"{field} {path!r}, which comes from {home!r}",
            _expected(),
            "write a function of your own around it",
        )


def _exists(module_name: str) -> bool:
    try:
        return find_spec(module_name) is not None
    except (ModuleNotFoundError, ValueError):  # ValueError: a module that was made by hand, or an empty name
        return False
