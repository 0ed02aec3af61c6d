"""The WebSocket layer: handshakes, frames, close codes, keep-alive and limits."""

import concurrent.futures
import json
import struct

import pytest

from frames import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, RawSocket, accept, close, frame, handshake, subprotocol
from session import BAD_PAYLOAD, DENIED, Session, broadcast, fresh, unknown
from session import DANCE as ASK

ANSWER = unknown('"dance"')


@pytest.fixture(scope="module")
def path(plain_server):
    """A vhost for tests that need nothing of it."""
    name = f"/{fresh('plain')}/deeper"
    plain_server.add_vhost(name)
    return name


@pytest.fixture
def raw(plain_server):
    """A connection before the handshake."""
    with RawSocket(plain_server.websocket_address) as connection:
        yield connection


@pytest.fixture
def opened(raw, path):
    """A connection after the handshake."""
    raw.upgrade(path)
    return raw


# Handshake


def test_handshake(raw, path):
    headers = raw.upgrade(path)
    assert headers["upgrade"].lower() == "websocket"
    assert headers["connection"].lower() == "upgrade"
    assert headers["sec-websocket-accept"] == accept()
    assert "sec-websocket-protocol" not in headers
    assert "sec-websocket-extensions" not in headers
    # The server speaks only when spoken to: the first frame is an answer.
    assert raw.ask(ASK) == ANSWER


def test_handshake_in_other_spellings(raw, path):
    head = handshake(path, "Connection: keep-alive, uPGRADE", upgrade=None, key=None, version=None).decode()
    others = "upgrade: WebSocket\r\nsec-websocket-version:13\r\nSEC-WEBSOCKET-KEY:   AAAAAAAAAAAAAAAAAAAAAA==  \r\n"
    raw.send(head.replace("Connection:", others + "connection:").encode())
    status, headers = raw.response()
    assert status == 101
    assert headers["sec-websocket-accept"] == accept("AAAAAAAAAAAAAAAAAAAAAA==")
    assert raw.ask(ASK) == ANSWER


@pytest.mark.parametrize(
    ("options", "status"),
    [
        ({"key": None}, 400),
        ({"version": "8"}, 426),
        ({"version": "12"}, 426),
    ],
    ids=["no key", "version 8", "version 12"],
)
def test_bad_handshake(raw, path, options, status):
    raw.send(handshake(path, **options))
    answered, headers = raw.response()
    assert answered == status
    if status == 426:
        assert headers["sec-websocket-version"] == "13"


@pytest.mark.parametrize("suffix", ["/elsewhere", "elsewhere", "/"])
def test_unknown_vhost_is_refused_before_the_upgrade(raw, path, suffix):
    raw.send(handshake(path + suffix))
    assert raw.response()[0] == 404


def test_the_root_is_no_vhost(raw):
    raw.send(handshake("/"))
    assert raw.response()[0] == 404


def test_without_upgrade_it_is_http(raw, path):
    raw.send(handshake(path + "/nothing", upgrade=None, key=None, version=None))
    assert raw.response()[0] == 404


