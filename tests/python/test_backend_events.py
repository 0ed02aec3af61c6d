"""Events over HTTP: workers that share them, streams that see them all, and clients that vanish or do not read."""

import contextlib
import http.client
import itertools
import json
import socket
import urllib.parse

import pytest

from backend import basic, head
from control import Control
from exchange import Worker, place, trigger
from metrics import metric
from patience import PATIENCE, eventually
from process import CommandFailed
from session import NO_WORKER, Vhost, fresh
from wwfp import Wwfp

# Events that may wait for one stream, and streams that there may be.
WINDOW = 64
STREAMS_MAX = 512
# Data that fills the way to a client that does not read with a few events.
BULK = "x" * 50_000
# More such events than the window and all buffers of the way hold.
PLACED_MAX = 1_000


class Events:
    """An event stream. `received` bounds, roughly, the bytes that wait on this side."""

    def __init__(self, vhost, *, token=None, received=None, lines=(), **query):
        self.socket = socket.socket()
        self.socket.settimeout(PATIENCE)
        if received is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, received)
        self.socket.connect(vhost.server.websocket_address)
        asked = "/events" + (f"?{urllib.parse.urlencode(query)}" if query else "")
        self.socket.sendall(head(vhost, "GET", asked, *lines, token=token))
        self.response = http.client.HTTPResponse(self.socket)
        self.response.begin()

    def __enter__(self):
        assert self.response.status == 200, self.response.read()
        return self

    def __exit__(self, *_):
        self.close()

    def line(self):
        return self.response.readline().decode()

    def hear_lines(self):
        """The lines of the next event, whatever comments come before."""
        lines = []
        # A heartbeat a second, so that is for how long at least.
        for _ in range(2 * int(PATIENCE)):
            line = self.line()
            assert line, "the stream ended"
            if line == "\n" and lines:
                return lines
            if line != "\n" and not line.startswith(":"):
                lines.append(line.removesuffix("\n"))
        raise AssertionError("nothing but heartbeats")

    def hear(self):
        """Name and data of the next event."""
        _, name, data = self.hear_lines()
        return name.removeprefix("event: "), json.loads(data.removeprefix("data: "))

    def names(self, count):
        return [self.hear()[0] for _ in range(count)]

    def hear_heartbeat(self):
        """Returns once the next heartbeat has come: a second after what came before, if nothing else comes."""
        assert (self.line(), self.line()) == (":\n", "\n")

    def ended(self):
        """Whether the stream ends, as a whole, with nothing but comments."""
        return not self.response.read().decode().strip(":\n")

    def broke(self):
        """Whether the connection breaks within the stream, whatever came before."""
        try:
            self.response.read()
        except (http.client.IncompleteRead, ConnectionError):
            return True
        return False

    def close(self):
        self.response.close()
        self.socket.close()


class Operator:
    """What operators see of a vhost's backends."""

    def __init__(self, vhost):
        self._vhost = vhost

    def queue(self):
        return self._ask("/queue")

    def workers(self):
        return self._ask("/workers")["workers"]

    def _ask(self, resource):
        with Control(self._vhost.server) as control:
            status, answer = control.ask("GET", self._vhost.path, resource)
        assert status == 200
        return answer


@pytest.fixture(scope="session")
def server(shared_server):
    """Streams of events are the control thread's and the exchange's: one number of shards is as good as another."""
    return shared_server(2)


@pytest.fixture
def operator(vhost):
    return Operator(vhost)


def refused(vhost, **options):
    """Status and sentence of a refusal."""
    events = Events(vhost, **options)
    with contextlib.closing(events):
        return events.response.status, json.loads(events.response.read())["error"]


def fill(browser, operator):
    """Triggers events, numbered by their names, until the way to the one worker is full; returns their number."""
    for number in range(PLACED_MAX):
        place(browser, f"e{number}", data=BULK)
        if operator.queue()["waiting"] >= 3:
            assert operator.queue()["outstanding"] == WINDOW
            return number + 1
    raise AssertionError("the way to who does not read is endless")


# What is streamed


