"""The last version that served and was made before a commit: what a bad change of code is rolled back to."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tasks.core.errors import PromotionRefused, SpecError
from tasks.core.policy.served import SERVING, served_before
from tasks.history.answer import short
from tasks.store.ledger import LedgerRow
from tasks.store.provenance import PROJECT

_SECONDS = 60
_UNTOLD = "name the version instead: python flows/rollback.py --to-version N"


@dataclass(frozen=True)
class Commit:
    """One commit of the project's history, and every commit that came before it."""

    sha: str
    ancestors: frozenset[str]


@dataclass(frozen=True)
class MadeBefore:
    """The version of this number was made before the commit; None where none is known to be.

    `left_out` says of each younger version that served why it was passed over.
    """

    number: int | None
    commit: str
    left_out: tuple[str, ...]


def find_commit(name: str, *, repo: Path = PROJECT) -> Commit:
    """Return the commit of this name (a hash, its first signs, or a tag) with its ancestors.

    Raises:
        SpecError: when there is no repository here, the name stands for no commit or for several, or the
            repository holds only the newest part of its history, so that nothing can be said of "before".
    """
    if not name or name.startswith("-"):
        raise SpecError(f"commit {name[:40]!r}", "a commit's hash", _UNTOLD)
    if _git(repo, "rev-parse", "--git-dir").returncode:
        raise SpecError("no git repository here", "the project's repository with its history", _UNTOLD)
    found = _git(repo, "rev-parse", "--verify", "--end-of-options", f"{name}^{{commit}}")
    if found.returncode:
        is_many = "ambiguous" in found.stderr
        raise SpecError(
            f"{'several commits' if is_many else 'no commit'} {name[:40]!r} in the repository",
            "one commit",
            "give more signs of its hash" if is_many else "run `git fetch`, or check the hash",
        )
    if _git(repo, "rev-parse", "--is-shallow-repository").stdout.strip() == "true":
        raise SpecError(
            "a repository without its whole history", "every commit", "run `git fetch --unshallow`"
        )
    sha = found.stdout.strip()
    listed = _git(repo, "rev-list", sha)
    if listed.returncode:
        raise SpecError(
            f"a history of {name[:40]!r} that cannot be read", "a whole repository", "run `git fsck`"
        )
    return Commit(sha, frozenset(listed.stdout.split()) - {sha})


def last_before(rows: Sequence[LedgerRow], commit: Commit) -> MadeBefore:
    """Return the version to go back to: of those that served healthily, the last one made before the commit.

    The version that serves now is asked first; then those a rollback may go to (see `served_before`). A
    version of uncommitted changes or of unknown code cannot be said to lack the commit, so it is passed over.
    """
    moves = [row for row in rows if row.action in SERVING]
    now = [moves[-1].to_version] if moves and moves[-1].to_version is not None else []
    left_out = []
    for number in (*now, *served_before(rows)):
        objection = _objection(moves, number, commit)
        if not objection:
            return MadeBefore(number, commit.sha, tuple(left_out))
        left_out.append(f"version {number}: {objection}")
    return MadeBefore(None, commit.sha, tuple(left_out))


def target_before(rows: Sequence[LedgerRow], commit: Commit, serving: int, *, model: str) -> int:
    """Return the version that a rollback to before the commit goes to.

    Raises:
        PromotionRefused: when what serves was made before the commit already, so that asking twice goes back
            once, or no version is known to be.
    """
    found = last_before(rows, commit)
    if found.number is None:
        raise PromotionRefused(
            f"no version that served and is known to be made before {short(commit.sha)} "
            f"({'; '.join(found.left_out[:3])})",
            "one to go back to",
            "name any registered version: --to-version N",
            model=model,
        )
    if found.number == serving:
        raise PromotionRefused(
            f"version {serving} serving, which was made before {short(commit.sha)} already",
            "a version made by that commit or after it",
            "name another version: --to-version N",
            model=model,
        )
    return found.number


def _objection(moves: Sequence[LedgerRow], number: int, commit: Commit) -> str:
    """Return why the version is not known to be made before the commit, or nothing when it is."""
    evidence = next(row.evidence for row in reversed(moves) if row.to_version == number)
    made_by = evidence.get("commit")
    if not made_by:
        return "made by unknown code"
    if made_by == commit.sha:
        return "made by this very commit"
    if made_by not in commit.ancestors:
        return f"made by {short(str(made_by))}, which does not come before it"
    if evidence.get("dirty") is not False:
        return f"made with uncommitted changes on {short(str(made_by))}"
    return ""


def _git(repo: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = ["git", "-C", str(repo), *words]
    try:
        return subprocess.run(  # noqa: S603 - no shell; a commit's name cannot be taken for an option
            command, capture_output=True, text=True, timeout=_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as err:
        raise SpecError(
            f"git that does not answer ({type(err).__name__})", "git on this machine", _UNTOLD
        ) from err
