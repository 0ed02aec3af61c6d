"""Where a vhost is and what lets a backend in: `wr://TOKEN@host:port/vhost`."""

from __future__ import annotations

import urllib.parse
from dataclasses import dataclass, field

PORTS = {"zmq": 9774, "http": 9772}


@dataclass(frozen=True)
class Address:
    """A vhost of a server. The token is kept out of `repr`, and so out of logs."""

    host: str
    port: int
    vhost: str
    token: str = field(repr=False)

    @classmethod
    def parse(cls, url: str, transport: str) -> "Address":
        """Reads a URL; the port is by default the transport's: 9774 for "zmq", 9772 for "http".

        Raises `ValueError` for what is no such URL, without repeating it: it may hold a token.
        """
        if transport not in PORTS:
            raise ValueError(f'the transport must be "zmq" or "http", not {transport!r}')
        try:
            parts = urllib.parse.urlsplit(url)
            port = parts.port or PORTS[transport]
        except ValueError as error:
            raise ValueError(_expected("host or port cannot be read")) from error
        if parts.scheme != "wr":
            raise ValueError(_expected("it does not begin with wr://"))
        if not parts.username or parts.password is not None:
            raise ValueError(_expected("the vhost's access token must stand before the @"))
        if not parts.hostname:
            raise ValueError(_expected("there is no host"))
        if len(parts.path) < 2 or parts.query or parts.fragment:
            raise ValueError(_expected("the vhost's path, and nothing else, must follow the host"))
        return cls(parts.hostname, port, parts.path, urllib.parse.unquote(parts.username))

    @property
    def authority(self) -> str:
        """Host and port as they stand in a URL."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


def _expected(problem: str) -> str:
    return f"the URL must look like wr://TOKEN@host:port/vhost: {problem}"
