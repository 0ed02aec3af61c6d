"""The HTTP Backend API over sockets that are many, slow, greedy or up to something."""

import concurrent.futures
import itertools
import json
import urllib.parse

import pytest

from backend import Backend, Raw, basic, head, post
from frames import handshake
from metrics import metric
from session import Vhost

BODY_BYTES_MAX = 4 << 20


# Bodies


def test_a_body_over_the_limit(vhost, backend):
    backend.open("news")
    listener = vhost.connect()
    vhost.server.ctl("settings", "set", vhost.path, "lag_bytes_max=67108864")
    listener.subscribe("news")
    overhead = len('{"event":"a","data":""}')
    fits = f'{{"event":"a","data":"{"x" * (BODY_BYTES_MAX - overhead)}"}}'
    backend.broadcast("news", fits)
    assert len(listener.hear()) > BODY_BYTES_MAX
    sentence = backend.refused(413, "POST", "/channels/news/events", fits + " ")
    assert sentence == f"the body is longer than {BODY_BYTES_MAX} bytes"
    # The connection was read on, so it can be used on.
    backend.broadcast("news", {"event": "next"})
    assert listener.hear() == '{"next":{"channel":"news"}}'


def test_a_body_in_chunks(vhost, backend):
    backend.open("news")
    listener = vhost.connect()
    listener.subscribe("news")
    with Raw(vhost.server) as raw:
        raw.send(head(vhost, "POST", "/channels/news/events", "Transfer-Encoding: chunked"))
        for chunk in (b'{"event":', b'"a"', b"}"):
            raw.send(f"{len(chunk):x}\r\n".encode() + chunk + b"\r\n")
        raw.send(b"0\r\n\r\n")
        assert raw.status() == 202
        assert raw.ended()
    assert listener.hear() == '{"a":{"channel":"news"}}'


