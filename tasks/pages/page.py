"""Pages that open without a network: template, figure, style sheet and plotly's script in one file."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

TEMPLATES = Path(__file__).parents[1] / "templates"


def write_page(
    template: str,
    path: Path,
    figure: Mapping[str, Any],  # Any: a figure is a JSON tree
    *,
    more: Mapping[str, Mapping[str, Any]] | None = None,
    filters: Mapping[str, Callable[..., str]] | None = None,
    **values: object,
) -> Path:
    """Return the path of the page just written, whole or not at all; every value on it is escaped.

    `figure` is drawn in the element with the id chart, those of `more` in the elements named by their keys.
    """
    from plotly.offline import get_plotlyjs

    pages = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES), autoescape=True, undefined=jinja2.StrictUndefined
    )
    pages.filters.update(filters or {})
    # Our own style sheet and plotly's script; everything else on the page is escaped.
    css = Markup((TEMPLATES / "page.css").read_text(encoding="utf-8"))  # noqa: S704
    script = Markup(get_plotlyjs())  # noqa: S704
    page = pages.get_template(template).render(
        figure=figure, more=more or {}, css=css, plotly=script, **values
    )
    return write_whole(path, page)


def write_json(path: Path, content: object) -> Path:
    """Return the path of the file just written; what is not finite has no place in it."""
    return write_whole(path, json.dumps(content, indent=1, allow_nan=False) + "\n")


def write_whole(path: Path, text: str) -> Path:
    """Return the path after the file stands there whole; a reader never sees half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    part.write_text(text, encoding="utf-8")
    return part.replace(path)
