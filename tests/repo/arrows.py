"""Which room may import which, checked on source text: DESIGN.md §2 as a table."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOMS = ("flows", "tasks", "serving", "deployments", "bench", "tests")

# Shared by every task module; everything else in tasks/ is a capability of its own.
# tasks.aws: the credentials of this place, as settings are its addresses. tasks.pages: how a page is written.
SHARED = (
    *("tasks.core", "tasks.store", "tasks.settings", "tasks.log", "tasks.clock", "tasks.run_state"),
    *("tasks.aws", "tasks.pages"),
)
# One capability in several files: what only this module may import besides. Each line is an exception to
# "task modules do not import each other", and so has its reason.
PARTS = {
    "tasks.fetch": ("tasks.sources",),  # one file per kind of source
    "tasks.validate": ("tasks.sources",),  # a first contract is inferred from a sample of the source
    "tasks.score": ("tasks.scoring",),  # where answers go besides the log
    "tasks.labels": ("tasks.sources",),  # labels may have a source of their own
    # the command line reads the file that holds the spec, and says what nobody foresaw in one line
    "tasks.cli": ("tasks.specfile", "tasks.foreign"),
    "tasks.replay.show": ("tasks.replay.stage",),  # what a replay prints of its stage
    "tasks.replay.story": ("tasks.replay.stage",),  # what a replay tells of its stage
    "tasks.launch": ("tasks.launching",),  # the ways in which a retraining starts elsewhere
    "tasks.reconcile": ("tasks.launch",),  # launches again what a launch before led to nothing
    "tasks.notify": ("tasks.messages",),  # one file per way to reach people
    "tasks.deployer": ("tasks.messages",),  # a service is told like people are
    "tasks.register": ("tasks.versions",),  # one door to versions for the flows
    "tasks.approve": ("tasks.versions",),  # what a person approves is moved as the gate's choice is
    "tasks.rollback": ("tasks.versions", "tasks.history.before"),  # a move to what served before
    "tasks.probation": ("tasks.versions",),  # a rollback that nobody has to ask for
    "tasks.renewal": ("tasks.anchor",),  # the same rows fixed in the same way, by a person
    "tasks.second_opinion": ("tasks.versions",),  # a change of partner is a move like any other
    "tasks.refit": ("tasks.train",),  # the same rows read in the same way, all of them
    "tasks.evaluate": ("tasks.evaluating",),  # one file per thing the gate is given
    "tasks.selftest": ("tasks.evaluate",),  # plants models and lets them be judged as any other
    "tasks.drift": ("tasks.drifting",),  # one file per thing a check is made with
    "tasks.reference": ("tasks.drifting",),  # counted as every later window is
    "tasks.waiting": ("tasks.versions",),  # what waits for a ruling
}

# The longest prefix that fits a module decides what of ours it may import.
MAY_IMPORT: dict[str, tuple[str, ...]] = {
    "flows": ("tasks",),
    "flows.replay": ("tasks", "flows"),
    "tasks": SHARED,
    "tasks.core": ("tasks.core",),
    "tasks.store": ("tasks.core", "tasks.store", "tasks.settings"),
    "tasks.settings": ("tasks.core",),
    "tasks.log": ("tasks.core",),
    "tasks.clock": ("tasks.core",),
    "tasks.sources": (*SHARED, "tasks.sources"),
    "tasks.scoring": (*SHARED, "tasks.scoring", "tasks.sources"),  # answers may go to the source's database
    "tasks.launching": (*SHARED, "tasks.launching"),
    "tasks.messages": (*SHARED, "tasks.messages"),
    "tasks.versions": (*SHARED, "tasks.versions"),
    "tasks.drifting": (*SHARED, "tasks.drifting"),
    "tasks.evaluating": (*SHARED, "tasks.evaluating"),
    "tasks.history": (*SHARED, "tasks.history"),
    "serving": ("serving", "tasks.core", "tasks.store", "tasks.settings"),
    "deployments": ("deployments", "flows", "tasks.core", "tasks.settings", "tasks.messages.channels"),
    "bench": (*ROOMS,),
    "tests": (*ROOMS,),
}
# Packages of others: the only ones a room may import (None: any), and those it may never.
ONLY: dict[str, frozenset[str]] = {
    # pyarrow: columns in memory, as they come from Parquet; it reads no file there.
    "tasks.core": frozenset({"numpy", "pandas", "pyarrow", "scipy", "sklearn", "pydantic", "pandera"}),
    "flows": frozenset({"prefect"}),
}
NEVER: dict[str, frozenset[str]] = {
    "tasks.store": frozenset({"prefect"}),
    "serving": frozenset({"prefect"}),
}
# Of the standard library, what touches network, disk or processes has no place in a pure rule.
IMPURE = frozenset(
    {"asyncio", "ftplib", "http", "multiprocessing", "shutil", "smtplib", "socket", "sqlite3"}
    | {"ssl", "subprocess", "tempfile", "threading", "urllib"}
)
HEAVY = frozenset({"mlflow", "alibi_detect"})  # seconds to import: inside the function that needs them


@dataclass(frozen=True)
class Import:
    """One imported name: the module meant, the line, and whether importing the file runs it."""

    name: str
    line: int
    at_import: bool


def sources(root: Path, rooms: tuple[str, ...] = ROOMS) -> dict[str, str]:
    """Return the source text of every module in these rooms, by module name."""
    found = {}
    for room in rooms:
        for path in sorted((root / room).rglob("*.py")):
            parts = path.relative_to(root).with_suffix("").parts
            name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
            found[name] = path.read_text()
    return found


def imports(module: str, source: str, modules: Mapping[str, str]) -> list[Import]:
    """Return what the source imports, wherever in the file; relative imports spelt out.

    `from tasks import fetch` means `tasks.fetch` where that is one of `modules`, else a name in `tasks`.
    """
    is_package = any(name.startswith(f"{module}.") for name in modules)
    found = []
    for node, at_import in _walk(ast.parse(source), at_import=True):
        if isinstance(node, ast.Import):
            found += [Import(alias.name, node.lineno, at_import) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = _absolute(node, module, is_package)
            for alias in node.names:
                full = f"{base}.{alias.name}"
                found.append(Import(full if full in modules else base, node.lineno, at_import))
    return found


def broken_arrows(modules: Mapping[str, str]) -> list[str]:
    """Return every import that a room may not make, as `module:line: why`."""
    broken = []
    for module, source in modules.items():
        for one in imports(module, source, modules):
            why = _forbidden(module, one)
            if why:
                broken.append(f"{module}:{one.line}: {why}")
    return broken


def _forbidden(module: str, one: Import) -> str | None:
    top = one.name.split(".")[0]
    if top in ROOMS:
        allowed = (*_rule(MAY_IMPORT, module, ()), *PARTS.get(module, ()))
        own = "." in module and (_in(module, one.name) or _in(one.name, module))
        fits = any(_in(room, one.name) for room in allowed)
        return None if own or fits else f"may not import {one.name}"
    if top in HEAVY and one.at_import and not _in("tests", module) and not _in("bench", module):
        return f"imports {top} at import time; do it inside the function"
    if top in _rule(NEVER, module, frozenset()):
        return f"may never import {top}"
    only = _rule(ONLY, module, None)
    if only is None:
        return None
    if top in sys.stdlib_module_names:
        return f"a pure rule has no use for {top}" if _in("tasks.core", module) and top in IMPURE else None
    return None if top in only else f"may import of other packages only {', '.join(sorted(only))}, not {top}"


def _rule(table: Mapping[str, Any], module: str, otherwise: Any) -> Any:  # Any: whatever the table holds
    """Return the entry of the longest room that holds the module."""
    fits = [room for room in table if _in(room, module)]
    return table[max(fits, key=len)] if fits else otherwise


def _in(room: str, module: str) -> bool:
    return module == room or module.startswith(f"{room}.")


def _walk(node: ast.AST, *, at_import: bool) -> Iterator[tuple[ast.AST, bool]]:
    for child in ast.iter_child_nodes(node):
        yield child, at_import
        inside = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        typing_only = isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test)
        yield from _walk(child, at_import=at_import and not inside and not typing_only)


def _absolute(node: ast.ImportFrom, module: str, is_package: bool) -> str:
    if not node.level:
        return node.module or ""
    parts = module.split(".")
    up = node.level - 1 if is_package else node.level
    base = parts[: len(parts) - up]
    return ".".join([*base, *([node.module] if node.module else [])])
