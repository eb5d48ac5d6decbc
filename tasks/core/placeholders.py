"""`${…}` in a source's URL and parameters: what it asks for, and where a literal secret stands instead.

${NAME}                           the environment variable NAME
${block:secret/crm}               the value of the Prefect Secret block `crm`
${block:aws-secret/crm#password}  one field of a secret that is JSON, here one in AWS Secrets Manager
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from tasks.core.errors import SpecError

_ANY = re.compile(r"\$\{([^}]*)\}")
_KNOWN = re.compile(
    r"(?:(?P<env>[A-Za-z_]\w*)"
    r"|block:(?P<kind>secret|aws-secret)/(?P<name>[a-z0-9][a-z0-9-]*)(?:#(?P<field>[\w.-]+))?)"
)
_MARK = re.compile("\0\\d+\0")
_SECRETIVE = re.compile(
    r"(?:^|[^a-z])(?:sig|key|auth|pass|pwd|apikey|accesskey|credentials?"
    r"|[a-z]*(?:password|passwd|secret|signature|token))(?:$|[^a-z])",
    re.IGNORECASE,
)
_TOKEN = re.compile(
    r"eyJ[\w-]{8,}\.[\w-]{4,}\.?[\w-]*|(?:AKIA|ASIA)[A-Z0-9]{16}|gh[pousr]_\w{20,}|github_pat_\w{20,}"
    r"|glpat-[\w-]{16,}|xox[abprs]-[\w-]{10,}|sk[-_](?:live[-_]|proj-)?\w{20,}|sv=\d{4}-\d\d-\d\d.*"
)
_WHOLE_NAMES = frozenset({"code", "jwt"})  # of a URL's values; parts of longer names mean something else
# In a query, where a column may be called business_key or country_code.
_PLAINLY = re.compile(
    r"(?:^|_)(?:password|passwd|passphrase|pwd|secret|token|jwt|api_?key|access_?key|credentials?)$",
    re.IGNORECASE,
)
_HEX = re.compile(r"[0-9a-fA-F-]+")
_ASSIGNED = re.compile(
    r"(?P<name>\w+)\s*(?:=>|=|:=|\bLIKE\b|\bIDENTIFIED\s+BY\b|\bPASSWORD\b)\s*'(?P<value>[^']+)'",
    re.IGNORECASE,
)
# For the form's schema, so that the Prefect API itself refuses a literal password before it is stored. The
# full rule is `literal_secret`; a schema cannot say more than this.
NO_LITERAL_PASSWORD = r"^(?![A-Za-z][\w+.-]*://[^/@:]*:(?!(?:\$\{[^}]*\})+@)[^@/]+@)"  # noqa: S105

_UNRESERVED = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")

Kind = Literal["env", "secret", "aws-secret"]


@dataclass(frozen=True)
class Placeholder:
    """What one `${…}` asks for; `text` is how it was written."""

    kind: Kind
    name: str
    field: str = ""
    text: str = ""


def placeholders(text: str) -> list[Placeholder]:
    """Return what the text asks for, in order.

    Raises:
        SpecError: when a `${…}` is none of the known forms.

    Example:
        >>> [(one.kind, one.name, one.field) for one in placeholders("${A}:${block:aws-secret/crm#password}")]
        [('env', 'A', ''), ('aws-secret', 'crm', 'password')]
    """
    return [_placeholder(match) for match in _ANY.finditer(text)]


def fill(text: str, value_of: Callable[[Placeholder], str]) -> str:
    """Return the text with every placeholder replaced by its value as it is."""
    return _ANY.sub(lambda match: value_of(_placeholder(match)), text)


def fill_url(url: str, value_of: Callable[[Placeholder], str]) -> str:
    """Return the URL filled in; values given as user, password or one query value are quoted for a URL.

    Without that a password with an `@` or a `/` would be read, and shown, as part of the host. Elsewhere a
    value stands as it is, so it may be a path or the whole URL.

    Example:
        >>> fill_url("postgresql://me:${PW}@db/x", lambda one: "p@ss/word")
        'postgresql://me:p%40ss%2Fword@db/x'
        >>> fill_url("${URL}", lambda one: "postgresql://me:p%40ss@db/x")
        'postgresql://me:p%40ss@db/x'
    """
    found = placeholders(url)
    marked = _marked(url)
    who = _who(marked)
    begin = marked.find("://") + 3
    parts = []
    last = 0
    for match, one in zip(_MARK.finditer(marked), found, strict=True):
        value = value_of(one)
        inside_who = bool(who) and begin <= match.start() < begin + len(who)
        query_value = "?" in marked[: match.start()] and marked[: match.start()].endswith("=")
        parts += [marked[last : match.start()], _quoted(value) if inside_who or query_value else value]
        last = match.end()
    return "".join([*parts, marked[last:]])


def literal_secret(url: str) -> str | None:
    """Return what kind of secret stands literally in the URL, None when there is none; never the secret.

    Example:
        >>> literal_secret("postgresql://me:hunter2@db/x")
        'a password'
        >>> literal_secret("postgresql://me:${PASSWORD}@db/x") is None
        True
        >>> literal_secret("https://host/rows.csv?X-Amz-Signature=1f")
        "a value of 'X-Amz-Signature'"
    """
    marked = _marked(url)
    who = _who(marked)
    name, colon, password = who.partition(":")
    if _said(password):
        return "a password"
    if not colon and _said(name) and marked.lower().startswith(("http://", "https://")):
        return "a token"
    start = min((at for at in map(marked.find, "?#;") if at >= 0), default=len(marked))
    for pair in re.split(r"[?#;&]", _unquoted(marked[start:])):
        key, _, value = pair.partition("=")
        is_secret = _SECRETIVE.search(key) or key.strip().lower() in _WHOLE_NAMES
        if _said(value) and (is_secret or _is_token(value)):
            return f"a value of {key.strip()[:40]!r}"
    head = _unquoted(marked[:start]).partition("://")
    for part in re.split(r"[/\\:@=]", head[2] or head[0]):
        if _is_token(part):
            return "a token in the path"
    return None


def literal_in_text(text: str) -> str | None:
    """Return what kind of secret stands literally in a query or a parameter; never the secret.

    Example:
        >>> literal_in_text("select * from t where api_key = 'abc'")
        "a value of 'api_key'"
        >>> literal_in_text("select * from t where api_key = :key and region = 'north'") is None
        True
    """
    marked = _marked(text)
    for url in re.findall(r"[A-Za-z][\w+.-]*://[^\s'\"]+", marked):
        if what := literal_secret(url):
            return what
    for match in _ASSIGNED.finditer(marked):
        if _PLAINLY.search(match["name"]) and _said(match["value"]):
            return f"a value of {match['name'][:40]!r}"
    words = re.split(r"[\s'\"(),;=]", marked)
    return "a token" if any(_is_token(word) for word in words) else None


def literal_parameter(name: str, value: str) -> str | None:
    """Return what kind of secret a bound parameter holds literally; never the secret.

    Example:
        >>> literal_parameter("api_key", "abc"), literal_parameter("api_key", "${KEY}")
        ("a value of 'api_key'", None)
    """
    if _PLAINLY.search(name) and _said(_marked(value)):
        return f"a value of {name[:40]!r}"
    return literal_in_text(value)


def _is_token(text: str) -> bool:
    """Tell whether a text has a credential's shape: a JSON Web Token, a vendor's key, or long and random."""
    if _TOKEN.fullmatch(text):
        return True
    long = re.fullmatch(r"[A-Za-z0-9_-]{32,}", text) is not None and _HEX.fullmatch(text) is None
    kinds = sum(bool(re.search(kind, text)) for kind in ("[a-z]", "[A-Z]", "[0-9]"))
    return long and kinds == 3 and len(set(text)) >= 16


def _said(part: str) -> str:
    """Return what stands in the part besides placeholders and the stars of a bundle's masked URL."""
    return _MARK.sub("", part).strip("*{} ")


