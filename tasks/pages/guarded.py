"""Pages with figures that run no script but ours, whatever stands on them."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from tasks.pages.page import TEMPLATES, write_whole


def write_guarded_page(
    template: str,
    path: Path,
    figures: Mapping[str, Any],  # Any: figures are JSON trees
    *,
    filters: Mapping[str, Callable[..., str]] | None = None,
    **values: object,
) -> Path:
    """Return the path of the page just written, whole or not at all.

    Every value on it is escaped, and its own policy names the two scripts that may run by their digests:
    plotly's and `board.js`. Without figures it has none at all.
    """
    scripts = _scripts() if figures else []
    pages = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    pages.filters.update(filters or {})
    allowed = " ".join(f"'sha256-{_digest(one)}'" for one in scripts) or "'none'"
    css = "".join((TEMPLATES / name).read_text(encoding="utf-8") for name in ("page.css", "board.css"))
    page = pages.get_template(template).render(
        figures=figures,
        policy=f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data:",
        css=Markup(css),  # noqa: S704 -- our own, as are the scripts; everything else is escaped
        scripts=[Markup(one) for one in scripts],  # noqa: S704
        **values,
    )
    return write_whole(path, page)


def _scripts() -> list[str]:
    from plotly.offline import get_plotlyjs

    return [get_plotlyjs(), (TEMPLATES / "board.js").read_text(encoding="utf-8")]


def _digest(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
