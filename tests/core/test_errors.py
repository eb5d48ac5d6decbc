from __future__ import annotations

import copy
import inspect
import pickle
import re

import pytest

from tasks.core import errors
from tasks.core.errors import MAX_MESSAGE, FetchError, SourceUnavailable, SpecError, WorkflowError

KINDS = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, WorkflowError)]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_every_error_survives_a_process_hop(kind: type[WorkflowError], protocol: int) -> None:
    before = kind("3 rows", "100 rows", "wait", model="churn", window="2026-01-01T00:00Z..2026-01-08T00:00Z")
    after = pickle.loads(pickle.dumps(before, protocol))  # noqa: S301  # our own bytes
    assert type(after) is kind
    assert str(after) == str(before)
    assert vars(after) == vars(before)
    assert str(copy.deepcopy(before)) == str(before)


def test_the_tree_drawn_in_the_errors_file_is_the_tree_of_classes() -> None:
    drawn: dict[str, str] = {}
    stack: list[tuple[int, str]] = []
    for line in (errors.__doc__ or "").splitlines():
        if not (found := re.match(r"^([│├└─ ]*)([A-Z]\w+)(\s|$)", line)) or line.startswith("Every"):
            continue
        depth = len(found[1])
        while stack and stack[-1][0] >= depth:
            stack.pop()
        drawn[found[2]] = stack[-1][1] if stack else "Exception"
        stack.append((depth, found[2]))
    assert drawn == {kind.__name__: kind.__bases__[0].__name__ for kind in KINDS}


def test_a_source_that_may_come_back_is_still_a_fetch_error() -> None:
    assert issubclass(SourceUnavailable, FetchError)


def test_a_message_says_where_what_wanted_and_what_to_do() -> None:
    error = SpecError("metric 'rmse'", "a classification scorer", "use roc_auc", model="churn", window="w")
    assert str(error) == "[churn w] found metric 'rmse'; expected a classification scorer; to do: use roc_auc"
    assert str(SpecError("nothing else")) == "found nothing else"


@pytest.mark.parametrize("length", [100, 480, 500, 5000])
def test_a_long_finding_is_cut_but_what_to_do_stays(length: int) -> None:
    text = str(FetchError("x" * length, "rows", "ask the owner of the table", model="churn"))
    assert len(text) <= MAX_MESSAGE
    assert text.startswith("[churn] found xx")
    assert text.endswith("; expected rows; to do: ask the owner of the table")


def test_a_message_stays_short_when_every_part_is_long() -> None:
    text = str(FetchError("x" * 5000, "y" * 5000, "z" * 5000))
    assert len(text) <= MAX_MESSAGE
    assert text.startswith("found xxx")
    assert "; expected yyy" in text