def test_a_head_that_is_no_http_is_refused(raw):
    raw.send(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n")
    assert raw.response()[0] == 400


def test_an_endless_head_is_refused(raw, path):
    try:
        raw.send(handshake(path)[:-2])
        for _ in range(2000):
            raw.send(b"X-Filler: " + b"x" * 1000 + b"\r\n")
        raw.send(b"\r\n")
    except (BrokenPipeError, ConnectionResetError):
        pass
    # A last word, such as 431, is welcome; an upgrade is not.
    assert b" 101 " not in raw.rest()


def speaks(connection):
    """The dialect of a session: WWFP greets, classic speaks only when spoken to."""
    connection.send(frame(TEXT, ASK))
    first = connection.text()
    if first == ANSWER:
        return "webrocket"
    assert first.startswith('{":connected":{"sid":"'), first
    assert connection.text() == '{":error":{"code":400,"status":"Bad request"}}'
    return "wwfp"


@pytest.mark.parametrize(
    ("offered", "chosen"),
    [
        ("webrocket", "webrocket"),
        ("chat,webrocket", "webrocket"),
        ("wwfp", "wwfp"),
        ("chat, wwfp", "wwfp"),
        # Of several that are known, the client's first.
        ("wwfp, webrocket", "wwfp"),
        ("webrocket,wwfp", "webrocket"),
        ("chat", None),
        # Names of subprotocols are compared as they stand.
        ("WWFP", None),
        ("wwfp2", None),
    ],
)
@pytest.mark.parametrize("query", ["", "?protocol=webrocket", "?protocol=wwfp"])
def test_subprotocol(raw, path, offered, chosen, query):
    headers = raw.upgrade(path + query, subprotocol(offered))
    assert headers.get("sec-websocket-protocol") == chosen
    # One that is known wins over the query; the query counts where none is.
    assert speaks(raw) == (chosen or ("wwfp" if query.endswith("wwfp") else "webrocket"))


@pytest.mark.parametrize("name", ["webrocket", "wwfp"])
def test_subprotocols_on_several_lines(raw, path, name):
    headers = raw.upgrade(path, subprotocol("chat"), subprotocol(name))
    assert headers["sec-websocket-protocol"] == speaks(raw) == name


@pytest.mark.parametrize(
    ("query", "dialect"),
    [
        ("?", "webrocket"),
        ("?other=1", "webrocket"),
        ("?protocol=", "webrocket"),
        ("?protocol=chat", "webrocket"),
        ("?protocol=webrocket", "webrocket"),
        ("?protocol=wwfp", "wwfp"),
        ("?other=1&protocol=wwfp", "wwfp"),
        ("?protocol=wwfp&other=1", "wwfp"),
    ],
)
def test_dialect_by_query(raw, path, query, dialect):
    assert "sec-websocket-protocol" not in raw.upgrade(path + query)
    assert speaks(raw) == dialect


def test_a_handshake_takes_no_longer_than_its_deadline(start, io):
    """Whether nothing comes, or a head that never ends; the server must hang up by itself."""
    server = start("--handshake-timeout-ms", "1000", io=io)
    server.add_vhost("/test")
    silent, slow = (RawSocket(server.websocket_address) for _ in range(2))
    with silent, slow:
        slow.send(handshake("/test")[:-1])
        for connection in (silent, slow):
            # A last word, such as 408, is welcome; an upgrade is not.
            assert b" 101 " not in connection.rest()


# Frames


def test_everything_byte_by_byte(raw, path):
    raw.send_byte_by_byte(handshake(path))
    assert raw.response()[0] == 101
    long = f'{{"{"d" * 300}":1}}'
    raw.send_byte_by_byte(frame(TEXT, ASK))
    assert raw.text() == ANSWER
    raw.send_byte_by_byte(frame(PING, "p"))
    assert raw.frame() == (PONG, b"p")
    raw.send_byte_by_byte(frame(TEXT, long[:200], final=False) + frame(CONTINUATION, long[200:]))
    assert json.loads(raw.text())["event"] == "d" * 300


def test_everything_at_once(raw, path):
    raw.send(handshake(path) + frame(TEXT, ASK) * 100 + frame(PING, "p") + frame(TEXT, ASK))
    assert raw.response()[0] == 101
    # A pong may overtake answers.
    received = [raw.frame() for _ in range(102)]
    received.remove((PONG, b"p"))
    assert received == [(TEXT, ANSWER.encode())] * 101


def test_fragments_with_a_ping_between(opened):
    opened.send(frame(TEXT, ASK[:3], final=False))
    opened.send(frame(PING, "are you there?"))
    assert opened.frame() == (PONG, b"are you there?")
    opened.send(frame(CONTINUATION, "", final=False) + frame(PONG, "unasked") + frame(CONTINUATION, ASK[3:]))
    assert opened.text() == ANSWER


def test_fragments_may_split_a_character(opened):
    text = '{"grüße 🚀":1}'.encode()
    for at in range(1, len(text)):
        opened.send(frame(TEXT, text[:at], final=False) + frame(CONTINUATION, text[at:]))
        assert json.loads(opened.text()) == {"err": "UNDEFINED_EVENT", "event": "grüße 🚀"}


@pytest.mark.parametrize("payload", [b"", b"p", b"\xff\x00" * 60 + b"12345"])
def test_ping(opened, payload):
    opened.send(frame(PING, payload))
    assert opened.frame() == (PONG, payload)


WRONG_FRAMES = {
    "unmasked": (frame(TEXT, ASK, masked=False), 1002),
    "rsv1": (frame(TEXT, ASK, reserved=4), 1002),
    "rsv2": (frame(TEXT, ASK, reserved=2), 1002),
    "rsv3": (frame(PING, reserved=1), 1002),
    "opcode 3": (frame(0x3), 1002),
    "opcode 11": (frame(0xB), 1002),
    "fragmented ping": (frame(PING, final=False), 1002),
    "long ping": (frame(PING, b"x" * 126), 1002),
    "long close": (frame(CLOSE, struct.pack("!H", 1000) + b"x" * 124), 1002),
    "continuation of nothing": (frame(CONTINUATION, ASK), 1002),
    "text within fragments": (frame(TEXT, "{", final=False) + frame(TEXT, ASK), 1002),
    "close of one byte": (frame(CLOSE, b"\x03"), 1002),
    "close with 999": (close(999), 1002),
    "close with 1005": (close(1005), 1002),
    "close with 1006": (close(1006), 1002),
    "close with 5000": (close(5000), 1002),
    "close with broken text": (frame(CLOSE, struct.pack("!H", 1000) + b"\xff"), 1007),
    "binary": (frame(BINARY, ASK), 1003),
    "empty binary": (frame(BINARY), 1003),
    "broken text": (frame(TEXT, b'{"\xff":1}'), 1007),
    "overlong text": (frame(TEXT, b'{"\xc0\xaf":1}'), 1007),
    "surrogate in text": (frame(TEXT, b'{"\xed\xa0\x80":1}'), 1007),
    "text cut in a character": (frame(TEXT, b'{"d":1}\xf0\x9f'), 1007),
    "fragments cut in a character": (frame(TEXT, b"\xf0", final=False) + frame(CONTINUATION, b"\x9f"), 1007),
    "too big by its head": (frame(TEXT, b"", declared=65537), 1009),
    "far too big by its head": (frame(TEXT, b"", declared=2**62), 1009),
}


@pytest.mark.parametrize("name", WRONG_FRAMES)
def test_wrong_frame_is_told_by_the_close_code(opened, name):
    data, code = WRONG_FRAMES[name]
    assert opened.ask(ASK) == ANSWER
    opened.send(data)
    assert opened.close_code() == code
    opened.finish(code)


def test_size_limit(opened):
    """65,536 bytes are taken, one more is not, nor in fragments."""
    largest = '{"dance":"' + "x" * (65536 - 12) + '"}'
    assert len(largest) == 65536
    assert opened.ask(largest) == ANSWER
    opened.send(frame(TEXT, largest[:40000], final=False) + frame(CONTINUATION, largest[40000:]))
    assert opened.text() == ANSWER
    opened.send(frame(TEXT, largest[:40000], final=False) + frame(CONTINUATION, largest[40000:], final=False))
    opened.send(frame(CONTINUATION, "x"))
    assert opened.close_code() == 1009


def test_size_limit_is_the_vhosts(make_vhost):
    session = make_vhost("message_bytes_max=1024").connect()
    assert session.ask('{"dance":"' + "x" * 900 + '"}') == ANSWER
    session.say('{"dance":"' + "x" * 1100 + '"}')
    assert session.hear_close() == 1009


def test_deep_nesting_harms_nobody(opened, plain_server, path):
    assert opened.ask('{"dance":' + "[" * 30_000 + "]" * 30_000 + "}") == BAD_PAYLOAD
    with RawSocket(plain_server.websocket_address) as other:
        other.upgrade(path)
        assert other.ask(ASK) == opened.ask(ASK) == ANSWER


@pytest.mark.parametrize("code", [1000, 1001, 3000, 4321])
def test_close_is_echoed(opened, code):
    opened.send(close(code, "enough"))
    assert opened.close_code() == code
    assert opened.ended()


def test_close_without_a_code_is_echoed(opened):
    opened.send(frame(CLOSE))
    assert opened.close_code() is None
    assert opened.ended()


def test_nothing_is_heard_after_a_close(opened):
    opened.send(close(1000) + frame(TEXT, ASK))
    assert opened.close_code() == 1000
    assert opened.ended()


def test_answers_come_before_the_close(opened):
    opened.send(frame(TEXT, ASK) * 3 + frame(TEXT, '{"disconnect":true}'))
    assert [opened.text() for _ in range(3)] == [ANSWER] * 3
    assert opened.close_code() == 1000
    opened.finish(1000)


# Keep-alive


def test_who_answers_pings_stays_and_who_does_not_is_closed(make_vhost, plain_server):
    vhost = make_vhost("ping_interval_ms=100", "idle_timeout_ms=3000")
    alive, dead = (RawSocket(plain_server.websocket_address) for _ in range(2))
    with alive, dead, concurrent.futures.ThreadPoolExecutor() as pool:
        for client in (alive, dead):
            client.upgrade(vhost.path)

        def answer_pings():
            """Returns what comes that is no ping."""
            while (received := alive.frame())[0] == PING:
                alive.send(frame(PONG, received[1]))
            return received

        answering = pool.submit(answer_pings)
        received = [dead.frame()]
        while received[-1][0] == PING:
            received.append(dead.frame())
        assert len(received) > 1 and received[-1][0] == CLOSE
        assert struct.unpack("!H", received[-1][1][:2]) == (4009,)
        dead.finish(4009)
        # By now the other one has been there for longer than that.
        alive.send(frame(TEXT, ASK))
        assert answering.result() == (TEXT, ANSWER.encode())


# Limits


def test_slow_consumer(make_vhost, plain_server):
    """One that never reads is closed with 4008; one that does misses nothing."""
    vhost = make_vhost("lag_bytes_max=65536")
    vhost.add_user("manager", "read,write,manage")
    vhost.add_user("slow", "read")
    channel = fresh("presence")
    watcher, flooder = vhost.connect("manager"), vhost.connect("guest")
    watcher.subscribe(channel)
    watcher.hear_until(f'{{":memberJoined":{{"uid":"manager","channel":"{channel}"}}}}')
    with RawSocket(plain_server.websocket_address, receive_buffer=4096) as slow:
        slow.upgrade(vhost.path)
        assert slow.ask('{"authenticate":{"user":"slow"}}') == '{"authenticated":"slow"}'
        assert slow.ask(f'{{"subscribe":{{"channel":"{channel}"}}}}') == f'{{"subscribed":"{channel}"}}'
        assert watcher.hear().startswith('{":memberJoined":{"uid":"slow"')

        def heard_of_flood():
            """Whether the watcher is told of the slow one's leaving before it hears what was broadcast last."""
            has_left = False
            while not (message := watcher.hear()).startswith('{"flood":'):
                assert message.startswith('{":memberLeft":{"uid":"slow"'), message
                has_left = True
            assert json.loads(message)["flood"]["number"] == number
            return has_left

        filler = "x" * 32_000
        # The kernel's own buffers hold some megabytes before the server notices anything.
        for number in range(2_000):
            flooder.broadcast(channel, "flood", f'{{"number":{number},"filler":"{filler}"}}')
            if heard_of_flood():
                break
        else:
            raise AssertionError("the slow consumer is still there")

        while (received := slow.frame())[0] == TEXT:
            pass
        assert received[0] == CLOSE
        assert struct.unpack("!H", received[1][:2]) == (4008,)


@pytest.mark.parametrize("setting", ["messages_per_second_max=5", "bytes_per_second_max=1000"])
def test_rate_limit(make_vhost, plain_server, setting):
    vhost = make_vhost(setting)
    with RawSocket(plain_server.websocket_address) as client:
        client.upgrade(vhost.path)
        assert client.ask(ASK) == ANSWER
        client.send(frame(TEXT, '{"dance":"' + "x" * 100 + '"}') * 50)
        while (received := client.frame())[0] == TEXT:
            assert received[1].decode() == ANSWER
        assert received[0] == CLOSE
        assert struct.unpack("!H", received[1][:2]) == (1008,)


def test_connections_of_one_address(make_vhost, plain_server):
    vhost = make_vhost("connections_per_address_max=2")
    first, second = vhost.connect(), vhost.connect()
    with RawSocket(plain_server.websocket_address) as third:
        third.send(handshake(vhost.path))
        assert third.response()[0] == 429
    # Another address has its own.
    assert vhost.connect(source="127.0.3.1").ask(ASK) == ANSWER
    assert first.ask(ASK) == second.ask(ASK) == ANSWER


def denied_with_reason(answer):
    error = json.loads(answer)
    return list(error) == ["err", "reason"] and error["err"] == "ACCESS_DENIED" and error["reason"] != ""


def test_limit_of_channels(make_vhost):
    vhost = make_vhost("channels_max=2")
    vhost.add_user("manager", "read,write,manage")
    session = vhost.connect("manager")
    session.subscribe("one")
    session.open_channel("two")
    assert denied_with_reason(session.ask('{"subscribe":{"channel":"three"}}'))
    assert denied_with_reason(session.ask('{"openChannel":{"channel":"three"}}'))
    session.unsubscribe("one")
    session.subscribe("two")
    session.open_channel("three")


def test_limit_of_subscriptions(make_vhost):
    vhost = make_vhost("subscriptions_max=2")
    session, other = vhost.connect("guest"), vhost.connect("guest")
    other.subscribe("three")
    session.subscribe("one")
    session.subscribe("two")
    assert denied_with_reason(session.ask('{"subscribe":{"channel":"three"}}'))
    # What one has already is no new one.
    session.subscribe("two")
    session.unsubscribe("one")
    session.subscribe("three")


def test_few_outstanding_requests_slow_down_and_lose_nothing(make_vhost):
    session = make_vhost("requests_outstanding_max=2").connect("guest")
    session.subscribe("one")
    for number in range(200):
        session.say(broadcast("one", "hello", f'{{"number":{number}}}'))
    heard = [json.loads(session.hear()) for _ in range(400)]
    assert [message["broadcasted"] for message in heard if "broadcasted" in message] == ["one"] * 200
    assert [message["hello"]["number"] for message in heard if "hello" in message] == list(range(200))


@pytest.mark.parametrize(
    ("rights", "subscribes", "broadcasts"),
    [("auto", False, False), ("none", False, False), ("read", True, False), ("read,write", True, True)],
)
def test_rights_of_anonymous_sessions(make_vhost, rights, subscribes, broadcasts):
    vhost = make_vhost(f"anonymous={rights}")
    guest, session, denied = vhost.connect("guest"), vhost.connect(), DENIED
    guest.subscribe("open")
    expected = '{"subscribed":"open"}' if subscribes else denied
    assert session.ask('{"subscribe":{"channel":"open"}}') == expected
    answers = [session.ask(broadcast("open", "hello"))]
    if subscribes and broadcasts:
        answers.append(session.hear())
    assert ('{"broadcasted":"open"}' in answers) == broadcasts
    assert (denied in answers) == (not broadcasts)
    vhost.server.ctl("channel", "add", vhost.path, "private-one")
    assert session.ask('{"subscribe":{"channel":"private-one"}}') == denied
    assert session.ask(broadcast("private-one", "hello")) == denied


# Shutdown


def test_shutdown_closes_with_1012(start, io):
    server = start(io=io, shards=2)
    server.add_vhost("/test")
    sessions = [Session(server, "/test") for _ in range(10)]
    assert server.stop() == 0
    assert [session.hear_close() for session in sessions] == [1012] * 10
