"""A client's requests over the HTTP Backend API."""

from __future__ import annotations

import base64
import http.client
import json
import selectors
import urllib.parse
from typing import Any

from .address import Address
from .errors import ConnectionLost, RequestError, RequestTimeout

# HTTP's codes in the words of the exchange, which both transports share.
_CODES = {401: 402, 500: 597}
_STATUSES = {402: "Unauthorized", 451: "Invalid channel name", 454: "Channel not found", 597: "Internal error"}


def credentials(address: Address) -> dict[str, str]:
    """The header that lets a backend in."""
    return {"Authorization": "Basic " + base64.b64encode(f"wr:{address.token}".encode()).decode()}


def refusal(response: http.client.HTTPResponse, body: bytes, codes: dict[int, int] | None = None) -> RequestError:
    """The error in an answer; `codes` are what HTTP's codes mean for this request, beside those that all share."""
    code = (codes or {}).get(response.status, _CODES.get(response.status, response.status))
    try:
        reason = json.loads(body)["error"]
    except (ValueError, KeyError, TypeError):
        reason = None
    return RequestError(code, _STATUSES.get(code, response.reason), reason)


class HttpRequests:
    """Asks over one connection, which is kept."""

    def __init__(self, address: Address, timeout: float):
        self._address = address
        self._timeout = timeout
        self._headers = credentials(address)
        self._connection: http.client.HTTPConnection | None = None

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def open_channel(self, channel: str) -> None:
        self._ask("POST", _channel(channel), codes={400: 451})

    def close_channel(self, channel: str) -> None:
        self._ask("DELETE", _channel(channel), codes={404: 454})

    def broadcast(self, channel: str, event: str, data: str) -> None:
        self._ask("POST", f"{_channel(channel)}/events", _event(event, data), codes={404: 454})

    def send_message(self, sid: str, event: str, data: str) -> None:
        self._ask("POST", f"/sessions/{_quoted(sid)}/events", _event(event, data))

    def request_token(self, uid: str, pattern: str) -> str:
        query = urllib.parse.urlencode({"uid": uid, "channels": pattern})
        return self._ask("GET", f"/token?{query}")["token"]

    def members(self, channel: str) -> list[dict[str, Any]]:
        return self._ask("GET", _channel(channel), codes={404: 454})["channel"]["subscribers"].get("list", [])

    def _ask(self, method: str, resource: str, body: bytes | None = None, *, codes: dict[int, int] | None = None) -> Any:
        settled = False
        try:
            connection = self._connected()
            connection.request(method, self._address.vhost + resource, body, self._headers)
            response = connection.getresponse()
            answer = response.read()
            settled = not response.will_close
        except TimeoutError as error:
            raise RequestTimeout(f"no answer from {self._address.authority} within {self._timeout} s") from error
        except (OSError, http.client.HTTPException) as error:
            raise ConnectionLost(f"the connection to {self._address.authority} failed: {error}") from error
        finally:
            if not settled:
                self.close()
        if response.status >= 300:
            raise refusal(response, answer, codes)
        return json.loads(answer)

    def _connected(self) -> http.client.HTTPConnection:
        """The connection, a new one if the server has closed it: it does so when nothing is asked for a while."""
        if self._connection is not None and _is_readable(self._connection.sock):
            self.close()
        if self._connection is None:
            host, port = self._address.host, self._address.port
            self._connection = http.client.HTTPConnection(host, port, timeout=self._timeout)
        return self._connection


def _is_readable(sock: Any) -> bool:
    """Whether something comes that nobody asked for: the end, if anything."""
    with selectors.DefaultSelector() as selector:
        selector.register(sock, selectors.EVENT_READ)
        return bool(selector.select(0))


def _channel(name: str) -> str:
    return f"/channels/{_quoted(name)}"


def _quoted(segment: str) -> str:
    return urllib.parse.quote(segment, safe="")


def _event(event: str, data: str) -> bytes:
    """The body of an event; `data` is JSON already."""
    return f'{{"event":{json.dumps(event, ensure_ascii=False)},"data":{data}}}'.encode()
