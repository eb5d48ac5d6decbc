"""Keys of the serving app: made once, shown once, kept as hashes, revoked for good."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, get_args

import sqlalchemy as sa
from sqlalchemy.engine import Engine

from tasks.core.errors import SpecError
from tasks.core.window import utc
from tasks.store.engine import reading, writing
from tasks.store.schema_versions import api_keys

Role = Literal["predict", "label", "admin"]
PREFIX = "evergreen_"
_NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")


@dataclass(frozen=True)
class Key:
    """A key as it is kept: its owner's name, what it may do, the sha256 of the key, since and until when."""

    name: str
    role: Role
    digest: str
    made_at: datetime
    revoked_at: datetime | None = None


def make_key(engine: Engine, name: str, role: str, *, at: datetime) -> str:
    """Return a new key; this is the only time it is seen.

    A key holds 256 random bits, so its plain sha256 gives nobody a way back to it.

    Raises:
        SpecError: when the name is taken or no name, or there is no such role.
    """
    if not _NAME.match(name):
        raise SpecError(f"key name {name[:64]!r}", "letters, digits and _.-, at most 64")
    if role not in get_args(Role):
        raise SpecError(f"role {role[:20]!r}", f"one of {', '.join(get_args(Role))}")
    key = PREFIX + secrets.token_urlsafe(32)
    row = {"name": name, "role": role, "digest": digest_of_key(key), "made_at": utc(at)}
    with writing(engine, lock="api_keys") as connection:
        taken = connection.execute(sa.select(api_keys.c.name).where(api_keys.c.name == name)).scalar()
        if taken:
            raise SpecError(f"a key named {name!r} already", "a new name", "names of revoked keys stay taken")
        connection.execute(api_keys.insert(), row)
    return key


def revoke_key(engine: Engine, name: str, *, at: datetime) -> bool:
    """Return whether the key was still good; from now on it is not.

    Raises:
        SpecError: when there is no key of this name.
    """
    good = sa.and_(api_keys.c.name == name, api_keys.c.revoked_at.is_(None))
    with writing(engine, lock="api_keys") as connection:
        if connection.execute(sa.select(api_keys.c.name).where(api_keys.c.name == name)).scalar() is None:
            raise SpecError(f"no key named {name[:64]!r}", "the name of a key")
        return bool(connection.execute(api_keys.update().where(good).values(revoked_at=utc(at))).rowcount)


def all_keys(engine: Engine) -> list[Key]:
    """Return every key there ever was, oldest first."""
    with reading(engine) as connection:
        rows = connection.execute(sa.select(api_keys).order_by(api_keys.c.made_at, api_keys.c.name))
        return [Key(**row) for row in rows.mappings()]


def role_of(given: str, known: list[Key]) -> Role | None:
    """Return what the holder of this key may do; None for a stranger. Every known key is compared."""
    digest, found = digest_of_key(given), None
    for key in known:
        if hmac.compare_digest(digest, key.digest) and key.revoked_at is None:
            found = key.role
    return found


def digest_of_key(key: str) -> str:
    """Return the sha256 of a key, as it is kept."""
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()
