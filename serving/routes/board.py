"""The boards as they were last written: of all models, and of each."""

from __future__ import annotations

import html

from fastapi import APIRouter
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from serving.service import Service
from tasks.core.errors import RegistryError
from tasks.store.pages import FLEET, is_page, read_page

POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; sandbox allow-scripts"
)
"""A page may draw what it holds: it loads nothing, calls nobody, and shares no origin with the app.

Its own policy, which holds as well, says which of its scripts are ours.
"""
_HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


def routes(service: Service) -> APIRouter:
    """Return the routes that show boards; whoever may see everything may see them."""
    router = APIRouter()

    @router.get("/dashboard", include_in_schema=False)
    def fleet() -> Response:
        """Lead to the page of all models, from which the others are a step away."""
        return RedirectResponse(f"/dashboard/{FLEET}/fleet.html")

    @router.get("/dashboard/{model}", include_in_schema=False)
    def board(model: str) -> Response:
        """Lead to a model's board, so that its links to reports beside it hold."""
        if not is_page(model, "board.html"):
            return _page(404, "No such page", "There is no model of this name.")
        return RedirectResponse(f"/dashboard/{model}/board.html")

    @router.get("/dashboard/{model}/{name:path}", response_class=HTMLResponse)
    def page(model: str, name: str) -> Response:
        """Give a page of this model as it was last written: its board, a drift report, a month's review."""
        if not is_page(model, name):
            return _page(404, "No such page", "There is no page of this name.")
        try:
            found = read_page(model, name, service.settings)
        except RegistryError:  # what it says of the place is no business of a browser
            return _page(503, "The page cannot be read", "The place where pages are kept does not answer.")
        if found is None:
            return _page(404, "Not written yet", _how(model, name))
        return Response(found, media_type="text/html; charset=utf-8", headers=_HEADERS)

    return router


def _how(model: str, name: str) -> str:
    if model == FLEET:
        return "The scorecard flow writes this page: run python flows/scorecard.py --model NAME."
    if name.startswith("review-"):
        return f"The scorecard flow writes a month's review: run python flows/scorecard.py --model {model}."
    return f"The monitor flow writes this page: run python flows/monitor.py --model {model}."


def _page(status: int, title: str, text: str) -> HTMLResponse:
    style = "font: 17px/1.6 system-ui, sans-serif; max-width: 40em; margin: 60px auto; padding: 0 20px"
    body = f"<!doctype html><html lang='en'><meta charset='utf-8'><title>{html.escape(title)}</title>"
    body += "<meta name='viewport' content='width=device-width, initial-scale=1'>"
    body += f"<body style='{style}'><h1>{html.escape(title)}</h1><p>{html.escape(text)}</p></body></html>"
    return HTMLResponse(body, status, _HEADERS)
