from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.core.signing import sign, verify

BODY = b'{"model":"demo","version":4}'
# printf '1700000000.{"model":"demo","version":4}' | openssl dgst -sha256 -hmac key
OPENSSL = "v1=7795255cedd9da2b8b861c5cc8d60391ac3d9f28270c39412e704a9cbf38ae5d"
NOW = 1_700_000_100.0


def holds(**over: object) -> bool:
    given = {"body": BODY, "timestamp": "1700000000", "signature": OPENSSL, "key": "key", "now": NOW, **over}
    return verify(given.pop("body"), given.pop("timestamp"), given.pop("signature"), **given)


def test_the_signature_is_the_one_openssl_computes() -> None:
    assert sign(BODY, 1_700_000_000, "key") == OPENSSL
    assert holds()


@pytest.mark.parametrize(
    "over",
    [
        {"body": BODY + b" "},
        {"body": BODY.replace(b"4", b"5")},
        {"timestamp": "1700000001"},
        {"timestamp": ""},
        {"timestamp": "-1700000000"},
        {"timestamp": "1.7e9"},
        {"timestamp": "١٧٠٠٠٠٠٠٠٠"},
        {"timestamp": "9" * 5000},
        {"key": "other"},
        {"key": ""},
        {"signature": ""},
        {"signature": OPENSSL.removeprefix("v1=")},
        {"signature": OPENSSL.replace("v1=", "v2=")},
        {"signature": OPENSSL.upper()},
        {"signature": OPENSSL[:-1]},
        {"signature": "v1=é"},
        {"now": NOW + 201},
        {"now": NOW - 401},
        {"now": float("nan")},
        {"tolerance": 99},
    ],
    ids=str,
)
def test_anything_changed_old_or_malformed_is_refused_without_an_error(over: dict[str, object]) -> None:
    assert not holds(**over)


def test_one_of_several_signatures_is_enough_while_a_key_is_changed() -> None:
    assert holds(signature=f"{sign(BODY, 1_700_000_000, 'new')}, {OPENSSL}")


def test_both_edges_of_the_tolerance_hold() -> None:
    assert holds(now=1_700_000_300.0)
    assert holds(now=1_699_999_700.0)


def test_an_empty_key_signs_nothing() -> None:
    with pytest.raises(ValueError, match="empty key"):
        sign(BODY, 1_700_000_000, "")


@given(st.binary(max_size=200), st.text(min_size=1, max_size=20), st.binary(max_size=200))
def test_what_is_signed_verifies_and_no_other_body_does(body: bytes, key: str, other: bytes) -> None:
    header = sign(body, 1_700_000_000, key)
    assert verify(body, "1700000000", header, key=key, now=1_700_000_000.0)
    assert verify(other, "1700000000", header, key=key, now=1_700_000_000.0) == (body == other)