def test_an_event_as_it_stands(vhost, browser):
    with Events(vhost) as events:
        assert events.response.headers["Content-Type"] == "text/event-stream"
        assert events.response.headers["Cache-Control"] == "no-store"
        assert events.line() == ":\n", "something comes at once"
        browser.say('{"trigger":{"event":"j\\u00f6b","data":{"x": 1.50,\n"sid":"forged"}}}')
        assert browser.hear() == '{"triggered":"j\\u00f6b"}'
        number, name, data = events.hear_lines()
        assert number.removeprefix("id: ").isdigit() and name == "event: jöb"
        assert data.startswith('data: {"x": 1.50,"sid":"') and "forged" not in data


def test_who_triggers_and_where(vhost, backend_channel):
    joe = vhost.connect(dialect=Wwfp)
    joe.present_token(vhost.issue_token("joe", ".*"))
    joe.subscribe(backend_channel)
    with Events(vhost, filter="order\\..*") as events:
        joe.say(f'{{"broadcast":{{"channel":"{backend_channel}","event":"seen","trigger":"order.new","data":{{"n":1}}}}}}')
        name, data = events.hear()
        assert name == "order.new"
        assert (data["n"], data["uid"], data["channel"]) == (1, "joe", backend_channel)


@pytest.fixture
def backend_channel(vhost):
    vhost.server.ctl("channel", "add", vhost.path, "news")
    return "news"


def test_heartbeats_come_without_events(vhost):
    with Events(vhost) as events:
        for _ in range(3):
            events.hear_heartbeat()


def test_what_was_missed_is_not_kept(vhost, browser):
    with Events(vhost) as events:
        place(browser, "a")
        number, *_ = events.hear_lines()
    with Events(vhost, lines=(f"Last-Event-ID: {int(number.removeprefix('id: ')) - 1}",)) as events:
        place(browser, "b")
        assert events.names(1) == ["b"]


# Who receives it


def test_workers_share(vhost, browser):
    names = [f"e{number}" for number in range(100)]
    last = ["last0", "last1", "last2"]
    one, other, third = Events(vhost, filter="e.*|last0"), Events(vhost, filter="e.*|last1"), Worker(vhost)
    with one, other, third:
        third.ready("e.*|last2", 10)
        place(browser, *names, *last)
        takes = (one.names, other.names, third.events)
        heard = [list(itertools.takewhile(lambda name: name not in last, endless(take))) for take in takes]
    assert sorted(sum(heard, [])) == sorted(names), "each went to one of them"
    for share in heard:
        assert share and share == sorted(share, key=names.index), "in order"


def endless(take):
    """What a worker takes, one by one."""
    while True:
        yield from take(1)


def test_filters(vhost, browser):
    with Events(vhost, filter="a|b.") as some, Events(vhost, filter="c") as others:
        place(browser, "a", "c", "b1", "c")
        assert browser.ask(trigger("ab")) == NO_WORKER, "it matches as a whole"
        assert some.names(2) == ["a", "b1"]
        assert others.names(2) == ["c", "c"]


def test_streams_receive_copies(vhost, browser):
    with Events(vhost, mode="stream") as one, Events(vhost, mode="stream", filter="a") as other:
        place(browser, "a", "b")
        assert (one.names(2), other.names(1)) == (["a", "b"], ["a"])
        with Events(vhost, filter="c") as worker:
            assert browser.ask(trigger("a")) == NO_WORKER, "streams count where no worker is"
            place(browser, "c")
            assert worker.names(1) == ["c"]
        assert one.names(1) == ["c"], "what nobody takes is copied to nobody"


def test_nobody_hears_of_another_vhost(server, vhost, browser):
    with contextlib.ExitStack() as others:
        other = others.enter_context(Vhost(server, f"/{fresh('v')}", "anonymous=read,write"))
        events, *of_other = map(others.enter_context, [Events(vhost), Events(other), Events(other, mode="stream")])
        stranger = other.connect()
        for number in range(10):
            place(browser, f"here{number}")
            place(stranger, f"there{number}")
        assert events.names(10) == [f"here{number}" for number in range(10)]
        for theirs in of_other:
            assert theirs.names(10) == [f"there{number}" for number in range(10)]


