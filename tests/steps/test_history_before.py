"""What was made before a commit is told by git's own history; where it cannot tell, nothing is said."""

from __future__ import annotations

import hashlib
import os
import subprocess
from pathlib import Path

import pytest
from sqlalchemy.engine import Engine

from tasks.core.errors import PromotionRefused, SpecError
from tasks.history.before import Commit, find_commit, last_before, target_before
from tasks.store import ledger
from tests.histories import START, ended
from tests.stores import fresh_store


def git(repo: Path, *words: str) -> str:
    who = {
        "GIT_AUTHOR_NAME": "a",
        "GIT_AUTHOR_EMAIL": "a@b",
        "GIT_COMMITTER_NAME": "a",
        "GIT_COMMITTER_EMAIL": "a@b",
    }
    env = {**os.environ, **who, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
    done = subprocess.run(
        ["git", "-C", str(repo), *words], env=env, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def commit(repo: Path, name: str) -> str:
    git(repo, "commit", "--quiet", "--allow-empty", "--message", name)
    return git(repo, "rev-parse", "HEAD")


@pytest.fixture(scope="module")
def repo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """A repository with the commits a, b, c, d on one line, and `side`, which goes off at b."""
    folder = tmp_path_factory.mktemp("repo")
    git(folder, "init", "--quiet", "--initial-branch", "main")
    shas = {name: commit(folder, name) for name in "ab"}
    git(folder, "branch", "aside")
    shas |= {name: commit(folder, name) for name in "cd"}
    git(folder, "tag", "v1", shas["c"])
    git(folder, "checkout", "--quiet", "aside")
    shas["side"] = commit(folder, "side")
    git(folder, "checkout", "--quiet", "main")
    return folder, shas


def rows(engine: Engine, *served: tuple[int, str | None, bool | None]) -> list[ledger.LedgerRow]:
    """Return a ledger in which these versions, of these commits, were promoted one after the other."""
    before: int | None = None
    for number, sha, dirty in served:
        ended(engine, number, "promoted", before, evidence={"commit": sha, "dirty": dirty})
        before = number
    return ledger.history(engine, "churn")


def test_a_commit_is_found_by_hash_short_hash_or_tag_with_what_came_before(
    repo: tuple[Path, dict[str, str]],
) -> None:
    folder, shas = repo
    for name in (shas["c"], shas["c"][:10], "v1"):
        found = find_commit(name, repo=folder)
        assert found == Commit(shas["c"], frozenset({shas["a"], shas["b"]}))
    assert find_commit(shas["a"], repo=folder).ancestors == frozenset()


def test_an_unknown_commit_is_an_error_and_an_option_is_none(repo: tuple[Path, dict[str, str]]) -> None:
    folder, _ = repo
    with pytest.raises(SpecError, match="no commit 'fedcba9'"):
        find_commit("fedcba9", repo=folder)
    for name in ("", "--all", "-1"):
        with pytest.raises(SpecError, match="a commit's hash"):
            find_commit(name, repo=folder)


def test_a_hash_that_two_commits_begin_with_is_refused_as_ambiguous(tmp_path: Path) -> None:
    git(tmp_path, "init", "--quiet")
    tree = git(tmp_path, "hash-object", "-t", "tree", "-w", os.devnull)
    seen: dict[str, bytes] = {}
    for number in range(3000):
        content = f"tree {tree}\nauthor a <a@b> 0 +0000\ncommitter a <a@b> 0 +0000\n\n{number}\n".encode()
        begins = hashlib.sha1(b"commit %d\0%b" % (len(content), content), usedforsecurity=False).hexdigest()[
            :4
        ]
        if begins in seen:
            break
        seen[begins] = content
    for one in (content, seen[begins]):
        (tmp_path / "commit").write_bytes(one)
        git(tmp_path, "hash-object", "-t", "commit", "-w", "commit")
    with pytest.raises(SpecError, match=r"several commits .* give more signs"):
        find_commit(begins, repo=tmp_path)


def test_without_a_repository_or_its_whole_history_nothing_is_said_of_before(
    repo: tuple[Path, dict[str, str]], tmp_path: Path
) -> None:
    folder, shas = repo
    with pytest.raises(SpecError, match="no git repository here"):
        find_commit(shas["c"], repo=tmp_path)
    git(tmp_path, "clone", "--quiet", "--depth", "2", f"file://{folder}", "shallow")
    with pytest.raises(SpecError, match="fetch --unshallow"):
        find_commit(shas["c"], repo=tmp_path / "shallow")


def test_the_last_version_made_before_the_commit_is_named_and_the_younger_are_passed_over(
    repo: tuple[Path, dict[str, str]], request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    folder, shas = repo
    with fresh_store("sqlite", request, tmp_path) as engine:
        past = rows(
            engine, (1, shas["a"], False), (2, shas["b"], False), (3, shas["c"], False), (4, shas["d"], False)
        )
        found = last_before(past, find_commit("v1", repo=folder))
        assert (found.number, found.commit) == (2, shas["c"])
        assert found.left_out == (
            f"version 4: made by {shas['d'][:12]}, which does not come before it",
            "version 3: made by this very commit",
        )
        assert target_before(past, find_commit("v1", repo=folder), 4, model="churn") == 2
        assert last_before(past, find_commit(shas["d"], repo=folder)).number == 3
        assert last_before(past, find_commit(shas["a"], repo=folder)).number is None


@pytest.mark.parametrize(
    ("sha", "dirty", "why"),
    [
        (None, None, "made by unknown code"),
        ("a", True, "made with uncommitted changes"),
        ("a", None, "made with uncommitted changes"),
        ("side", False, "does not come before it"),
        ("0" * 40, False, "does not come before it"),
    ],
    ids=["unknown", "dirty", "perhaps dirty", "aside", "elsewhere"],
)
def test_a_version_that_may_hold_the_commit_is_passed_over(
    repo: tuple[Path, dict[str, str]],
    request: pytest.FixtureRequest,
    tmp_path: Path,
    sha: str | None,
    dirty: bool | None,
    why: str,
) -> None:
    folder, shas = repo
    with fresh_store("sqlite", request, tmp_path) as engine:
        past = rows(
            engine, (1, shas["a"], False), (2, shas.get(sha or "", sha), dirty), (3, shas["d"], False)
        )
        found = last_before(past, find_commit("v1", repo=folder))
        assert found.number == 1
        assert why in found.left_out[1]


def test_what_serves_and_was_made_before_the_commit_stays_and_a_bad_version_never_returns(
    repo: tuple[Path, dict[str, str]], request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    folder, shas = repo
    before_c = find_commit("v1", repo=folder)
    with fresh_store("sqlite", request, tmp_path) as engine:
        past = rows(engine, (1, shas["a"], False), (2, shas["b"], False), (3, shas["d"], False))
        evidence = {"commit": shas["a"], "dirty": False}
        ended(engine, 1, "rolled_back", 3, decision_id="r1", evidence=evidence, at=START)
        past = ledger.history(engine, "churn")
        assert last_before(past, before_c).number == 1
        with pytest.raises(PromotionRefused, match="version 1 serving, which was made before"):
            target_before(past, before_c, 1, model="churn")
        ended(engine, 4, "promoted", 1, evidence={"commit": shas["d"], "dirty": False})
        past = ledger.history(engine, "churn")
        assert last_before(past, before_c).number == 1  # 2 was passed over by the rollback
        with pytest.raises(PromotionRefused, match=r"no version .* is known to be made before"):
            target_before(past, find_commit(shas["a"], repo=folder), 4, model="churn")
