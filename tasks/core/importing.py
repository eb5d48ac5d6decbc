"""Objects named in a spec by import string."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import Any

from tasks.core.errors import SpecError


def load_object(path: str, *, field: str = "import string") -> Any:  # Any: whatever the path names
    """Return the object at `package.module:name` or `package.module.name`.

    Args:
        path: The import string.
        field: Where in the spec it stands, for the error's text.

    Raises:
        SpecError: when the module cannot be found or has no such name. An error inside the module itself is
            passed on as it is, because only its own text tells what is wrong there.

    Example:
        >>> load_object("sklearn.linear_model.Ridge").__name__
        'Ridge'
    """
    module_name, _, name = path.rpartition(":" if ":" in path else ".")
    if not module_name or not name:
        raise SpecError(f"{field} {path!r}", "package.module:name", "write the module and the name in it")
    if not _exists(module_name):
        raise SpecError(f"{field} {path!r}, but there is no module {module_name!r}", "an installed module")
    module = import_module(module_name)
    if not hasattr(module, name):
        near = [other for other in dir(module) if other.lower() == name.lower()]
        hint = f"did you mean {near[0]}?" if near else f"see what {module_name} defines"
        raise SpecError(f"{field} {path!r}, but {module_name} has no {name!r}", "a name it defines", hint)
    return getattr(module, name)


def _exists(module_name: str) -> bool:
    try:
        return find_spec(module_name) is not None
    except ModuleNotFoundError:
        return False