# Those who vanish, and those who do not read


def test_what_a_dead_worker_has_not_taken_goes_to_another(vhost, browser, operator):
    before = metric(vhost.server, "event_stream_events_total")
    with Events(vhost, received=4096) as dying:
        placed = fill(browser, operator)
        dying.close()
        with Events(vhost) as other:
            (first,) = other.names(1)
            taken = int(first.removeprefix("e"))
            names = other.names(placed - taken - 1)
            eventually(lambda: metric(vhost.server, "event_stream_events_total") - before, placed)
    assert names == [f"e{number}" for number in range(taken + 1, placed)], "in their order"
    assert placed - taken > WINDOW / 2, "what waited for it is not lost with it"


def test_a_worker_that_does_not_read_is_cut_off(vhost, browser, operator, hardly_reading):
    """One that reads nothing, and one that reads some bytes now and then."""
    with Events(vhost, received=4096) as stuck, Events(vhost, mode="stream", filter="last") as patient:
        placed = fill(browser, operator)
        with Events(vhost) as other:
            names = other.names(3)
            assert names == [f"e{number}" for number in range(placed - 3, placed)], "nobody waits for it"
            while len(operator.workers()) > 1:
                patient.hear_heartbeat()
                hardly_reading.read_a_little()
            names = other.names(WINDOW)
            assert names == [f"e{number}" for number in range(placed - 3 - WINDOW, placed - 3)]
            place(browser, "last")
            assert patient.names(1) == other.names(1) == ["last"], "an idle stream is kept"
        assert stuck.broke()
        while not hardly_reading.is_cut_off():
            patient.hear_heartbeat()
            hardly_reading.read_a_little()


class HardlyReading:
    """A worker that takes some bytes every other time, and no whole event."""

    def __init__(self, events, operator):
        self._events, self._operator = events, operator
        self._times = 0

    def read_a_little(self):
        self._times += 1
        if self._times % 2 == 0:
            assert len(self._events.response.read(3000)) == 3000

    def is_cut_off(self):
        if self._operator.workers():
            return False
        assert self._times > 3 and self._events.broke(), "although it took bytes"
        return True


@pytest.fixture
def hardly_reading(server):
    with Vhost(server, f"/{fresh('v')}", "anonymous=read,write") as vhost, Events(vhost, received=4096) as events:
        operator = Operator(vhost)
        fill(vhost.connect(), operator)
        yield HardlyReading(events, operator)


def test_a_stream_that_does_not_read_loses_copies(vhost, browser, operator):
    dropped = metric(vhost.server, "stream_copies_dropped_total")
    with Events(vhost, mode="stream", received=4096) as stuck, Events(vhost) as worker:
        for number in range(PLACED_MAX):
            place(browser, f"e{number}", data=BULK)
            assert worker.names(1) == [f"e{number}"], "others lose nothing"
            if metric(vhost.server, "stream_copies_dropped_total") >= dropped + 3:
                break
        else:
            raise AssertionError("copies are kept for ever")
        heard = stuck.names(WINDOW)
        assert heard == [f"e{position}" for position in range(WINDOW)], "what has a place has its order"


def test_who_says_that_it_leaves_is_gone(vhost, browser, operator):
    with Events(vhost) as leaving:
        assert len(operator.workers()) == 1
        leaving.socket.shutdown(socket.SHUT_WR)
        assert leaving.broke()
        eventually(operator.workers, [])
        assert browser.ask(trigger("a")) == NO_WORKER


# Who may take events, and when no more


def test_what_is_asked_for_is_checked(server, vhost):
    assert refused(vhost, filter="(") == (400, "the filter is no regular expression: unclosed group")
    assert refused(vhost, filter="a" * 1025) == (400, "the filter is longer than 1024 bytes")
    assert refused(vhost, filter="\\w{100}{100}") == (400, "the filter compiles to more than 512 KiB")
    assert refused(vhost, mode="both") == (400, "the mode must be worker or stream")
    assert refused(vhost, window="5") == (400, 'there is no parameter "window"')
    assert refused(vhost, token="0" * 40)[0] == 401
    for method in ("HEAD", "POST", "DELETE"):
        connection = http.client.HTTPConnection(*server.websocket_address, timeout=PATIENCE)
        with contextlib.closing(connection):
            connection.request(method, f"{vhost.path}/events", headers={"Authorization": basic(vhost.token)})
            response = connection.getresponse()
            assert (response.status, response.headers["Allow"]) == (405, "GET")
    nowhere = Vhost(server, f"/{fresh('v')}")
    server.ctl("vhost", "remove", nowhere.path)
    assert refused(nowhere)[0] == 404


