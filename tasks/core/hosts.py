"""Which host names mean this machine."""

from __future__ import annotations

from ipaddress import ip_address


def on_this_host(host: str) -> bool:
    """Return True when what is sent to this host name or address cannot leave the machine.

    Example:
        >>> [on_this_host(host) for host in ("localhost", "127.0.0.2", "::1", "10.0.0.1")]
        [True, True, True, False]
    """
    if host.lower() == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
