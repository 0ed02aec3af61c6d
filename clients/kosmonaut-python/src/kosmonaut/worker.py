"""The Worker: handles what browsers trigger."""

from __future__ import annotations

import logging
from typing import Any, Callable, TypeVar

from .address import Address
from .inbox import Delivery, Inbox
from .link import Link
from .trigger import Trigger

log = logging.getLogger("kosmonaut")

Handler = Callable[[Trigger], Any]
H = TypeVar("H", bound=Handler)

WINDOW_MAX = 1000


class Worker:
    """Takes the triggers of one vhost and gives each to the handler of its event, one after the other.

    >>> worker = Worker("wr://TOKEN@localhost/world")
    >>> @worker.on("order")
    ... def order(trigger):
    ...     print(trigger.data["item"], trigger.uid)
    >>> worker.run()

    Workers share the work: each trigger goes to one of those whose `filter`, a regular expression for the whole name of
    an event, matches. Over ZeroMQ a trigger is acknowledged when its handler returns. If the handler raises, the error is
    logged and the trigger goes to another worker, and so do those that a dead worker had: a handler may see a trigger
    again. `window` is how many triggers are given to this worker before it has acknowledged the first; with `None`, and
    over HTTP, nothing is acknowledged, and what a dead worker had is lost.

    Heartbeats go on while a handler works, however long it takes. A lost connection is made anew.
    """

    def __init__(self, url: str, filter: str | None = None, window: int | None = 100, *, transport: str = "zmq"):
        """`url` is `wr://TOKEN@host:port/vhost`. Nothing is connected before `run`."""
        if window is not None and not 1 <= window <= WINDOW_MAX:
            raise ValueError(f"the window must be 1 to {WINDOW_MAX}, or None, not {window}")
        address = Address.parse(url, transport)
        self._handlers: dict[str, Handler] = {}
        self._fallback: Handler | None = None
        self._inbox = Inbox()
        if transport == "http":
            from .http_link import HttpLink

            self._link: Link = HttpLink(address, self._inbox, filter)
        else:
            from .zmq_link import ZmqLink

            self._link = ZmqLink(address, self._inbox, filter, window)

    def on(self, event: str, handler: H | None = None) -> Any:
        """Sets the handler of an event, as `worker.on("order", handler)` or as the decorator `@worker.on("order")`."""
        if handler is None:
            return lambda handler: self.on(event, handler)
        self._handlers[event] = handler
        return handler

    def otherwise(self, handler: H) -> H:
        """Sets the handler of all other events, also as the decorator `@worker.otherwise`.

        Without one they count as handled and a warning is logged; a `filter` keeps them away.
        """
        self._fallback = handler
        return handler

    def run(self) -> None:
        """Works until `stop`; can be called once.

        Raises `RequestError` if the server refuses this worker: 402 a wrong token, 400 a filter that is no regular
        expression, and over HTTP 404 where there is no such vhost.
        """
        self._link.start()
        try:
            while (delivery := self._inbox.get()) is not None:
                self._link.settle(delivery, self._handle(delivery))
        finally:
            self._link.close()

    def stop(self) -> None:
        """Lets `run` return when the running handler has; what was not begun with goes to others. From any thread, and
        from signal handlers.

        Where nothing is acknowledged, what was taken already is still handled, for nobody else has it.
        """
        self._link.stop()

    def _handle(self, delivery: Delivery) -> bool:
        trigger = delivery.trigger
        handler = self._handlers.get(trigger.event, self._fallback)
        if handler is None:
            log.warning("no handler for the event %r", trigger.event)
            return True
        try:
            handler(trigger)
        except Exception:
            log.exception("the handler of the event %r failed", trigger.event)
            return False
        return True
