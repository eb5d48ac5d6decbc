from __future__ import annotations

import pytest

from tasks.core.drift.profile import build_reference, profile_frame
from tasks.core.errors import DriftError
from tests.core.test_profile import KEY, small_frame, small_spec


def test_sensitive_categories_are_at_rest_only_as_keyed_hashes():
    frame = small_frame().assign(c=lambda f: f["c"].map({"a": "Jewish", "b": "Muslim", "c": "Atheist"}))
    spec = small_spec(sensitive=["c"])
    reference = build_reference(frame, spec, key=KEY)
    text = reference.to_json()
    assert not any(word in text for word in ["Jewish", "Muslim", "Atheist", KEY.decode()])
    assert profile_frame(frame, reference, key=KEY) == reference.profile
    other = build_reference(frame, spec, key=b"another")
    assert not set(other.bins[1].categories) & set(reference.bins[1].categories)


@pytest.mark.parametrize("key", [None, b"another"])
def test_a_window_hashed_under_another_key_is_refused_instead_of_called_new(key):
    reference = build_reference(small_frame(), small_spec(sensitive=["c"]), key=KEY)
    with pytest.raises(DriftError, match="another key"):
        profile_frame(small_frame(), reference, key=key)


def test_sensitive_categories_without_a_key_are_refused():
    with pytest.raises(DriftError, match="no key"):
        build_reference(small_frame(), small_spec(sensitive=["c"]))


def test_of_a_sensitive_number_no_extreme_and_no_small_cell_is_kept():
    frame = small_frame(60)
    reference = build_reference(frame, small_spec(sensitive=["x"]))
    cells = reference.bins[0]
    assert (cells.low, cells.high, cells.values) == (None, None, ())
    assert min(reference.profile.features["x"].cells) >= 5
    assert str(frame["x"].max()) not in reference.to_json()
