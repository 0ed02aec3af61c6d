"""Who is let in over ZeroMQ, what streams may hear, and what a new access token does to those who have the old one."""

import pytest
import zmq
from zmq.utils.monitor import recv_monitor_message

from exchange import Client, Requester, Stream, Worker, browser, error, eventually, figure, place, server, trigger, vhost
from process import PATIENCE, hex_word
from session import Vhost, fresh
from zmtp import RawPeer, greeting

REFUSED = '{"err":"ASSIGNATION_FAILED"}'


def fate(kind, url, user, password):
    """Whether a connection gets through its handshake."""
    socket = zmq.Context.instance().socket(kind)
    events = zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_HANDSHAKE_FAILED_AUTH
    monitor = socket.get_monitor_socket(events | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL | zmq.EVENT_DISCONNECTED)
    monitor.rcvtimeo = int(PATIENCE * 1000)
    socket.linger = 0
    if user is not None:
        socket.plain_username, socket.plain_password = user.encode(), password.encode()
    socket.connect(url)
    try:
        return recv_monitor_message(monitor)["event"] == zmq.EVENT_HANDSHAKE_SUCCEEDED
    finally:
        socket.disable_monitor()
        monitor.close(0)
        socket.close(0)


@pytest.fixture(params=["exchange", "stream"])
def entrance(request, server):
    """A kind of socket, and where it connects."""
    if request.param == "exchange":
        return zmq.DEALER, server.exchange_url
    return zmq.SUB, server.stream_url


# Who is let in


def test_the_right_token_is_let_in(server, vhost, entrance):
    accepted = figure(server, "zap_accepted_total")
    assert fate(*entrance, vhost.path, vhost.token)
    assert figure(server, "zap_accepted_total") == accepted + 1


def test_wrong_credentials_are_refused(server, vhost, entrance):
    other = Vhost(server, f"/{fresh('v')}")
    refused = figure(server, "zap_refused_total")
    wrong = [
        (vhost.path, other.token),
        (vhost.path, vhost.token[:-1]),
        (vhost.path, vhost.token.upper().swapcase()[::-1]),
        (vhost.path, "0" * 40),
        (vhost.path[1:], vhost.token),
        (vhost.path + "/", vhost.token),
        ("/nowhere", vhost.token),
        ("wr", vhost.token),
        ("x" * 255, "y" * 255),
    ]
    for user, password in wrong:
        assert not fate(*entrance, user, password), (user, password)
    for user, password in ((vhost.path, ""), ("", vhost.token), ("", "")):
        with RawPeer(entrance[1]) as peer:
            peer.send(greeting())
            peer.read(64)
            peer.hello(user.encode(), password.encode())
            # The vendored libzmq misspells the name of its own command.
            assert peer.read_frame()[1].endswith(b"RROR\x03400")
    assert figure(server, "zap_refused_total") == refused + len(wrong) + 3
    server.ctl("vhost", "remove", other.path)


def test_without_credentials_nobody_is_let_in(server, entrance):
    kind, url = entrance
    assert not fate(kind, url, None, None)
    for mechanism in (b"NULL", b"CURVE", b"GSSAPI", b""):
        with RawPeer(url) as peer:
            peer.send(greeting(mechanism))
            assert peer.ended()
    # Older protocols know no credentials.
    for revision in (b"\x01\x00", b"\xff" + bytes(8) + b"\x7f\x00\x05\x00\x00", b"\xff" + bytes(8) + b"\x7f\x01\x05\x00\x00"):
        with RawPeer(url) as peer:
            peer.send(revision + bytes(64))
            assert peer.ended()


def test_secrets_are_not_logged(start, tmp_path):
    server = start(log_level="trace")
    vhost = Vhost(server, "/moon")
    with Client(vhost) as client:
        client.open("a")
        _, single = client.ask("AT", "joe", ".*")
    assert not fate(zmq.DEALER, server.exchange_url, vhost.path, "f" * 40)
    assert server.stop() == 0
    log = "\n".join(server.log)
    assert vhost.token not in log and single.decode() not in log and "f" * 40 not in log


# Streams


def subscribed(server, count):
    """Returns once so many subscriptions of streams are in effect."""
    eventually(lambda: figure(server, "streams"), count)


def test_streams_get_copies_of_what_they_subscribe(server, vhost, browser):
    with Stream(vhost, f"{vhost.path}:") as all_events, Stream(vhost, f"{vhost.path}:pay") as pay:
        subscribed(server, 2)
        place(browser, "pay", "order", "payment", data={"a": 1})
        sid = all_events.hear()
        assert sid[0] == f"{vhost.path}:pay" and sid[1]["pay"]["a"] == 1
        assert [all_events.hear_topic() for _ in range(2)] == [f"{vhost.path}:order", f"{vhost.path}:payment"]
        assert [pay.hear_topic() for _ in range(2)] == [f"{vhost.path}:pay", f"{vhost.path}:payment"]
    subscribed(server, 0)
    assert browser.ask(trigger("pay")) == REFUSED


