"""Who is let in over ZeroMQ, what streams may hear, and what a new access token does to those who have the old one."""

import contextlib

import pytest
import zmq

from exchange import Client, Requester, Stream, Worker, error, is_let_in, place, streams_subscribe, trigger
from metrics import metric
from patience import eventually
from process import hex_word
from session import NO_WORKER, Vhost, fresh
from zmtp import RawPeer, greeting, zmtp_frame

@pytest.fixture(params=["exchange", "stream"])
def entrance(request, server):
    """A kind of socket, and where it connects."""
    if request.param == "exchange":
        return zmq.DEALER, server.exchange_url
    return zmq.SUB, server.stream_url


# Who is let in


def test_the_right_token_is_let_in(server, vhost, entrance):
    accepted = metric(server, "zap_accepted_total")
    assert is_let_in(*entrance, vhost.path, vhost.token)
    eventually(lambda: metric(server, "zap_accepted_total"), accepted + 1)


def test_wrong_credentials_are_refused(server, vhost, entrance):
    refused = metric(server, "zap_refused_total")
    with Vhost(server, f"/{fresh('v')}") as other:
        assert not is_let_in(*entrance, vhost.path, other.token)
    wrong = [
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
        assert not is_let_in(*entrance, user, password), (user, password)
    for user, password in ((vhost.path, ""), ("", vhost.token), ("", "")):
        with RawPeer(entrance[1]) as peer:
            peer.send(greeting())
            peer.read(64)
            peer.hello(user.encode(), password.encode())
            # The vendored libzmq misspells the name of its own command.
            assert peer.read_frame()[1].endswith(b"RROR\x03400")
    eventually(lambda: metric(server, "zap_refused_total"), refused + 1 + len(wrong) + 3)


def test_without_credentials_nobody_is_let_in(server, entrance):
    kind, url = entrance
    assert not is_let_in(kind, url, None, None)
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
    assert not is_let_in(zmq.DEALER, server.exchange_url, vhost.path, "f" * 40)
    assert server.stop() == 0
    log = "\n".join(server.log)
    assert vhost.token not in log and single.decode() not in log and "f" * 40 not in log


# Streams


def test_streams_get_copies_of_what_they_subscribe(server, vhost, browser):
    with Stream(vhost, f"{vhost.path}:") as all_events, Stream(vhost, f"{vhost.path}:pay") as pay:
        streams_subscribe(server, 2)
        place(browser, "pay", "order", "payment", data={"a": 1})
        sid = all_events.hear()
        assert sid[0] == f"{vhost.path}:pay" and sid[1]["pay"]["a"] == 1
        assert [all_events.hear_topic() for _ in range(2)] == [f"{vhost.path}:order", f"{vhost.path}:payment"]
        assert [pay.hear_topic() for _ in range(2)] == [f"{vhost.path}:pay", f"{vhost.path}:payment"]
    streams_subscribe(server, 0)
    assert browser.ask(trigger("pay")) == NO_WORKER


def test_a_stream_handles_what_no_worker_could(server, vhost, browser):
    with Stream(vhost, f"{vhost.path}:a") as stream, Worker(vhost) as worker:
        streams_subscribe(server, 1)
        assert browser.ask(trigger("b")) == NO_WORKER
        place(browser, "a")
        worker.ready("b", 1)
        assert browser.ask(trigger("a")) == NO_WORKER, "the vhost has workers, and none takes it"
        place(browser, "b", "b")
        assert worker.events(2) == ["b", "b"]
        assert stream.hear_topic() == f"{vhost.path}:a"


def test_foreign_topics_are_ignored(server, vhost, browser):
    with contextlib.ExitStack() as opened:
        other = opened.enter_context(Vhost(server, f"{vhost.path}2", "anonymous=read,write"))
        topics = ["", "/", other.path, f"{other.path}:", vhost.path, vhost.path[:-1], f"{vhost.path}2:"]
        spy = opened.enter_context(Stream(vhost, *topics, f"{vhost.path}:mine"))
        rightful = opened.enter_context(Stream(other, f"{other.path}:"))
        streams_subscribe(server, 2)
        place(other.connect(), "a", "mine")
        assert [rightful.hear_topic() for _ in range(2)] == [f"{other.path}:a", f"{other.path}:mine"]
        place(browser, "mine")
        assert spy.hear_topic() == f"{vhost.path}:mine", "and nothing before it"


def test_a_stream_unsubscribes(server, vhost, browser):
    with Stream(vhost, f"{vhost.path}:a", f"{vhost.path}:b") as stream:
        streams_subscribe(server, 2)
        stream.socket.unsubscribe(f"{vhost.path}:a")
        streams_subscribe(server, 1)
        assert browser.ask(trigger("a")) == NO_WORKER
        place(browser, "b")
        assert stream.hear_topic() == f"{vhost.path}:b"


def test_a_stream_that_reads_nothing_loses_copies_and_nobody_else_does(server, vhost, browser):
    dropped = metric(server, "stream_copies_dropped_total")
    stuck = RawPeer.admitted(server.stream_url, vhost, b"SUB", receive_buffer=4096)
    with stuck, Stream(vhost, f"{vhost.path}:", rcvhwm=0) as reading:
        stuck.send(zmtp_frame(b"\x01" + f"{vhost.path}:".encode()))
        streams_subscribe(server, 2)
        data, rounds = {"text": "x" * 4_000}, 0
        while metric(server, "stream_copies_dropped_total") == dropped:
            rounds += 1
            assert rounds < 200, "copies are kept for ever"
            stuck.ping()
            place(browser, *[f"e{rounds}"] * 100, data=data)
            assert [reading.hear_topic() for _ in range(100)] == [f"{vhost.path}:e{rounds}"] * 100


# A new token


def test_a_new_token_cuts_off_who_has_the_old_one(server, vhost, browser):
    worker, client, stream = Worker(vhost), Requester(vhost), Stream(vhost, f"{vhost.path}:")
    with worker, client, stream:
        worker.ready("", 2)
        assert client.ask("OC", "a") == [b"OK"]
        streams_subscribe(server, 1)
        place(browser, "before")
        assert worker.trigger()[1] and stream.hear_topic() == f"{vhost.path}:before"

        old = vhost.token
        with stream.is_cut_off():
            vhost.token = hex_word(server.ctl("vhost", "regenerate-token", vhost.path), 40)
        assert vhost.token != old
        assert worker.hear() == [b"QT"]
        assert client.ask("OC", "b") == error(402)
        for kind, url in ((zmq.DEALER, server.exchange_url), (zmq.SUB, server.stream_url)):
            assert not is_let_in(kind, url, vhost.path, old)

        with Worker(vhost) as heir:
            heir.join("", "5")
            assert heir.events(1) == ["before"], "what the one with the old token had"
            place(browser, "after")
            assert heir.events(1) == ["after"]
            worker.say("RD", "", "5")
            worker.say("OC", "c")
            # Its last beats are answered too.
            while (heard := worker.hear()) == [b"QT"]:
                pass
            assert heard == error(402)
            place(browser, "later")
            assert heir.events(1) == ["later"]
        assert not worker.has_heard() and not stream.has_heard()


def test_a_removed_vhost_cuts_off_its_backends(server):
    vhost = Vhost(server, f"/{fresh('v')}", "anonymous=read,write")
    worker, client, stream = Worker(vhost), Client(vhost), Stream(vhost, f"{vhost.path}:")
    with worker, client, stream:
        worker.ready()
        client.open("a")
        streams_subscribe(server, 1)
        with stream.is_cut_off():
            vhost.remove()
        assert worker.hear() == [b"QT"]
        assert client.ask("OC", "a") == error(402)
        streams_subscribe(server, 0)
        # A vhost of the same name is another one.
        with Vhost(server, vhost.path, "anonymous=read,write") as again, Worker(again) as heir:
            assert client.ask("OC", "a") == error(402)
            heir.ready()
            place(again.connect(), "a")
            assert heir.events(1) == ["a"]
        assert not stream.has_heard()
