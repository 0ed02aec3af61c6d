"""What can go wrong."""

from __future__ import annotations


class KosmonautError(Exception):
    """The base of all errors of this package."""


class RequestError(KosmonautError):
    """The server refused: `code` and `status` are its answer, `reason` a sentence if it gave one.

    The codes are the same over both transports: 400 bad request, 402 wrong token or no such vhost, 403 a limit is
    reached, 404 no such session, 451 no valid channel name, 454 no such channel, 503 too much at once, 597 the server
    failed. Only over HTTP: 404 also where there is no such vhost, 413 too long.
    """

    def __init__(self, code: int, status: str, reason: str | None = None):
        super().__init__(f"{code} {status}" + (f": {reason}" if reason else ""))
        self.code = code
        self.status = status
        self.reason = reason


class RequestTimeout(KosmonautError, TimeoutError):
    """No answer came in time. The request may have been carried out or may still be."""


class ConnectionLost(KosmonautError, ConnectionError):
    """The connection broke or could not be made. A request that was under way may have been carried out."""
