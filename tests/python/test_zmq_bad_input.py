"""What no proper backend sends over ZeroMQ: each is answered or cut off, memory stays bounded, and others notice nothing."""

import contextlib
import os
import random
import socket

import pytest
import zmq

from exchange import Client, Stream, Worker, all_have_left, error, place, streams_subscribe, trigger
from metrics import metric
from patience import eventually
from process import serving
from session import Vhost, fresh
from zmtp import COMMAND, LONG, MORE, RawPeer, greeting, zmtp_frame

MIB = 1 << 20
CUT = "ZeroMQ peers were cut off: revoked, out of bounds, or too many"


def memory(server):
    """Bytes of memory that the server's process has."""
    with open(f"/proc/{server.pid}/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.fixture
def calm(vhost, browser):
    """A worker and a client that must not notice anything."""
    with Worker(vhost) as worker, Client(vhost) as client:
        worker.ready("", 10)
        yield
        place(browser, "calm")
        assert worker.events(1) == ["calm"]
        assert client.ask("OC", "calm") == [b"OK"]


# Bytes


GARBAGE = {
    "nothing": b"",
    "zeros": bytes(64),
    "http": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 4,
    "half a greeting": greeting()[:30],
    "no greeting": b"\xff" * 64,
    "a foreign mechanism": greeting(b"NULL"),
    "no handshake": greeting() + zmtp_frame(b"OC") * 10,
    "a short hello": greeting() + zmtp_frame(b"\x05HELLO", COMMAND),
    "a hello that lies": greeting() + zmtp_frame(b"\x05HELLO\xff" + b"x" * 20, COMMAND),
    "a hello too long": greeting() + zmtp_frame(b"\x05HELLO" + b"\xff" + b"x" * 255 + b"\xff" + b"y" * 300, COMMAND),
    "an endless frame": greeting() + bytes([COMMAND | LONG]) + b"\x7f" + b"\xff" * 7 + b"x" * 4096,
    "unknown flags": greeting() + b"\xf8\x05HELLO",
}


@pytest.mark.parametrize("port", ["exchange_url", "stream_url"])
@pytest.mark.parametrize("data", GARBAGE.values(), ids=GARBAGE)
def test_garbage_before_the_handshake(server, calm, port, data):
    with RawPeer(getattr(server, port)) as peer:
        peer.send(data)
        # It may be cut off already.
        with contextlib.suppress(OSError):
            peer.socket.shutdown(socket.SHUT_WR)
        assert peer.ended()


@pytest.mark.parametrize("server", [1], indirect=True)
def test_who_never_ends_the_handshake_is_cut_off(server):
    all_have_left(server)
    peers = [RawPeer(url) for url in (server.exchange_url, server.stream_url) for _ in range(2)]
    for peer in peers[::2]:
        peer.send(greeting())
    for peer in peers:
        assert peer.ended()
        peer.__exit__()
    all_have_left(server)


@pytest.mark.parametrize("seed", range(5))
def test_garbage_after_the_handshake(server, vhost, calm, seed):
    chance = random.Random(seed)
    for _ in range(20):
        with RawPeer.admitted(server.exchange_url, vhost, b"DEALER") as peer:
            peer.send(chance.randbytes(chance.randrange(1, 400)))
        with RawPeer.admitted(server.stream_url, vhost, b"SUB") as peer:
            peer.send(chance.randbytes(chance.randrange(1, 400)))


@pytest.mark.parametrize("seed", range(5))
def test_any_frames(server, vhost, calm, seed):
    """Frames that are whole, and sense or nonsense, are each answered or ignored; none ends the connection."""
    chance = random.Random(seed)
    words = [b"", b"RD", b"OC", b"BC", b"AK", b"HB", b"QT", b"1", b"a", b"{}", b"\xff\xfe", b"x" * 300, bytes(10)]
    with RawPeer.admitted(server.exchange_url, vhost, b"DEALER") as peer:
        for _ in range(300):
            peer.message(*chance.choices(words, k=chance.randrange(1, 9)))
        peer.message(b"", b"CC", b"the-end-")
        peer.message(b"", b"AT", b"the end", b"the end")
        while peer.read_message()[1] != b"AT":
            pass


@pytest.mark.parametrize("kind", [b"PUB", b"SUB", b"PULL", b"PAIR", b"REP", b"XPUB", b"NONSENSE", b""])
def test_sockets_of_another_kind_are_refused(server, vhost, calm, kind):
    with RawPeer(server.exchange_url) as peer:
        peer.send(greeting())
        peer.read(64)
        peer.hello(vhost.path.encode(), vhost.token.encode())
        peer.read_frame()
        peer.command(b"INITIATE", b"\x0bSocket-Type" + len(kind).to_bytes(4, "big") + kind)
        assert peer.ended()


def test_what_a_peer_says_of_itself_does_not_count(server, vhost, calm):
    """Properties of the handshake cannot take the place of those that the server attaches."""
    with Vhost(server, f"/{fresh('v')}") as other, Client(other) as rightful:
        rightful.open("theirs")
        with RawPeer(server.exchange_url) as peer:
            peer.send(greeting())
            peer.read(64)
            peer.hello(vhost.path.encode(), vhost.token.encode())
            peer.read_frame()
            claims = {b"Socket-Type": b"DEALER", b"User-Id": b"1.0/0", b"__fd": b"1", b"Peer-Address": b"x"}
            body = b"".join(
                bytes([len(name)]) + name + len(value).to_bytes(4, "big") + value for name, value in claims.items()
            )
            peer.command(b"INITIATE", body)
            peer.read_frame()
            peer.message(b"", b"CC", b"theirs")
            assert peer.read_message() == [b"", *error(454)]
        assert rightful.ask("CC", "theirs") == [b"OK"]


# Length


def test_a_frame_over_the_limit_cuts_its_sender_off(server, vhost, calm):
    with RawPeer.admitted(server.exchange_url, vhost, b"DEALER") as peer:
        peer.send(zmtp_frame(b"", MORE) + bytes([LONG]) + (4 * MIB + 1).to_bytes(8, "big") + b"x" * 1000)
        assert peer.ended()
    with Client(vhost) as client:
        client.open("large")
        assert client.ask("BC", "large", "e", '"' + "x" * (4 * MIB - 2) + '"') == [b"OK"]


def test_a_topic_over_the_limit_cuts_its_sender_off(server, vhost, calm):
    with RawPeer.admitted(server.stream_url, vhost, b"SUB") as peer:
        peer.send(zmtp_frame(b"\x01" + vhost.path.encode() + b":" + b"x" * 1100))
        assert peer.ended()


def test_a_truncated_message_is_nothing(server, vhost, calm, client):
    client.open("a")
    for cut in range(1, 20):
        whole = b"".join(zmtp_frame(frame, MORE) for frame in (b"", b"CC")) + zmtp_frame(b"a")
        if cut >= len(whole):
            break
        with RawPeer.admitted(server.exchange_url, vhost, b"DEALER") as peer:
            peer.send(whole[:-cut])
    assert client.ask("PR", "a") == [b"PR", b"[]"], "it was never closed"


@pytest.fixture(scope="module")
def tight_server(tmp_path_factory):
    """A server that lets peers send 8 MiB that cannot be read."""
    with serving(tmp_path_factory.mktemp("tight"), "--exchange-unread-bytes-max", 8 * MIB) as made:
        yield made


def test_a_message_without_end_is_cut_off(tight_server):
    cut, before = metric(tight_server, "peers_cut_total"), memory(tight_server)
    with Vhost(tight_server, f"/{fresh('v')}", "anonymous=read,write") as vhost, Worker(vhost) as worker:
        worker.ready("", 10)
        with RawPeer.admitted(tight_server.exchange_url, vhost, b"DEALER") as peer:
            # The server looks once a second. What fits in until then is bounded here, not by how fast the machine is.
            with contextlib.suppress(OSError):
                for _ in range(256):
                    peer.send(zmtp_frame(b"x" * MIB, MORE))
            assert peer.ended()
        eventually(lambda: metric(tight_server, "peers_cut_total"), cut + 1)
        place(vhost.connect(), "calm")
        assert worker.events(1) == ["calm"]
    eventually(lambda: [line["cut"] for line in tight_server.logged(CUT)], [1])
    eventually(lambda: memory(tight_server) - before < 64 * MIB, True)


def test_what_is_read_is_not_held_against_its_sender(tight_server):
    cut = metric(tight_server, "peers_cut_total")
    with Vhost(tight_server, f"/{fresh('v')}") as vhost, Worker(vhost) as client:
        # A heartbeat a second comes, and so does a look at what is unread.
        client.ready()
        assert client.ask("OC", "a") == [b"OK"]
        data = '"' + "x" * MIB + '"'
        for _ in range(3):
            for _ in range(12):
                assert client.ask("BC", "a", "e", data) == [b"OK"]
            client.hears_heartbeats(1)
    eventually(lambda: metric(tight_server, "peers_cut_total"), cut)


# Names


def test_a_name_belongs_to_who_has_it_first(server, vhost, browser):
    with contextlib.ExitStack() as opened:
        other = opened.enter_context(Vhost(server, f"/{fresh('v')}", "anonymous=read,write"))
        first = opened.enter_context(Worker(vhost, routing_id=b"same")).ready("", 1)
        second = opened.enter_context(Worker(other, routing_id=b"same"))
        second.say("RD", "", "1")
        place(browser, "a", "b")
        assert first.events(2) == ["a", "b"]
        rightful = opened.enter_context(Worker(other)).ready("", 10)
        place(other.connect(), "theirs")
        assert rightful.events(1) == ["theirs"]
        first.hears_nothing()
        assert not second.has_heard()


def test_a_name_can_be_had_again(server, vhost, browser):
    for number in range(5):
        all_have_left(server)
        with Worker(vhost, routing_id=b"again") as worker:
            worker.ready("", 1)
            place(browser, f"e{number}")
            assert worker.events(1) == [f"e{number}"]


def test_empty_and_odd_names(vhost, browser):
    for name in (b"x", b"\xff" * 255, b"worker\n", b"1.0/0"):
        with Worker(vhost, routing_id=name) as worker:
            worker.ready("", 1)
            place(browser, "a")
            assert worker.events(1) == ["a"]


# Many


def test_a_thousand_that_never_say_ready(server, vhost, calm):
    idle = [RawPeer.admitted(server.exchange_url, vhost, b"DEALER") for _ in range(1000)]
    # With the two that must not notice anything.
    eventually(lambda: metric(server, "peers_connected"), 1002)
    for peer in idle:
        peer.__exit__()
    eventually(lambda: metric(server, "peers_connected"), 2)


def test_streams_that_subscribe_and_vanish(server, vhost, browser):
    """Allowed topics and others, in any order, with what is no subscription between them."""
    chance = random.Random(1)
    allowed = vhost.path.encode() + b":"
    with Stream(vhost, f"{vhost.path}:") as steady:
        streams_subscribe(server, 1)
        for round in range(40):
            crowd = [RawPeer.admitted(server.stream_url, vhost, b"SUB") for _ in range(10)]
            for peer in crowd:
                topics = [allowed + chance.choice([b"", b"a", b"b"]), b"", b"/other:", b"x" * 200]
                said = b"".join(
                    zmtp_frame(chance.choice([b"\x01", b"\x01", b"\x00"]) + chance.choice(topics))
                    for _ in range(chance.randrange(1, 30))
                )
                if chance.random() < 0.1:
                    said += zmtp_frame(chance.choice([b"", b"\x02", b"hello"])) + zmtp_frame(b"\x01" + allowed)
                peer.send(said)
            place(browser, f"e{round}")
            for peer in crowd:
                if chance.random() < 0.5:
                    peer.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
                peer.__exit__()
        eventually(lambda: metric(server, "peers_connected"), 1)
        streams_subscribe(server, 1)
        place(browser, "last")
        heard = [steady.hear_topic().rpartition(":")[2] for _ in range(41)]
        assert heard == [*(f"e{round}" for round in range(40)), "last"]


def test_what_is_no_subscription_cuts_its_sender_off(server, vhost, calm):
    for said in (b"", b"\x02", b"hello"):
        with RawPeer.admitted(server.stream_url, vhost, b"XSUB") as peer:
            peer.send(zmtp_frame(said))
            assert peer.ended()


def test_what_is_no_subscription_turns_nobodys_events_away(server, vhost, browser):
    """A stream of another vhost says what libzmq takes for no subscription while others subscribe."""
    with Vhost(server, f"/{fresh('v')}") as other:
        turn_nobodys_events_away(server, vhost, browser, other)


def turn_nobodys_events_away(server, vhost, browser, other):
    topic, theirs = (f"{path}:".encode() for path in (vhost.path, other.path))
    for round in range(50):
        with contextlib.ExitStack() as stack:
            spies, victims = (
                [stack.enter_context(RawPeer.admitted(server.stream_url, of, b"SUB")) for _ in range(5)]
                for of in (other, vhost)
            )
            for spy, victim in zip(spies, victims):
                spy.send(zmtp_frame(b"hello") * 3 + zmtp_frame(b"\x01" + theirs) * 5)
                victim.send(zmtp_frame(b"\x01" + topic) + zmtp_frame(b"\x00" + topic) + zmtp_frame(b"\x01" + topic))
            with Stream(vhost, topic) as reader:
                # It may be cut off too, and comes again.
                eventually(lambda: (reader.socket.poll(1), browser.ask(trigger(f"e{round}")))[0], zmq.POLLIN)
                for spy in spies:
                    assert topic not in spy.rest(), "it heard what is another vhost's"


def test_too_many_topics_cut_their_sender_off(server, vhost, calm):
    topics = [f"{vhost.path}:{number}".encode() for number in range(257)]
    with RawPeer.admitted(server.stream_url, vhost, b"SUB") as peer:
        for _ in range(10):
            for topic in topics[:256]:
                peer.send(zmtp_frame(b"\x01" + topic))
        streams_subscribe(server, 256)
        peer.send(zmtp_frame(b"\x01" + topics[256]))
        assert peer.ended()
    streams_subscribe(server, 0)
