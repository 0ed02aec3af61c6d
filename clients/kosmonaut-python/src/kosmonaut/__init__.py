"""Kosmonaut connects a backend to a WebRocket server.

A `Client` opens channels, broadcasts, issues single access tokens; a `Worker` handles the events that browsers
trigger. Both speak ZeroMQ, which needs the package pyzmq, or HTTP (`transport="http"`), which needs nothing.
"""

from .address import Address
from .client import Client
from .errors import ConnectionLost, KosmonautError, RequestError, RequestTimeout
from .trigger import Trigger
from .worker import Worker

__all__ = [
    "Address",
    "Client",
    "ConnectionLost",
    "KosmonautError",
    "RequestError",
    "RequestTimeout",
    "Trigger",
    "Worker",
]