def test_endless_chunks_are_cut_off(vhost, backend):
    backend.open("news")
    chunk = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
    with Raw(vhost.server) as raw, concurrent.futures.ThreadPoolExecutor() as pool:
        raw.send(head(vhost, "POST", "/channels/news/events", "Transfer-Encoding: chunked"))
        sending = pool.submit(raw.send, chunk * (2 * BODY_BYTES_MAX // 0x10000))
        assert raw.status() == 413
        sending.result()


def test_a_limit_of_ones_own(start):
    vhost = Vhost(start("--http-body-bytes-max", "1024"), "/test")
    with Backend(vhost) as backend:
        backend.open("news")
        backend.broadcast("news", " " * 1000 + '{"event":"a"}')
        assert "1024" in backend.refused(413, "POST", "/channels/news/events", " " * 1020 + '{"event":"a"}')


def test_a_refused_client_need_not_send_its_body(vhost, backend):
    for expected, token, length in ((401, "wrong", 5), (413, None, BODY_BYTES_MAX + 1)):
        with Raw(vhost.server) as raw:
            lines = (f"Content-Length: {length}", "Expect: 100-continue")
            raw.send(head(vhost, "POST", "/channels/news/events", *lines, token=token))
            assert raw.status() == expected, "and not 100"
            assert raw.ended()


def test_a_refused_client_that_sends_on_hears_why(vhost, backend):
    body = b" " * (BODY_BYTES_MAX + 1)
    for expected, token in ((401, "wrong"), (413, None)):
        with Raw(vhost.server) as raw:
            raw.send(post(vhost, "/channels/news/events", body, token=token))
            assert raw.status() == expected
            raw.send(head(vhost, "GET", "/channels/nothing"))
            assert raw.status() == 404


def test_a_slow_body_is_waited_for(vhost, backend):
    backend.open("news")
    listener = vhost.connect()
    listener.subscribe("news")
    whole = post(vhost, "/channels/news/events", b'{"event":"slow"}')
    with Raw(vhost.server) as slow:
        for at in range(len(whole)):
            slow.send(whole[at : at + 1])
            if at % 20 == 0:
                # Nobody else waits for it.
                backend.broadcast("news", {"event": "quick"})
                assert listener.hear() == '{"quick":{"channel":"news"}}'
        assert slow.status() == 202
    assert listener.hear() == '{"slow":{"channel":"news"}}'


def test_a_body_that_breaks_off_is_broadcast_to_nobody(vhost, backend):
    backend.open("news")
    listener = vhost.connect()
    listener.subscribe("news")
    with Raw(vhost.server) as raw:
        raw.send(post(vhost, "/channels/news/events", b'{"event":"a"}')[:-1])
        raw.finish_sending()
        assert raw.status() == 400
    backend.broadcast("news", {"event": "next"})
    assert listener.hear() == '{"next":{"channel":"news"}}'


# Connections


def test_http_1_0(vhost, backend):
    with Raw(vhost.server) as raw:
        raw.send(head(vhost, "POST", "/channels/news", "Content-Length: 0", version="1.0"))
        assert raw.status() == 202
        assert raw.ended()
    with Raw(vhost.server) as raw:
        for _ in range(2):
            raw.send(head(vhost, "GET", "/channels/news", "Connection: keep-alive", version="1.0"))
            assert raw.status() == 200


SMUGGLED = b"DELETE /smuggled HTTP/1.1\r\nHost: test\r\n\r\n"


@pytest.mark.parametrize(
    "lines",
    [
        ("Content-Length: 5", "Content-Length: 6"),
        ("Content-Length: 5, 6",),
        ("Content-Length: +5",),
        ("Content-Length: 0x5",),
        ("Content-Length: -5",),
        ("Content-Length: 5 5",),
        ("Content-Length: 99999999999999999999999",),
        ("Transfer-Encoding: gzip",),
        ("Transfer-Encoding: chunked, gzip",),
        ("Transfer-Encoding : chunked",),
        ("Content-Length : 5",),
        ("X: a", " Content-Length: 5"),
    ],
    ids=" | ".join,
)
def test_a_body_of_doubtful_length_ends_the_connection(vhost, lines):
    with Raw(vhost.server) as raw:
        raw.send(head(vhost, "POST", "/channels/news", *lines) + SMUGGLED)
        assert raw.status() == 400
        assert raw.ended(), "what follows is not taken for a request"


@pytest.mark.parametrize(
    "lines", list(itertools.permutations(["Content-Length: 5", "Transfer-Encoding: chunked"])), ids=" | ".join
)
def test_a_body_of_two_lengths_ends_the_connection(vhost, lines):
    with Raw(vhost.server) as raw:
        raw.send(head(vhost, "POST", "/channels/news", *lines) + b"0\r\n\r\n" + SMUGGLED)
        # Chunks count, as HTTP has it.
        assert raw.status() == 202
        assert raw.ended(), "what follows is not taken for a request"


def test_a_websocket_needs_a_new_connection(vhost, backend):
    with Raw(vhost.server) as raw:
        raw.send(post(vhost, "/channels/news", b""))
        assert raw.status() == 202
        raw.send(handshake(vhost.path))
        assert raw.status() == 400
        assert raw.ended()


def test_two_hundred_backends_at_once(vhost, backend):
    backend.open("news")
    listener = vhost.connect()
    listener.subscribe("news")

    def work(number):
        with Backend(vhost) as own:
            own.open(f"c{number}")
            own.broadcast("news", [{"event": "e", "data": number}] * 3)
            query = urllib.parse.urlencode({"uid": number, "channels": ".*"})
            assert own.ask("GET", f"/token?{query}")[0] == 200
            assert own.ask("GET", f"/channels/c{number}")[0] == 200
            assert own.ask("DELETE", f"/channels/c{number}") == (202, {})

    with concurrent.futures.ThreadPoolExecutor(200) as pool:
        list(pool.map(work, range(200)))
    heard = sorted(json.loads(listener.hear())["e"]["data"] for _ in range(600))
    assert heard == sorted(list(range(200)) * 3)
    assert vhost.server.channels(vhost.path) == ["news"]


def test_what_is_counted(start):
    server = start()
    vhost = Vhost(server, "/test")
    with Backend(vhost) as backend:
        for channel in ("a", "b", "c"):
            backend.open(channel)
        backend.refused(400, "POST", "/channels/-")
        backend.refused(404, "GET", "/channels/d")
    assert [metric(server, f"http_answers_{outcome}_total") for outcome in ("done", "refused", "failed")] == [3, 2, 0]
    assert [metric(server, name) for name in ("http_body_bytes", "http_bodies_waiting")] == [0, 0]


def test_tokens_stay_out_of_the_log(start):
    server = start(log_level="trace")
    vhost = Vhost(server, "/test")
    with Backend(vhost) as backend:
        backend.open("news")
        backend.broadcast("news", {"event": "a"})
        token = backend.ask("GET", "/token?uid=tom&channels=.*")[1]["token"]
    assert server.stop() == 0
    log = "\n".join(server.log)
    assert not [secret for secret in (vhost.token, basic(vhost.token), token) if secret in log]
