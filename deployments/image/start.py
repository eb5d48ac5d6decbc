"""A container's first process: secrets from files into the environment, then the command in its place.

`NAME_FILE=/run/secrets/x` becomes `NAME=<what the file holds>`, and `{secret:x}` inside any variable, as in
the URL of a database, becomes the secret percent-encoded. So neither the image nor the compose file nor
`docker inspect` ever shows one. A secret that is missing or empty ends the container with one line.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

OURS = ("EVERGREEN_", "PREFECT_", "MLFLOW_", "AWS_")  # whose `_FILE` is ours to read
# Settings of others that are paths and end like ours.
NOT_SECRET = frozenset(
    {
        "AWS_SHARED_CREDENTIALS_FILE",
        "AWS_CONFIG_FILE",
        "AWS_WEB_IDENTITY_TOKEN_FILE",
        "PREFECT_API_SSL_CERT_FILE",
        "PREFECT_SERVER_DATABASE_SQLALCHEMY_CONNECT_ARGS_TLS_CA_FILE",
        "PREFECT_SERVER_DATABASE_SQLALCHEMY_CONNECT_ARGS_TLS_CERT_FILE",
        "PREFECT_SERVER_DATABASE_SQLALCHEMY_CONNECT_ARGS_TLS_KEY_FILE",
    }
)
PLACEHOLDER = re.compile(r"\{secret:([A-Za-z0-9_-]+)\}")


class NoSecret(Exception):
    """A secret cannot be had; the text names its file and never what stands in one."""


def environment(given: Mapping[str, str], folder: Path = Path("/run/secrets")) -> dict[str, str]:
    """Return the environment with every secret in its place.

    Args:
        given: variables as the container got them.
        folder: where `{secret:x}` is looked for.

    Raises:
        NoSecret: when a file is missing, empty or closed, or a variable is given both ways.
    """
    made = {}
    for name, value in given.items():
        plain = name.removesuffix("_FILE")
        if plain != name and name.startswith(OURS) and name not in NOT_SECRET and value:
            if plain in given:
                raise NoSecret(f"found both {plain} and {name}; expected one of them; to do: remove {plain}")
            made[plain] = _read(Path(value), name)
        else:
            made[name] = PLACEHOLDER.sub(
                lambda found, name=name: quote(_read(folder / found[1], name), safe=""),  # type: ignore[misc]
                value,
            )
    return made


def _read(path: Path, name: str) -> str:
    try:
        text = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as err:
        kind = type(err).__name__
        raise NoSecret(
            f"found no secret for {name} at {path} ({kind}); expected a text file this user may read; "
            "to do: make it with deployments/secrets.sh"
        ) from err
    if not text:
        raise NoSecret(f"found an empty secret for {name} at {path}; expected a value; to do: write one")
    return text


def main(command: list[str]) -> None:
    """Become the command, with the secrets in its environment."""
    try:
        made = environment(os.environ)
    except NoSecret as err:
        sys.stderr.write(f"{err}\n")
        raise SystemExit(2) from None
    os.execvpe(command[0], command, made)  # noqa: S606 -- the container's own command


if __name__ == "__main__":
    main(sys.argv[1:])
