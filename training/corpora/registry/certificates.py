"""Which authorities and which proxy the downloader trusts: those the registry's own client is set up with."""

from __future__ import annotations

import os
import ssl
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests
from requests.adapters import HTTPAdapter

__all__ = ["Network", "open_session"]

_VARIABLES = ("PIP_CERT", "SSL_CERT_FILE", "CURL_CA_BUNDLE", "NODE_EXTRA_CA_CERTS", "NPM_CONFIG_CAFILE")


@dataclass(frozen=True, kw_only=True, slots=True)
class Network:
    """What a registry's client says of the way to its registry."""

    ca_file: str = ""
    """PEM file of further authorities; empty where none."""
    proxy: str = ""
    """Address of the proxy; empty where none. The environment's own is honoured by itself."""


class _TrustingAdapter(HTTPAdapter):
    """Hands a TLS context of ours to every connection, direct or through a proxy."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self._context = context
        super().__init__()

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs, ssl_context=self._context)

    def proxy_manager_for(self, *args: Any, **kwargs: Any) -> Any:
        return super().proxy_manager_for(*args, **kwargs, ssl_context=self._context)


def open_session(network: Network) -> requests.Session:
    """Opens an HTTP session that trusts what pip, npm and the system trust, and takes their proxy.

    requests itself reads `REQUESTS_CA_BUNDLE`, the proxy variables and `.netrc`; added here are `PIP_CERT`,
    `SSL_CERT_FILE`, `CURL_CA_BUNDLE`, npm's variables and what the client's configuration file names.

    Args:
        network: What the registry's client says.

    Returns:
        The session; the caller closes it.
    """
    session = requests.Session()
    session.mount("https://", _TrustingAdapter(_context([network.ca_file])))
    if network.proxy:
        session.proxies.update({"http": network.proxy, "https": network.proxy})
    return session


def _context(named: Iterable[str]) -> ssl.SSLContext:
    context = ssl.create_default_context()
    for name in dict.fromkeys([*named, *(os.environ.get(variable, "") for variable in _VARIABLES)]):
        # A file that is named but absent is the client's own affair; what is missing shows in the handshake.
        if name and Path(name).is_file():
            context.load_verify_locations(cafile=name)
    return context
