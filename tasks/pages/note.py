"""One page of Markdown on the run's page, under a key that keeps its earlier editions."""

from __future__ import annotations

from prefect.artifacts import create_markdown_artifact

from tasks.core.records.text import artifact_key


def note(model: str, what: str, markdown: str, description: str) -> str:
    """Return the key of the artifact just made, `<model>-<what>`; call it inside a task."""
    key = artifact_key(model, what)
    create_markdown_artifact(markdown=markdown, key=key, description=description[:1000])
    return key