def _placeholder(match: re.Match[str]) -> Placeholder:
    known = _KNOWN.fullmatch(match.group(1))
    if known is None:
        raise SpecError(
            f"source with {match.group(0)[:60]!r}",
            "${NAME}, ${block:secret/name} or ${block:aws-secret/name#field}",
            "name an environment variable or a Prefect block",
        )
    if known["env"]:
        return Placeholder("env", known["env"], text=match.group(0))
    kind: Kind = "secret" if known["kind"] == "secret" else "aws-secret"
    return Placeholder(kind, known["name"], known["field"] or "", match.group(0))


def _quoted(value: str) -> str:
    """Return the value as it may stand in one part of a URL (RFC 3986, section 2)."""
    return "".join(chr(byte) if chr(byte) in _UNRESERVED else f"%{byte:02X}" for byte in value.encode())


def _unquoted(text: str) -> str:
    """Return the text with its quoted ASCII signs as themselves."""
    return re.sub("%([0-7][0-9A-Fa-f])", lambda match: chr(int(match.group(1), 16)), text)


def _marked(url: str) -> str:
    """Return the URL with every placeholder as one mark, so that their own signs split nothing."""
    numbers = iter(range(len(url)))
    return _ANY.sub(lambda _: f"\0{next(numbers)}\0", url.replace("\0", ""))


def _who(marked: str) -> str:
    """Return the part of the URL that says who asks, `user:password`; "" when there is none."""
    scheme, found, rest = marked.partition("://")
    if not found or not re.fullmatch(r"[A-Za-z][\w+.-]*", scheme):
        return ""
    head = re.split(r"[?#]", rest, maxsplit=1)[0]
    authority = head.partition("/")[0]
    if "@" in authority:
        head = authority
    elif scheme.lower() in ("s3", "file", "http", "https") or rest.startswith("/"):
        return ""
    who, at, _ = head.rpartition("@")  # up to the last @ of a database URL: a password may hold a slash
    return who if at and ("@" in authority or ":" in authority) else ""


def without_secrets(url: str) -> str:
    """Return the URL; one with a literal secret is refused, since Prefect keeps parameters in clear.

    Raises:
        ValueError: naming what is wrong, as pydantic collects it.
    """
    refuse_secret(literal_secret(url))
    known_placeholders(url)
    return url


def refuse_secret(
    what: str | None, instead: str = "write ${NAME} or ${block:secret/name} there instead"
) -> None:
    """Raise a ValueError where a secret of this kind was found, saying what to do."""
    if what:
        raise ValueError(f"{what} stands in it; {instead}")


def known_placeholders(text: str) -> None:
    """Return nothing when every `${…}` in the text is one that can be filled."""
    try:
        placeholders(text)
    except SpecError as err:  # pydantic collects only ValueErrors
        raise ValueError(f"no {err.found.removeprefix('source with ')}; write {err.expected}") from None
