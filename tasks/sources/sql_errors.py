"""What a database refused, in a reader's words: never a value, a password or the statement."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError, SQLAlchemyError

from tasks.core.errors import FetchError, SourceUnavailable
from tasks.core.records.failure import without_secrets
from tasks.core.spec import ModelSpec
from tasks.core.spec_parts import Scalar
from tasks.sources.secrets import as_written

_PERMANENT = re.compile(
    r"no such (table|column)|does not exist|syntax error|authentication failed|permission denied"
    r"|unable to open|not a database|unknown column|access denied|no password supplied",
    re.IGNORECASE,
)
_SHOWN = {"OperationalError", "InterfaceError", "ProgrammingError", "SyntaxError", "InsufficientPrivilege"}


@dataclass(frozen=True)
class _Refusal:
    """A kind of refusal: how databases say it, and what is said of it."""

    codes: frozenset[str]
    text: re.Pattern[str]
    found: str
    expected: str
    todo: str


def _refusal(codes: str, text: str, found: str, expected: str, todo: str) -> _Refusal:
    return _Refusal(frozenset(codes.split()), re.compile(text, re.IGNORECASE), found, expected, todo)


# Codes are SQLSTATE (Postgres) and the numbers of MySQL and MariaDB; SQLite and others have texts only.
_REFUSALS = (
    _refusal(
        "57014 1317 1969 3024",
        r"statement timeout|max(imum)?_?( statement| execution) time|query execution was interrupted"
        r"|^interrupted$|statement reached its statement or warehouse timeout",
        "a statement time-out",
        "a statement that ends within the database's limit",
        "raise the limit for this user, read fewer rows, or add an index on the time columns",
    ),
    _refusal(
        "42501 1044 1142 1143 1227 1370",
        r"permission denied|command denied|insufficient privileges|access denied",
        "a missing permission",
        "a user who may read the table",
        "GRANT SELECT to the user of source.url",
    ),
    _refusal(
        "42601 1064",
        r"syntax error|incomplete input|unrecognized token|error in your sql syntax",
        "a syntax error",
        "a SELECT that the database can run",
        "correct source.query; run it there by hand",
    ),
    _refusal(
        "42702 1052 1060",
        r"ambiguous|duplicate column name",
        "a column name that stands more than once",
        "each column name once",
        "name the columns in source.query instead of *",
    ),
)


def told(err: SQLAlchemyError, url: URL, spec: ModelSpec, parameters: Mapping[str, Scalar]) -> FetchError:
    """Return what went wrong without the statement, its values, the password or the URL's options.

    An outage is a SourceUnavailable, which is tried again; a refusal is not.
    """
    where = f"{url.get_backend_name()} {without_secrets(spec.source.url)}"
    original = err.orig if isinstance(err, DBAPIError) and err.orig is not None else err
    name, text = type(original).__name__, next(iter(str(original).strip().splitlines()), "")
    reason = text if name in _SHOWN or "Undefined" in name or "Ambiguous" in name else ""
    for secret in _secrets(url, parameters):
        reason = reason.replace(secret, "***")
    reason = as_written(reason)[:160]
    codes = {str(getattr(original, "sqlstate", None)), *(str(arg) for arg in original.args[:1])}
    for refusal in _REFUSALS:
        if codes & refusal.codes or (isinstance(err, DBAPIError) and refusal.text.search(text)):
            found = f"{refusal.found} of {where}: {name}" + (f" ({reason})" if reason else "")
            return FetchError(found, refusal.expected, refusal.todo, model=spec.name)
    passing = isinstance(err, OperationalError | InterfaceError) or (
        isinstance(err, DBAPIError) and err.connection_invalidated
    )
    found = f"{where} that failed: {name}" + (f" ({reason})" if reason else "")
    if passing and not _PERMANENT.search(reason):
        return SourceUnavailable(found, "a database that answers", "check that it is up", model=spec.name)
    return FetchError(found, "a readable table or query", "check source in the model block", model=spec.name)


def _secrets(url: URL, parameters: Mapping[str, Scalar]) -> list[str]:
    """Return every text that may be a secret, longest first, so that no part of one is left."""
    texts = [str(url.password or ""), *(value for value in parameters.values() if isinstance(value, str))]
    for value in url.query.values():
        texts += [value] if isinstance(value, str) else value
    return sorted({text for text in texts if len(text) > 2}, key=len, reverse=True)