def test_a_stream_handles_what_no_worker_could(server, vhost, browser):
    with Stream(vhost, f"{vhost.path}:a") as stream, Worker(vhost) as worker:
        subscribed(server, 1)
        assert browser.ask(trigger("b")) == REFUSED
        place(browser, "a")
        worker.ready("b", 1)
        assert browser.ask(trigger("a")) == REFUSED, "the vhost has workers, and none takes it"
        place(browser, "b", "b")
        assert worker.events(2) == ["b", "b"]
        assert stream.hear_topic() == f"{vhost.path}:a"


def test_foreign_topics_are_ignored(server, vhost, browser):
    other = Vhost(server, f"{vhost.path}2", "anonymous=read,write")
    place_elsewhere = other.connect()
    topics = ["", "/", other.path, f"{other.path}:", vhost.path, vhost.path[:-1], f"{vhost.path}2:"]
    with Stream(vhost, *topics, f"{vhost.path}:mine") as spy, Stream(other, f"{other.path}:") as rightful:
        subscribed(server, 2)
        place(place_elsewhere, "a", "mine")
        assert [rightful.hear_topic() for _ in range(2)] == [f"{other.path}:a", f"{other.path}:mine"]
        place(browser, "mine")
        assert spy.hear_topic() == f"{vhost.path}:mine", "and nothing before it"
    other.close_sessions()
    server.ctl("vhost", "remove", other.path)


def test_a_stream_unsubscribes(server, vhost, browser):
    with Stream(vhost, f"{vhost.path}:a", f"{vhost.path}:b") as stream:
        subscribed(server, 2)
        stream.socket.unsubscribe(f"{vhost.path}:a")
        subscribed(server, 1)
        assert browser.ask(trigger("a")) == REFUSED
        place(browser, "b")
        assert stream.hear_topic() == f"{vhost.path}:b"


def test_a_stream_that_reads_nothing_loses_copies_and_nobody_else_does(server, vhost, browser):
    dropped = figure(server, "stream_copies_dropped_total")
    stuck = Stream(vhost, f"{vhost.path}:", rcvhwm=1, rcvbuf=4096)
    with Stream(vhost, f"{vhost.path}:", rcvhwm=0) as reading:
        subscribed(server, 2)
        data, rounds = {"text": "x" * 4_000}, 0
        while figure(server, "stream_copies_dropped_total") == dropped:
            rounds += 1
            assert rounds < 200, "copies are kept for ever"
            place(browser, *[f"e{rounds}"] * 100, data=data)
            assert [reading.hear_topic() for _ in range(100)] == [f"{vhost.path}:e{rounds}"] * 100
        stuck.__exit__()


# A new token


def test_a_new_token_cuts_off_who_has_the_old_one(server, vhost, browser):
    worker = Worker(vhost).ready("", 2)
    client = Requester(vhost)
    assert client.ask("OC", "a") == [b"OK"]
    stream = Stream(vhost, f"{vhost.path}:")
    subscribed(server, 1)
    place(browser, "before")
    assert worker.trigger()[1] and stream.hear_topic() == f"{vhost.path}:before"

    old, vhost.token = vhost.token, hex_word(server.ctl("vhost", "regenerate-token", vhost.path), 40)
    assert vhost.token != old
    assert worker.hear() == [b"QT"]
    assert client.ask("OC", "b") == error(402)
    for kind, url in ((zmq.DEALER, server.exchange_url), (zmq.SUB, server.stream_url)):
        assert not fate(kind, url, vhost.path, old)

    with Worker(vhost) as heir:
        heir.say("RD", "", "5")
        assert heir.events(1) == ["before"], "what the one with the old token had"
        place(browser, "after")
        assert heir.events(1) == ["after"]
        worker.beats = False
        worker.say("RD", "", "5")
        assert worker.hear() in ([b"QT"], error(402))
        place(browser, "later")
        assert heir.events(1) == ["later"]
    assert not stream.socket.poll(0), "it was silent all the time"
    for peer in (worker, client):
        peer.close()
    stream.__exit__()


def test_a_removed_vhost_cuts_off_its_backends(server):
    vhost = Vhost(server, f"/{fresh('v')}", "anonymous=read,write")
    worker, client = Worker(vhost).ready(), Client(vhost)
    client.open("a")
    stream = Stream(vhost, f"{vhost.path}:")
    subscribed(server, 1)
    server.ctl("vhost", "remove", vhost.path)
    assert worker.hear() == [b"QT"]
    assert client.ask("OC", "a") == error(402)
    subscribed(server, 0)
    # A vhost of the same name is another one.
    again = Vhost(server, vhost.path, "anonymous=read,write")
    assert client.ask("OC", "a") == error(402)
    with Worker(again) as heir:
        heir.ready()
        place(again.connect(), "a")
        assert heir.events(1) == ["a"]
    assert not stream.socket.poll(0)
    again.close_sessions()
    server.ctl("vhost", "remove", vhost.path)
    worker.close()
    client.close()
    stream.__exit__()
