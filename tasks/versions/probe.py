"""Whether a version may serve: its files loaded in a clean process, its golden rows answered, and in time.

This is the second of two approvals. The gate judges how good the answers are, this whether there will be any.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tasks.core.errors import NotServable, RegistryError, RegistryUnavailable
from tasks.core.model.bundle import Manifest, plain
from tasks.settings import Settings
from tasks.store import clean, registry
from tasks.store.agreed import served_digest
from tasks.store.models import own_types
from tasks.store.provenance import LOCK, PROJECT, pinned_requirements
from tasks.store.version import Version, spec_in

TIMEOUT = 120.0  # seconds a clean process may take from its start to its answer
_CALLS_HERE = 10  # in this process nobody relies on the figure, unless a limit asks for it
_KEPT_ENVIRONMENT = ("PATH", "LANG", "LC_ALL", "TZ", "TMPDIR", "LD_LIBRARY_PATH", "SYSTEMROOT")
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
_TODO = "keep the champion; compare library versions with those of its manifest, or retrain"


def probe(
    version: Version, place: Settings, also: Iterable[str] = (), *, limit_ms: float | None = None
) -> dict[str, Any]:  # Any: JSON
    """Return what the ledger keeps of a version that was downloaded, verified, loaded, re-scored and timed.

    Under `EVERGREEN_PROBE=process` that happens in a clean process, once for the same files in the same
    environment; `servable` and `environment` of the result tell what was seen. A version that served before
    under this very digest may hold the classes that its own spec names: that spec is ours then.

    Args:
        version: what shall serve.
        place: this place.
        also: further classes to accept, from `tasks.store.models.own_types`.
        limit_ms: `gate.max_latency_ms` of this place's spec; that of the version's own spec counts too.

    Raises:
        RegistryError: when the registry does not answer, or a file is missing or damaged.
        NotServable: when the version does not load, holds a type that is not allowed, answers its golden rows
            otherwise than when it was evaluated, or is too slow, or when scikit-learn here is another minor
            release than the lock names.
    """
    vouched = served_digest(version.name, version.number, place) == version.digest
    with registry.downloaded(version, settings=place) as (folder, manifest):
        spec = _spec_of(folder, version)
        accepted = tuple(sorted({*also, *(own_types(spec) if vouched else ())}))
        limits = [limit for limit in (limit_ms, spec.gate.max_latency_ms) if limit is not None]
        limit = min(limits, default=None)
        seen = _tried(folder, version, place, also=accepted, limit_ms=limit)
        libraries = {**seen.pop("environment"), "trained_with": manifest.code.get("scikit_learn")}
        _check(version, seen, libraries, limit)
        return {
            **_facts(version, manifest),
            "servable": {"where": place.probe, "limit_ms": limit, **seen},
            "environment": libraries,
        }


def _facts(version: Version, manifest: Manifest) -> dict[str, Any]:  # Any: JSON
    return {
        "digest": version.digest,
        "run_id": version.run_id,
        "snapshot": manifest.snapshot.get("sha256"),
        "commit": manifest.code.get("commit"),
        "dirty": manifest.code.get("dirty"),
        "train_window": str(manifest.train_window),
        "promise": plain(manifest.promise),
        "gate": dict(manifest.gate),
    }


def _spec_of(folder: Path, version: Version) -> Any:  # Any: a ModelSpec, whatever pydantic calls its error
    try:
        return spec_in(folder)
    except ValueError as err:
        raise _not_servable(
            version, f"version {version.number} with a spec this code cannot read", "the spec it was made by"
        ) from err


def _tried(
    folder: Path, version: Version, place: Settings, *, also: tuple[str, ...], limit_ms: float | None
) -> dict[str, Any]:  # Any: JSON
    """Return what was seen of the copy, now or when the same files were tried in this environment before."""
    if place.probe == "here":
        return _tried_here(folder, version, also, limit_ms)
    note = place.root / "versions" / f"{version.digest}.probe.json"
    where = _environment_digest(also)
    known = _read_note(note, version.digest, where)
    if known and (limit_ms is None or known["p95_ms"] <= limit_ms):
        return {**known, "cached": True}
    seen = _tried_apart(folder, version, also, limit_ms)
    _write_note(note, {"digest": version.digest, "where": where, "seen": seen})
    return {**seen, "cached": False}


def _tried_here(
    folder: Path, version: Version, also: tuple[str, ...], limit_ms: float | None
) -> dict[str, Any]:  # Any: JSON
    calls = _CALLS_HERE if limit_ms is None else clean.CALLS
    try:
        seen = clean.examine(folder, also=also, limit_ms=limit_ms, calls=calls)
    except RegistryUnavailable:
        raise
    except RegistryError as err:
        raise _not_servable(version, err.found, err.expected, err.todo) from err
    return {**seen, "environment": clean.environment(_pins())}


def _tried_apart(
    folder: Path, version: Version, also: tuple[str, ...], limit_ms: float | None
) -> dict[str, Any]:  # Any: JSON
    """Return what a process saw that has our code, the libraries, this copy, and nothing else of ours."""
    request = {
        "folder": str(folder.resolve()),
        "also": also,
        "limit_ms": limit_ms,
        "pins": _pins(),
        "project": [str(PROJECT)],
        "homes": _homes(also),
    }
    try:
        done = subprocess.run(  # noqa: S603 - fixed words, no shell
            [sys.executable, "-I", "-c", clean.LAUNCH],
            input=json.dumps(request),
            capture_output=True,
            text=True,
            cwd=folder,
            env=_clean_environment(folder),
            timeout=TIMEOUT,
            check=False,
        )
    except subprocess.TimeoutExpired as err:
        raise _not_servable(
            version, f"version {version.number} without an answer after {TIMEOUT:.0f} s", "an answer in time"
        ) from err
    except OSError as err:
        raise RegistryError(
            f"no process to try version {version.number} in ({type(err).__name__})",
            "a Python that starts",
            "free memory, or set EVERGREEN_PROBE=here",
            model=version.name,
        ) from err
    answer = _answer_in(done.stdout)
    if answer is None:
        why = _why_it_died(done.returncode, done.stderr)
        raise _not_servable(
            version, f"version {version.number} ending its process with {why}", "a version that loads"
        )
    if "fault" in answer:
        raise _not_servable(version, *answer["fault"])
    return answer


def _check(
    version: Version, seen: Mapping[str, Any], libraries: Mapping[str, Any], limit_ms: float | None
) -> None:
    """Raise where what was seen says that this version may not serve here.

    That it was trained with another scikit-learn is told and no more: its golden rows were equal, and a
    rollback must stay possible after an upgrade.
    """
    here, locked = libraries["differs"].get("scikit-learn", (None, None))
    if locked and str(here).split(".")[:2] != locked.split(".")[:2]:
        raise _not_servable(
            version,
            f"scikit-learn {here or 'missing'} where {LOCK.name} says {locked}",
            "the locked environment",
            f"install from {LOCK.name}, then promote again",
        )
    if limit_ms is not None and seen["p95_ms"] > limit_ms:
        raise _not_servable(
            version,
            f"version {version.number} taking {seen['p95_ms']:.3g} ms a row (P95 of {seen['calls']} calls)",
            f"at most {limit_ms:g} ms (gate.max_latency_ms)",
            "choose a smaller model, or raise the limit in the spec and retrain",
        )


def _pins() -> list[str]:
    return list(pinned_requirements()) if LOCK.is_file() else []


def _homes(also: Iterable[str]) -> list[str]:
    """Return the folders that hold the packages of these classes: they may be no part of the project."""
    found: set[str] = set()
    for top in {name.split(".")[0] for name in also}:
        spec = _module(top)
        inside = list(spec.submodule_search_locations or ()) if spec else []
        place = inside[0] if inside else spec.origin if spec else None
        if place:
            found.add(str(Path(place).resolve().parent))
    return sorted(found)


def _module(name: str) -> ModuleSpec | None:
    try:
        return find_spec(name)
    except (ImportError, ValueError):  # the process that needs it will say so
        return None


def _clean_environment(folder: Path) -> dict[str, str]:
    kept = {name: os.environ[name] for name in _KEPT_ENVIRONMENT if name in os.environ}
    return {**kept, **dict.fromkeys(_THREADS, "1"), "HOME": str(folder)}


def _answer_in(text: str) -> dict[str, Any] | None:  # Any: JSON
    """Return the answer: the last line, because a model's own code may print before it."""
    try:
        answer = json.loads(text.strip().splitlines()[-1])
    except (IndexError, ValueError):
        return None
    return answer if isinstance(answer, dict) else None


