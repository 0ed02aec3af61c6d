"""Backends over ZeroMQ, spoken through pyzmq: clients, workers and streams."""

import contextlib
import json
import select
import threading
import time

import zmq
from zmq.utils.monitor import recv_monitor_message

from metrics import metric
from patience import PATIENCE, eventually


def zmq_socket(kind, url, user, password, **options):
    """A connected socket that shows these credentials, none where `user` is None. Its waits end after PATIENCE."""
    socket = zmq.Context.instance().socket(kind)
    socket.linger = 0
    socket.rcvtimeo = socket.sndtimeo = int(PATIENCE * 1000)
    if user is not None:
        socket.plain_username, socket.plain_password = user.encode(), password.encode()
    for name, value in options.items():
        setattr(socket, name, value)
    socket.connect(url)
    return socket


@contextlib.contextmanager
def monitored(socket, events):
    """Gives what awaits the next of these events of the socket's connection, and returns it."""
    monitor = socket.get_monitor_socket(events)
    monitor.rcvtimeo = int(PATIENCE * 1000)
    try:
        yield lambda: recv_monitor_message(monitor)["event"]
    finally:
        socket.disable_monitor()
        monitor.close(0)


def is_let_in(kind, url, user=None, password=None, **options):
    """Whether a connection gets through its handshake."""
    socket = zmq.Context.instance().socket(kind)
    socket.linger = 0
    # A second try would be counted too.
    socket.reconnect_ivl = -1
    if user is not None:
        options |= {"plain_username": user.encode(), "plain_password": password.encode()}
    for name, value in options.items():
        setattr(socket, name, value)
    events = zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_HANDSHAKE_FAILED_AUTH
    with contextlib.closing(socket), monitored(
        socket, events | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL | zmq.EVENT_DISCONNECTED
    ) as next_event:
        socket.connect(url)
        return next_event() == zmq.EVENT_HANDSHAKE_SUCCEEDED


class Connected:
    """What all connections have in common. `socket` is theirs alone while `lock` is held."""

    def __init__(self, socket):
        self.socket = socket
        self.lock = threading.Lock()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self, linger_ms=0):
        with self.lock:
            self.socket.close(linger_ms)

    @contextlib.contextmanager
    def is_cut_off(self):
        """A context at whose end the server hangs up. All that it had said before is there then."""
        with monitored(self.socket, zmq.EVENT_DISCONNECTED) as next_event:
            yield
            next_event()

    def has_heard(self):
        """Whether something has come that was not taken."""
        with self.lock:
            return bool(self.socket.poll(0))


class Peer(Connected):
    """A connection to a vhost's exchange. Frames go and come as bytes, without the delimiter."""

    KIND = zmq.DEALER

    def __init__(self, vhost, **options):
        super().__init__(zmq_socket(self.KIND, vhost.server.exchange_url, vhost.path, vhost.token, **options))

    def say(self, *frames):
        """Sends a message; frames are text or bytes."""
        with self.lock:
            self.socket.send_multipart([b"", *map(_bytes, frames)])

    def hear(self):
        """The next message that is no heartbeat."""
        while (frames := self.hear_any()) == [b"HB"]:
            pass
        return frames

    def hear_any(self):
        delimiter, *frames = self._receive()
        assert delimiter == b""
        return frames

    def _receive(self):
        return self.socket.recv_multipart()

    def ask(self, *frames):
        self.say(*frames)
        return self.hear()


class Client(Peer):
    """A client that may have many requests open."""

    def open(self, channel):
        assert self.ask("OC", channel) == [b"OK"]
        return channel


class Requester(Client):
    """A client with a REQ socket, which adds the delimiter itself."""

    KIND = zmq.REQ

    def say(self, *frames):
        self.socket.send_multipart([*map(_bytes, frames)])

    def hear(self):
        return self.socket.recv_multipart()


class Heart:
    """Sends the heartbeats of all workers of this process, in a thread of its own.

    A worker that says nothing for three seconds is dead to the server, and a test may be busy with something else, or
    wait for its turn on a busy machine, for longer than that.
    """

    # In seconds.
    _INTERVAL = 0.5

    def __init__(self):
        self._workers = set()
        self._lock = threading.Lock()
        self._thread = None

    def add(self, worker):
        with self._lock:
            self._workers.add(worker)
            if self._thread is None:
                self._thread = threading.Thread(target=self._beat, daemon=True)
                self._thread.start()

    def remove(self, worker):
        """Returns once no beat of the worker is under way."""
        with self._lock:
            self._workers.discard(worker)

    def _beat(self):
        while True:
            time.sleep(self._INTERVAL)
            with self._lock:
                for worker in self._workers:
                    worker.beat()