def test_a_regenerated_token_ends_streams(server, vhost, browser):
    with Events(vhost) as events, Events(vhost, mode="stream") as streams:
        server.ctl("vhost", "regenerate-token", vhost.path)
        assert browser.ask(trigger("a")) == NO_WORKER
        assert events.ended() and streams.ended()
    assert refused(vhost)[0] == 401


def test_a_removed_vhost_ends_streams(server, vhost):
    with Events(vhost) as events, Events(vhost, mode="stream") as streams:
        server.ctl("vhost", "remove", vhost.path)
        assert events.ended() and streams.ended()


def test_a_server_that_stops_ends_streams(start):
    server = start()
    vhost = Vhost(server, "/test", "anonymous=read,write")
    browser = vhost.connect()
    with Events(vhost, received=4096) as stuck, Events(vhost, mode="stream", filter="-") as idle:
        fill(browser, Operator(vhost))
        assert server.stop() == 0, "it waits for nobody who does not read"
        assert idle.ended() and stuck.broke()
    vhost.close_sessions()


def test_there_is_a_bound_on_streams(server, vhost, backend_channel):
    with contextlib.ExitStack() as open_ones:
        eventually(lambda: metric(server, "event_streams"), 0)
        streams = [open_ones.enter_context(Events(vhost, mode="stream")) for _ in range(STREAMS_MAX)]
        eventually(lambda: metric(server, "event_streams"), STREAMS_MAX)
        assert refused(vhost) == (503, "there are too many event streams; try again later")
        connection = http.client.HTTPConnection(*server.websocket_address, timeout=PATIENCE)
        with contextlib.closing(connection):
            asked = f"{vhost.path}/channels/{backend_channel}"
            connection.request("GET", asked, headers={"Authorization": basic(vhost.token)})
            assert connection.getresponse().status == 200, "backends can still ask"
        place(vhost.connect(), "a")
        assert all(stream.names(1) == ["a"] for stream in streams)


# webrocket-ctl


def test_ctl_shows_workers_and_what_waits(server, vhost, browser):
    assert server.ctl("worker", "list", vhost.path).split() == "ID TRANSPORT FILTER WINDOW OUTSTANDING SINCE".split()
    with Events(vhost, filter="a.*"), Worker(vhost) as other, Events(vhost, mode="stream"):
        other.ready("b", 5)
        place(browser, "b")
        over_http, over_zmq = server.ctl_json("worker", "list", vhost.path)["workers"]
        assert (over_http["transport"], over_http["filter"], over_http["window"]) == ("eventsource", "a.*", WINDOW)
        assert (over_zmq["transport"], over_zmq["filter"], over_zmq["window"]) == ("zeromq", "b", 5)
        assert (over_http["outstanding"], over_zmq["outstanding"]) == (0, 1)
        _, *rows = server.ctl("worker", "list", vhost.path).splitlines()
        assert [row.split()[1:5] for row in rows] == [["eventsource", "a.*", "64", "0"], ["zeromq", "b", "5", "1"]]
        queue = server.ctl_json("queue", "show", vhost.path)
        counted = {"waiting": 0, "outstanding": 1, "workers": 2, "streams": 1, "placed": 1, "refused": 0}
        assert {name: queue[name] for name in counted} == counted
        lines = server.ctl("queue", "show", vhost.path).splitlines()
        assert ["outstanding", "1"] in [line.split() for line in lines]
    for command in (("worker", "list"), ("queue", "show")):
        with pytest.raises(CommandFailed, match="there is no vhost /nowhere"):
            server.ctl(*command, "/nowhere")