def _why_it_died(code: int, errors: str) -> str:
    """Return the end of a process in words; of an error its kind, its text only where it names a module."""
    if code < 0:
        return f"signal {-code}" + (" (out of memory, perhaps)" if code == -9 else "")
    last = (errors.strip().splitlines() or [""])[-1]
    kind = last.partition(":")[0]
    told = last[:150] if kind in {"ModuleNotFoundError", "ImportError"} else kind[:60]
    return f"code {code} ({told or 'no word'})"


def _environment_digest(also: Iterable[str]) -> str:
    """Return what names everything besides a version's files that decides what becomes of it here."""
    ours = [*(PROJECT / "tasks" / "core" / "model").glob("*.py"), *(PROJECT / "tasks" / "store").glob("*.py")]
    modules = {name.rpartition(".")[0] for name in also}
    theirs = {spec.origin for name in modules if (spec := _module(name)) and spec.origin}
    sources = [*sorted(map(str, ours)), *sorted(theirs), *([str(LOCK)] if LOCK.is_file() else [])]
    digests = [hashlib.sha256(Path(path).read_bytes()).hexdigest() for path in sources]
    about = [sys.version, sys.executable, clean.environment(_pins()), sorted(also), digests]
    return hashlib.sha256(json.dumps(about).encode()).hexdigest()


def _read_note(note: Path, digest: str, where: str) -> dict[str, Any] | None:  # Any: JSON
    try:
        kept = json.loads(note.read_text("utf-8"))
        is_same = kept["digest"] == digest and kept["where"] == where
        return {**kept["seen"], "p95_ms": float(kept["seen"]["p95_ms"])} if is_same else None
    except (OSError, ValueError, KeyError, TypeError):
        return None  # what cannot be read is found out again


def _write_note(note: Path, content: Mapping[str, Any]) -> None:
    with tempfile.NamedTemporaryFile(
        "w", dir=note.parent, prefix=".part-", suffix=".json", delete=False, encoding="utf-8"
    ) as draft:
        json.dump(content, draft)
    Path(draft.name).replace(note)


def _not_servable(version: Version, found: str, expected: str = "", todo: str = "") -> NotServable:
    return NotServable(found, expected, todo or _TODO, model=version.name)