_heart = Heart()


class Worker(Peer):
    """A worker. From when it says that it is ready, it lives until it leaves, is told to, or is made to fall silent."""

    def __init__(self, vhost, **options):
        super().__init__(vhost, **options)
        self._readable = self.socket.FD

    def join(self, *arguments):
        """Says that it is ready, and lives from now on."""
        self.say("RD", *arguments)
        self.revive()

    def ready(self, *arguments):
        """Says that it is ready, and returns once the server knows."""
        self.join(*arguments)
        # Answered after what was said before: a client's question, which changes nothing.
        self.hears_nothing()
        return self

    def leave(self):
        """Says that it is a worker no more, and lives on as a peer."""
        self.fall_silent()
        self.say("QT")

    def fall_silent(self):
        """Beats no more. What it says is still said."""
        _heart.remove(self)

    def revive(self):
        """Beats from now on."""
        _heart.add(self)

    def beat(self):
        # One that finds no room is left out: whatever is before it says as much.
        with self.lock, contextlib.suppress(zmq.Again):
            self.socket.send_multipart([b"", b"HB"], zmq.NOBLOCK)

    def hear_any(self):
        frames = super().hear_any()
        if frames == [b"QT"]:
            self.fall_silent()
        return frames

    def _receive(self):
        """The socket is shared with the heart, so it must not be held while nothing comes."""
        deadline = time.monotonic() + PATIENCE
        while True:
            with self.lock, contextlib.suppress(zmq.Again):
                return self.socket.recv_multipart(zmq.NOBLOCK)
            assert time.monotonic() < deadline, "nothing comes"
            # A beat may take the sign that something has come, so it is looked at again before long.
            select.select([self._readable], [], [], 0.02)

    def trigger(self):
        """The next trigger: payload and, with a window, id."""
        command, payload, *number = self.hear()
        assert command == b"TR", command
        return (json.loads(payload), *number)

    def events(self, count):
        """The events of the next triggers, each acknowledged where that is wanted."""
        events = []
        for _ in range(count):
            payload, *number = self.trigger()
            events.extend(payload)
            if number:
                self.say("AK", *number)
        return events

    def hears_nothing(self):
        """What comes next is the answer to a question of now: nothing stood before it."""
        assert self.ask("CC", "-") == error(454)

    def hears_heartbeats(self, count):
        """The next messages, which are heartbeats. They come once a second, whatever else happens."""
        assert [self.hear_any() for _ in range(count)] == [[b"HB"]] * count

    def close(self, linger_ms=0):
        self.fall_silent()
        super().close(linger_ms)


class Stream(Connected):
    """A stream subscriber."""

    def __init__(self, vhost, *topics, **options):
        super().__init__(zmq_socket(zmq.SUB, vhost.server.stream_url, vhost.path, vhost.token, **options))
        for topic in topics:
            self.socket.subscribe(topic)

    def hear(self):
        """Topic and payload of the next copy."""
        topic, payload = self.socket.recv_multipart()
        return topic.decode(), json.loads(payload)

    def hear_topic(self):
        return self.hear()[0]


def _bytes(frame):
    return frame if isinstance(frame, bytes) else str(frame).encode()


ERRORS = {
    400: "Bad request",
    402: "Unauthorized",
    403: "Forbidden",
    404: "Session not found",
    451: "Invalid channel name",
    454: "Channel not found",
    503: "Service unavailable",
}


def error(code):
    return [b"ER", str(code).encode(), ERRORS[code].encode()]


def trigger(event, data=None):
    """The text of a classic trigger request."""
    return json.dumps({"trigger": {"event": event, **({} if data is None else {"data": data})}})


def place(session, *events, data=None):
    """Triggers events one after the other; each must be taken."""
    for event in events:
        session.say(trigger(event, data))
    for event in events:
        assert session.hear() == f'{{"triggered":"{event}"}}'


def streams_subscribe(server, count):
    """Returns once so many subscriptions of streams are in effect."""
    eventually(lambda: metric(server, "streams"), count)


def all_have_left(server):
    """Returns once no backend is connected any more: for tests that count them."""
    eventually(lambda: metric(server, "peers_connected"), 0)
