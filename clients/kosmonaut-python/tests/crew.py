"""A vhost, workers of it that run beside a test, and a browser that triggers."""

import json
import queue
import threading

from kosmonaut import Worker
from patience import PATIENCE, eventually
from session import Vhost, request
from wwfp import Wwfp, error, ok

PORTS = {"zmq": "exchange", "http": "websocket"}


class Backed(Vhost):
    """A vhost with `ann`, who reads and writes, and the URLs of its backends."""

    def __init__(self, server, path):
        super().__init__(server, path)
        self.add_user("ann", "read,write")

    def url(self, transport, token=None):
        address = self.server.ready[PORTS[transport]]
        return f"wr://{token or self.token}@{address}{self.path}"

    def browser(self, user="ann"):
        return self.connect(user, dialect=Wwfp)


class Hand:
    """A worker in a thread: for `events`, a regular expression, and for its own name, which proves that it is ready."""

    def __init__(self, url, name, events, handler, **options):
        self.handled = queue.SimpleQueue()
        self.name = name
        self.error = None
        self._handler = handler
        self.worker = Worker(url, filter=f"{events}|{name}", **options)
        self.worker.on(name, lambda trigger: self.handled.put(trigger))
        self.worker.otherwise(self._handle)
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def hear(self):
        """The next trigger whose handler has returned. Proofs of readiness are left out: they may come again."""
        while (trigger := self.handled.get(timeout=PATIENCE)).event == self.name:
            pass
        return trigger

    def stop(self):
        self.worker.stop()
        self.join()

    def join(self):
        """Returns once `run` has; the error that it raised, if any."""
        self._thread.join(timeout=PATIENCE)
        assert not self._thread.is_alive(), "the worker does not end"
        return self.error

    def _run(self):
        try:
            self.worker.run()
        except Exception as error:
            self.error = error

    def _handle(self, trigger):
        self._handler(trigger)
        self.handled.put(trigger)


class Crew:
    """The workers of a vhost, and its browser."""

    def __init__(self, vhost):
        self.vhost = vhost
        self.hands = []
        self._browser = None

    def hire(self, handler=lambda trigger: None, events="job", transport="zmq", **options):
        """A worker that is ready: it has handled an event that nobody else takes."""
        name = f"hand-{len(self.hands)}"
        hand = Hand(self.vhost.url(transport), name, events, handler, transport=transport, **options)
        self.hands.append(hand)
        self.await_ready(hand)
        return hand

    def await_ready(self, hand):
        """Returns once the worker has handled an event of its own. One that a dead connection was given may be lost."""
        for _ in range(int(PATIENCE)):
            self.trigger_until_placed(hand.name)
            try:
                assert hand.handled.get(timeout=1).event == hand.name
                return
            except queue.Empty:
                continue
        raise AssertionError(f"{hand.name} handles nothing")

    def trigger(self, event="job", data=None):
        """Whether a worker was found."""
        reply = self.browser().ask(request("trigger", event=json.dumps(event), data=data, ref="1"))
        assert reply in (ok(205, ref=1), error(503, ref=1)), reply
        return reply == ok(205, ref=1)

    def trigger_until_placed(self, event, data=None):
        eventually(lambda: self.trigger(event, data), True)

    def place(self, *numbers):
        """Triggers jobs, each of which must find a worker."""
        for number in numbers:
            assert self.trigger(data=f'{{"n":{number}}}')

    def browser(self):
        if self._browser is None:
            self._browser = self.vhost.browser()
        return self._browser

    def forget_browser(self):
        """The server it was connected to is gone."""
        self._browser = None

    def dismiss(self):
        for hand in self.hands:
            hand.stop()
        assert [hand.error for hand in self.hands if hand.error] == []


def numbers(hand, count):
    """The numbers of the next jobs that were handled."""
    return [hand.hear().data["n"] for _ in range(count)]
