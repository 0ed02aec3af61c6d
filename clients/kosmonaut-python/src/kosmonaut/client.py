"""The Client: asks the server for something and waits for its answer."""

from __future__ import annotations

import json
import threading
from typing import Any

from .address import Address

_NO_DATA = object()


class Client:
    """Asks one vhost of a server, one request at a time; threads that share a client wait for each other.

    >>> with Client("wr://TOKEN@localhost/world") as client:
    ...     client.open_channel("news")
    ...     client.broadcast("news", "headline", {"text": "Hello"})

    Every request raises `RequestError` if the server refuses it, `RequestTimeout` if no answer comes within `timeout`
    seconds, and `ConnectionLost` if the connection breaks meanwhile. Of the latter two it is unknown whether the request
    was or will be carried out; it is never repeated by itself. The next request makes a new connection, so a late
    answer is never taken for another's.
    """

    def __init__(self, url: str, *, timeout: float = 5.0, transport: str = "zmq"):
        """`url` is `wr://TOKEN@host:port/vhost`. Nothing is connected before the first request."""
        address = Address.parse(url, transport)
        self._lock = threading.Lock()
        if transport == "http":
            from .http_requests import HttpRequests

            self._requests: Any = HttpRequests(address, timeout)
        else:
            from .zmq_requests import ZmqRequests

            self._requests = ZmqRequests(address, timeout)

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connection. A later request would make a new one."""
        with self._lock:
            self._requests.close()

    def open_channel(self, channel: str) -> None:
        """Opens a channel; `private-…` and `presence-…` are its kinds. One that is open already stays as it is."""
        with self._lock:
            self._requests.open_channel(channel)

    def close_channel(self, channel: str) -> None:
        """Closes a channel; its subscribers are told."""
        with self._lock:
            self._requests.close_channel(channel)

    def broadcast(self, channel: str, event: str, data: Any = _NO_DATA) -> None:
        """Sends an event to all subscribers of a channel; `data` is anything that `json` can encode."""
        encoded = _encode(data)
        with self._lock:
            self._requests.broadcast(channel, event, encoded)

    def send_message(self, sid: str, event: str, data: Any = _NO_DATA) -> None:
        """Sends an event to one session, for instance `trigger.sid`."""
        encoded = _encode(data)
        with self._lock:
            self._requests.send_message(sid, event, encoded)

    def request_token(self, uid: str, pattern: str) -> str:
        """A single access token: lets a browser's session, once, into the channels that `pattern` matches, as `uid`.

        The pattern is a regular expression for the whole name of a channel.
        """
        with self._lock:
            return self._requests.request_token(uid, pattern)

    def members(self, channel: str) -> list[dict[str, Any]]:
        """Who is in a presence channel: a dict for each, with `uid` and the data of the join. Other channels: none."""
        with self._lock:
            return self._requests.members(channel)


def _encode(data: Any) -> str:
    """JSON; no data adds nothing to the event, as an empty object does."""
    if data is _NO_DATA:
        return "{}"
    return json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
