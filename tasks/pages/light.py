"""Pages of which there are many: template and style sheet in one file, without a charting library."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import jinja2
from markupsafe import Markup

from tasks.pages.page import TEMPLATES, write_whole


def write_light_page(
    template: str, path: Path, *, filters: Mapping[str, Callable[..., str]] | None = None, **values: object
) -> Path:
    """Return the path of the page just written, whole or not at all; every value on it is escaped."""
    pages = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    pages.filters.update(filters or {})
    css = Markup((TEMPLATES / "page.css").read_text(encoding="utf-8"))  # noqa: S704 -- our own
    return write_whole(path, pages.get_template(template).render(css=css, **values))
