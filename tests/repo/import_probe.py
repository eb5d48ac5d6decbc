"""Run in a fresh process: import modules one by one and print, as JSON, what each import did.

Arguments: names of modules of others to import first (comma-separated), then names of modules to look at.
For each of these it prints which watched packages are loaded by then, and every file opened for writing,
folder made, file removed, socket, process or database opened while it was imported.
"""

from __future__ import annotations

import importlib
import json
import os
import sys

WATCHED = ("prefect", "mlflow", "alibi_detect")
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_ALWAYS = (
    *("os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.truncate", "shutil.rmtree", "os.putenv"),
    *("subprocess.Popen", "os.system", "os.fork", "os.posix_spawn", "sqlite3.connect", "tempfile.mkstemp"),
)


def acts(event: str, arguments: tuple[object, ...]) -> bool:
    """Return whether this audit event touches disk for writing, the network or another process."""
    if event == "open":
        _, mode, flags = (*arguments, None, None)[:3]
        writes = isinstance(mode, str) and any(sign in mode for sign in "wax+")
        return writes or (mode is None and isinstance(flags, int) and bool(flags & _WRITING))
    return event.startswith("socket.") or event in _ALWAYS


def main(first: str, *modules: str) -> None:
    """Print one JSON line per module: its name, what it did, which watched packages are loaded."""
    for name in filter(None, first.split(",")):
        importlib.import_module(name)
    seen: list[str] = []
    watching = False

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        if watching and acts(event, arguments):
            seen.append(f"{event} {str(arguments)[:120]}")

    sys.addaudithook(hook)
    for module in modules:
        seen.clear()
        watching, error = True, ""
        try:
            importlib.import_module(module)
        except Exception as err:  # one module that fails must not hide what the others do
            error = f"{type(err).__name__}: {err}"
        watching = False
        loaded = [name for name in WATCHED if name in sys.modules]
        line = {"module": module, "did": list(seen), "loaded": loaded, "error": error}
        print(json.dumps(line))  # noqa: T201


if __name__ == "__main__":
    main(*sys.argv[1:])
