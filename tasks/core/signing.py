"""Signatures of webhooks: who holds the key can tell that a message is ours, unchanged and fresh."""

from __future__ import annotations

import hashlib
import hmac

TIMESTAMP_HEADER = "X-Evergreen-Timestamp"
SIGNATURE_HEADER = "X-Evergreen-Signature"
_SCHEME = "v1="


def sign(body: bytes, timestamp: int, key: str) -> str:
    """Return the signature of this body at this time: `v1=` and the hex HMAC-SHA256 of `timestamp.body`.

    `timestamp` is in whole Unix seconds. It is signed with the body, so that a recorded message cannot be
    sent again later under a new time.

    Example:
        >>> sign(b"{}", 1_700_000_000, "key")[:11]
        'v1=9d713ed4'

    Raises:
        ValueError: when the key is empty.
    """
    if not key:
        raise ValueError("an empty key signs nothing")
    signed = str(timestamp).encode() + b"." + body
    return _SCHEME + hmac.new(key.encode(), signed, hashlib.sha256).hexdigest()


def verify(
    body: bytes, timestamp: str, signature: str, *, key: str, now: float, tolerance: float = 300
) -> bool:
    """Return True when the body was signed with this key no more than `tolerance` seconds from `now`.

    `body` is the request's body as received, byte for byte and before any parsing; `timestamp` and
    `signature` are its headers. The header may hold several signatures, separated by commas, while a key is
    being changed. Anything malformed is False, never an error; the comparison takes the same time wherever
    the first difference is. Within the tolerance a message may still come twice: act once per `decision_id`.

    Example:
        >>> body = b'{"model": "demo", "version": 4}'
        >>> header = sign(body, 1_700_000_000, "key")
        >>> verify(body, "1700000000", header, key="key", now=1_700_000_100.0)
        True
        >>> verify(body, "1700000000", header, key="key", now=1_700_000_301.0)
        False
    """
    if not key or not timestamp.isascii() or not timestamp.isdigit() or len(timestamp) > 12:
        return False
    if not abs(now - int(timestamp)) <= tolerance:
        return False
    expected = sign(body, int(timestamp), key).encode()
    given = [part.strip().encode() for part in signature.split(",")[:5]]
    return any([hmac.compare_digest(expected, one) for one in given])  # noqa: C419 - compares every one
