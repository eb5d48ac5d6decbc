"""A query as it can stand in another: without comments and the semicolon, its literals out of harm's way."""

from __future__ import annotations

import re

_PARTS = re.compile(
    r"""(?P<literal>'(?:[^']|'')*'|"(?:[^"]|"")*"|`[^`]*`|\$(?P<tag>\w*)\$.*?\$(?P=tag)\$)"""
    r"""|(?P<hint>/\*\+.*?\*/)|(?P<comment>--[^\n]*|/\*.*?\*/)""",
    re.DOTALL,
)


def bare_query(query: str) -> str:
    r"""Return the query for a place in brackets, with its own literals safe from being read as parameters.

    Comments go, except hints to the optimiser; so does a semicolon at the end.

    Example:
        >>> bare_query("SELECT a -- all: customers\nFROM t WHERE b = ':x -- y' /* :z */; -- done")
        "SELECT a  \nFROM t WHERE b = '\\:x -- y'"
    """

    def kept(match: re.Match[str]) -> str:
        if match["comment"]:
            return " "
        return match[0].replace(":", "\\:") if match["literal"] else match[0]

    return _PARTS.sub(kept, query).strip().rstrip(";").rstrip()
