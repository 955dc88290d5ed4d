"""Serving on this machine: which names are its own, and how a server is run."""

from __future__ import annotations

import ipaddress


def is_loopback(host: str) -> bool:
    """True for an address or a name that only this machine answers to."""
    if host.lower() in ("localhost", "localhost."):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def is_loopback_host(header: str) -> bool:
    """True when a Host header, with or without a port, names this machine."""
    host = header.strip()
    if host.startswith("["):
        host = host[1:].partition("]")[0]
    elif host.count(":") == 1:
        host = host.partition(":")[0]
    return is_loopback(host)
