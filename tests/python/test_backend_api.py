"""The HTTP Backend API as backends use it, over sockets that are good, slow, greedy or up to something."""

import base64
import concurrent.futures
import http.client
import itertools
import json
import socket
import urllib.parse

import pytest

from frames import handshake
from process import PATIENCE, Server
from session import Session, Vhost, fresh, request
from wwfp import Wwfp, entry, on_channel

BODY_BYTES_MAX = 4 << 20


@pytest.fixture(scope="module", params=[1, 4], ids="{}-shards".format)
def server(request, io, tmp_path_factory):
    made = Server(tmp_path_factory.mktemp("backend"), shards=request.param, io=io).start()
    yield made
    assert made.stop() == 0
    assert not [line for line in made.log if "panicked" in line]


@pytest.fixture
def vhost(server):
    """A vhost of the test's own, three segments deep, where anonymous sessions may read and write."""
    made = Vhost(server, f"/{fresh('v')}/channel/s", "anonymous=read,write")
    yield made
    made.close_sessions()
    server.ctl("vhost", "remove", made.path)


def basic(token, user="wr"):
    return "Basic " + base64.b64encode(f"{user}:{token}".encode()).decode()


class Backend:
    """A backend's connection, which is kept."""

    def __init__(self, vhost):
        self.vhost = vhost
        self._headers = {"Authorization": basic(vhost.token)}
        self._connection = http.client.HTTPConnection(*vhost.server.websocket_address, timeout=PATIENCE)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._connection.close()

    def raw(self, method, resource, body=None, **headers):
        """Status, headers and body of an answer. The connection must be the one of the request before."""
        before = self._connection.sock
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self._connection.request(method, self.vhost.path + resource, body, self._headers | named)
        assert before in (None, self._connection.sock), "it was not kept"
        response = self._connection.getresponse()
        return response.status, response.headers, response.read()

    def ask(self, method, resource, body=None):
        """Status and answer; `body` is text, or what is to be sent as JSON."""
        text = body if body is None or isinstance(body, (str, bytes)) else json.dumps(body)
        sent = text.encode() if isinstance(text, str) else text
        status, headers, answer = self.raw(method, resource, sent)
        assert headers["Content-Type"] == "application/json"
        return status, json.loads(answer)

    def open(self, channel):
        assert self.ask("POST", f"/channels/{channel}") == (202, {})
        return channel

    def broadcast(self, channel, events):
        assert self.ask("POST", f"/channels/{channel}/events", events) == (202, {})

    def refused(self, expected, method, resource, body=None):
        """Asserts the status of a refusal, and returns its sentence."""
        status, answer = self.ask(method, resource, body)
        assert (status, list(answer)) == (expected, ["error"]), answer
        return answer["error"]


@pytest.fixture
def backend(vhost):
    with Backend(vhost) as made:
        yield made


def head(vhost, method, resource, *lines, version="1.1", token=None):
    """A request head as bytes."""
    own = [f"{method} {vhost.path}{resource} HTTP/{version}", "Host: test"]
    own.append(f"Authorization: {basic(vhost.token if token is None else token)}")
    return "\r\n".join([*own, *lines, "", ""]).encode()


def post(vhost, resource, body, *lines, **options):
    """A whole request as bytes."""
    return head(vhost, "POST", resource, f"Content-Length: {len(body)}", *lines, **options) + body


class Raw:
    """A connection on which bytes are bytes."""

    def __init__(self, server):
        self._socket = socket.create_connection(server.websocket_address, timeout=PATIENCE)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._file = self._socket.makefile("rb")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._file.close()
        self._socket.close()

    def send(self, data):
        self._socket.sendall(data)

    def finish_sending(self):
        self._socket.shutdown(socket.SHUT_WR)

    def answer_head(self):
        """Status and headers of the next answer."""
        version, status = self._file.readline().split(b" ", 2)[:2]
        assert version in (b"HTTP/1.1", b"HTTP/1.0")
        return int(status), http.client.parse_headers(self._file)

    def status(self):
        """The status of the next answer, of which the body is read too."""
        status, headers = self.answer_head()
        self._file.read(int(headers.get("Content-Length", 0)))
        return status

    def ended(self):
        """Whether the server ends the connection without another byte."""
        try:
            return self._file.read(1) == b""
        except ConnectionResetError:
            return True


# Channels


def test_a_channel_is_opened_shown_and_closed(backend, vhost):
    for _ in range(2):
        status, headers, body = backend.raw("POST", "/channels/news")
        assert (status, body, headers["Location"]) == (202, b"{}", f"{vhost.path}/channels/news")
    listeners = [vhost.connect(dialect=dialect) for dialect in (Session, Wwfp)]
    for listener in listeners:
        listener.subscribe("news")
    shown = {"name": "news", "type": "open", "subscribers": {"size": 2}}
    assert backend.ask("GET", "/channels/news") == (200, {"channel": shown})
    assert backend.ask("DELETE", "/channels/news") == (202, {})
    assert [listener.hear() for listener in listeners] == ['{"unsubscribed":"news"}', on_channel("unsubscribed", "news")]
    assert "news" in backend.refused(404, "DELETE", "/channels/news")
    assert "news" in backend.refused(404, "GET", "/channels/news")


@pytest.mark.parametrize("name", ["", "-a", "a b", "é", "a/b", "x" * 201])
def test_a_channels_name_is_checked(backend, name):
    name = urllib.parse.quote(name, safe="")
    assert "no channel name" in backend.refused(400, "POST", f"/channels/{name}")
    backend.refused(404, "GET", f"/channels/{name}")
    backend.refused(404, "DELETE", f"/channels/{name}")
    backend.refused(404, "POST", f"/channels/{name}/events", {"event": "a"})


@pytest.mark.parametrize("name", ["channels", "events", "token", "sessions", "webrocket.js", "channels.token"])
def test_a_channel_may_be_called_like_a_resource(backend, vhost, name):
    backend.open(name)
    listener = vhost.connect()
    listener.subscribe(name)
    backend.broadcast(name, {"event": "hello"})
    assert listener.hear() == f'{{"hello":{{"channel":"{name}"}}}}'
    assert backend.ask("GET", f"/channels/{name}")[1]["channel"]["name"] == name
    assert backend.ask("DELETE", f"/channels/{name}") == (202, {})


def test_the_channel_limit(backend, vhost):
    vhost.server.ctl("settings", "set", vhost.path, "channels_max=2")
    for channel in ("a", "b", "a"):
        backend.open(channel)
    assert "channels_max" in backend.refused(403, "POST", "/channels/c")
    backend.refused(404, "GET", "/channels/c")
    backend.ask("DELETE", "/channels/a")
    backend.open("c")


def test_an_opened_channel_stays(backend, vhost):
    backend.open("news")
    listener = vhost.connect()
    listener.subscribe("news")
    listener.unsubscribe("news")
    assert backend.ask("GET", "/channels/news")[1]["channel"]["subscribers"] == {"size": 0}
    assert "news" in vhost.server.ctl("channel", "list", vhost.path)


def test_who_is_present(backend, vhost):
    backend.open("presence-x")
    tom, joe, ann = (vhost.connect(dialect=Wwfp) for _ in range(3))
    for session, uid in ((tom, 'T"om'), (joe, "joe"), (ann, "ann")):
        session.present_token(vhost.issue_token(uid, "presence-x"))
    present = [entry('T"om', '"age": 7.50'), entry("joe")]
    tom.attend("presence-x", 'T"om', data='{"age": 7.50}')
    joe.attend("presence-x", "joe", present[:1])
    ann.attend("presence-x", "ann", present, hidden="true")
    _, _, body = backend.raw("GET", "/channels/presence-x")
    subscribers = f'{{"size":2,"list":[{",".join(present)}]}}'
    assert body.decode() == f'{{"channel":{{"name":"presence-x","type":"presence","subscribers":{subscribers}}}}}'
    shown = vhost.server.ctl("channel", "show", vhost.path, "presence-x")
    assert 'T"om, joe' in shown and "ann" not in shown
    assert vhost.server.ctl_json("channel", "show", vhost.path, "presence-x")["members"] == ['T"om', "joe"]


# Broadcasts


def test_a_broadcast_reaches_both_dialects(backend, vhost):
    backend.open("news")
    listeners = [vhost.connect(dialect=dialect) for dialect in (Session, Wwfp, Session, Wwfp)]
    for listener in listeners:
        listener.subscribe("news")
    for body, heard in [
        ('{"event":"a"}', '{"a":{"channel":"news"}}'),
        ('{"event":"a","data":{"x": 1.50, "sid":"forged","ch\\u0061nnel":1}}', '{"a":{"x": 1.50,"channel":"news"}}'),
        ('{"trigger":{"event":"hé \\"llo","data":[1]}}', '{"hé \\"llo":{"data":[1],"channel":"news"}}'),
        ('[{"trigger":{"event":"a"}},{"event":"b","data":null}]', '{"a":{"channel":"news"}}'),
        ("[]", '{"b":{"data":null,"channel":"news"}}'),
        (' {"event":":x","event":"a","more":1} ', '{"a":{"channel":"news"}}'),
    ]:
        backend.broadcast("news", body)
        assert {listener.hear() for listener in listeners} == {heard}, body


@pytest.mark.parametrize("count", [1000, 1])
def test_pipelined_broadcasts_keep_their_order(vhost, backend, count):
    backend.open("news")
    listeners = [vhost.connect(dialect=dialect) for dialect in (Session, Wwfp)]
    for listener in listeners:
        listener.subscribe("news")
    bodies = (f'{{"event":"e","data":{number}}}'.encode() for number in range(count))
    with Raw(vhost.server) as raw, concurrent.futures.ThreadPoolExecutor() as pool:
        requests = b"".join(post(vhost, "/channels/news/events", body) for body in bodies)
        sending = pool.submit(raw.send, requests)
        assert [raw.status() for _ in range(count)] == [202] * count
        sending.result()
    expected = [f'{{"e":{{"data":{number},"channel":"news"}}}}' for number in range(count)]
    for listener in listeners:
        assert [listener.hear() for _ in range(count)] == expected


def test_an_array_keeps_its_order(vhost, backend):
    backend.open("news")
    listener = vhost.connect()
    listener.subscribe("news")
    backend.broadcast("news", [{"event": "e", "data": number} for number in range(3000)])
    assert [listener.hear() for _ in range(3000)] == [
        f'{{"e":{{"data":{number},"channel":"news"}}}}' for number in range(3000)
    ]


def test_all_subscribers_see_one_order_of_many_backends(vhost, backend):
    backend.open("news")
    listeners = [vhost.connect(dialect=dialect) for dialect in (Session, Wwfp) * 4]
    for listener in listeners:
        listener.subscribe("news")

    def broadcast(number):
        with Backend(vhost) as own:
            for turn in range(50):
                own.broadcast("news", {"event": f"e{number}", "data": turn})

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        list(pool.map(broadcast, range(8)))
    seen = [[listener.hear() for _ in range(400)] for listener in listeners]
    assert all(other == seen[0] for other in seen)
    for number in range(8):
        own = [text for text in seen[0] if f'"e{number}"' in text]
        assert own == [f'{{"e{number}":{{"data":{turn},"channel":"news"}}}}' for turn in range(50)]


def test_who_subscribes_after_the_answer_does_not_hear_it(vhost, backend):
    backend.open("news")
    for turn in range(20):
        backend.broadcast("news", {"event": "before", "data": turn})
        listener = vhost.connect()
        listener.subscribe("news")
        backend.broadcast("news", {"event": "after", "data": turn})
        assert listener.hear() == f'{{"after":{{"data":{turn},"channel":"news"}}}}'


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ("", "no JSON"),
        ("{", "no JSON"),
        ('{"event":"a"}{}', "no JSON"),
        ("nonsense", "no JSON"),
        (b'{"event":"\xff"}', "UTF-8"),
        ('"a"', "an event must be an object"),
        ("{}", "name is missing"),
        ('{"event":1}', "no text"),
        ('{"event":"__x"}', "reserved"),
        ('{"event":"a\\u0000"}', "not allowed"),
        ('{"trigger":{}}', "name is missing"),
        ('{"event":"a","trigger":{"event":"a"}}', "not both"),
        ('[{"event":"a"},{"event":"subscribed"}]', "element [1]"),
        ('[{"event":"a"},{"event":"a"},null]', "element [2]"),
        ('{"event":"a","data":' + "[" * 128 + "]" * 128 + "}", "nested deeper than 128"),
        ('{"event":"a","data":' + "[" * 100_000, "nested deeper than 128"),
    ],
    ids=lambda value: value[:30] if isinstance(value, str) else None,
)
def test_a_wrong_body_is_broadcast_to_nobody(vhost, backend, body, sentence):
    backend.open("news")
    listener = vhost.connect()
    listener.subscribe("news")
    assert sentence in backend.refused(400, "POST", "/channels/news/events", body)
    backend.broadcast("news", {"event": "next"})
    assert listener.hear() == '{"next":{"channel":"news"}}'


def test_no_broadcast_without_a_channel(backend):
    for body in ({"event": "a"}, [{"event": "a"}], []):
        assert "news" in backend.refused(404, "POST", "/channels/news/events", body)
    backend.refused(404, "GET", "/channels/news")


# Direct messages


def test_a_direct_message_reaches_one_session(vhost, backend):
    sessions = [vhost.connect(dialect=Wwfp) for _ in range(8)]
    for number, session in enumerate(sessions):
        events = [{"event": "hello", "data": {"sid": 1, "channel": number}}, {"trigger": {"event": "bye"}}]
        assert backend.ask("POST", f"/sessions/{session.sid}/events", events) == (202, {})
    for number, session in enumerate(sessions):
        assert session.hear() == f'{{"hello":{{"sid": 1, "channel": {number}}}}}'
        assert session.hear() == '{"bye":{}}'
        session.hears_nothing()


def test_a_direct_message_reaches_the_classic_dialect(vhost, backend):
    session = vhost.connect()
    session.subscribe("news")
    session.say('{"broadcast":{"event":"me","channel":"news"}}')
    told = [json.loads(session.hear()) for _ in range(2)]
    sid = next(message["me"]["sid"] for message in told if "me" in message)
    assert backend.ask("POST", f"/sessions/{sid}/events", '{"event":"hello","data":1}') == (202, {})
    assert session.hear() == '{"hello":{"data":1}}'


def test_direct_messages_keep_their_order(vhost, backend):
    session = vhost.connect(dialect=Wwfp)
    events = [{"event": "e", "data": number} for number in range(1000)]
    assert backend.ask("POST", f"/sessions/{session.sid}/events", events) == (202, {})
    assert [session.hear() for _ in events] == [f'{{"e":{{"data":{number}}}}}' for number in range(1000)]


def test_a_session_that_is_not_there(server, vhost, backend):
    other = Vhost(server, f"/{fresh('v')}")
    stranger = other.connect(dialect=Wwfp)
    gone = vhost.connect(dialect=Wwfp)
    assert gone.ask(request("close")) == f'{{":closed":{{"sid":"{gone.sid}"}}}}'
    assert gone.hear_close() == 1000
    for sid in (stranger.sid, gone.sid, "0" * 36, "nobody", "%20"):
        backend.refused(404, "POST", f"/sessions/{sid}/events", {"event": "a"})
    backend.refused(400, "POST", f"/sessions/{gone.sid}/events", "{}")
    stranger.hears_nothing()
    other.close_sessions()


# Tokens


def test_a_token_opens_its_channels_once(vhost, backend):
    backend.open("private-a.b")
    backend.open("private-c")
    query = urllib.parse.urlencode({"uid": "J M+", "channels": r"private-[\w.]+b"})
    status, headers, body = backend.raw("GET", f"/token?{query}")
    assert (status, headers["Cache-Control"]) == (200, "no-store")
    token = json.loads(body)["token"]
    session = vhost.connect(dialect=Wwfp)
    session.present_token(token)
    session.subscribe("private-a.b", "J M+")
    assert json.loads(session.ask(request("subscribe", channel='"private-c"')))[":error"]["code"] == 403
    backend.broadcast("private-a.b", {"event": "hello"})
    assert session.hear() == '{"hello":{"channel":"private-a.b"}}'
    second = json.loads(vhost.connect(dialect=Wwfp).ask(request("auth", token=f'"{token}"')))
    assert second[":error"]["code"] == 402


@pytest.mark.parametrize(
    "query",
    [
        "",
        "uid=joe",
        "channels=a",
        "uid=&channels=a",
        "uid=joe&uid=joe&channels=a",
        "uid=joe&channels=a&channels=b",
        "uid=joe&channels=(",
        "uid=joe&channels=a)(%3F:b",
        "uid=joe&channels=%5Cw%7B100%7D%7B100%7D",
        "uid=joe&channels=" + "a" * 1025,
        "uid=" + "a" * 129 + "&channels=a",
        "uid=%ff&channels=a",
        "uid=a%00&channels=a",
        "uid=joe&channels=a&ttl=5",
    ],
)
def test_no_token_for_a_wrong_query(backend, query):
    backend.refused(400, "GET", f"/token?{query}" if query else "/token")


# Who may, and what there is


def test_only_the_vhosts_own_token_opens(server, vhost, backend):
    other = Vhost(server, f"/{fresh('v')}")
    token = vhost.token
    for value in [
        None,
        "",
        "Basic",
        basic(""),
        basic(token, user="WR"),
        basic(token, user=""),
        basic(token[:-1]),
        basic(token + "0"),
        basic(other.token),
        f"Bearer {token}",
        f"Basic {token}",
    ]:
        connection = http.client.HTTPConnection(*server.websocket_address, timeout=PATIENCE)
        headers = {} if value is None else {"Authorization": value}
        connection.request("POST", f"{vhost.path}/channels/news", headers=headers)
        response = connection.getresponse()
        assert (response.status, response.headers["WWW-Authenticate"]) == (401, 'Basic realm="webrocket"'), value
        assert token not in response.read().decode()
        connection.close()
    backend.refused(404, "GET", "/channels/news")


def test_a_regenerated_token_locks_out_at_once(vhost, backend):
    backend.open("news")
    with Raw(vhost.server) as slow:
        body = b'{"event":"a"}'
        slow.send(post(vhost, "/channels/news/events", body, "Expect: 100-continue")[: -len(body)])
        assert slow.status() == 100, "it was let in, and asked for its body"
        vhost.server.ctl("vhost", "regenerate-token", vhost.path)
        slow.send(body)
        assert slow.status() == 401
    backend.refused(401, "GET", "/channels/news")


@pytest.mark.parametrize(
    ("method", "resource", "allowed"),
    [
        *((method, "/channels/x", "GET,HEAD,POST,DELETE") for method in ("PUT", "PATCH", "OPTIONS", "TRACE", "BREW")),
        *((method, "/channels/x/events", "POST") for method in ("GET", "HEAD", "PUT", "DELETE", "OPTIONS")),
        *((method, "/sessions/x/events", "POST") for method in ("GET", "HEAD", "PUT", "DELETE", "OPTIONS")),
        *((method, "/token", "GET") for method in ("HEAD", "POST", "PUT", "DELETE", "OPTIONS")),
        *((method, "/webrocket.js", "GET,HEAD") for method in ("POST", "PUT", "DELETE", "OPTIONS")),
    ],
)
def test_other_methods(vhost, method, resource, allowed):
    with Raw(vhost.server) as raw:
        raw.send(head(vhost, method, resource, "Content-Length: 0", token="wrong"))
        status, headers = raw.answer_head()
        assert (status, headers["Allow"]) == (405, allowed)


@pytest.mark.parametrize(
    "resource",
    ["", "/", "/x", "/channels", "/channels/x/y", "/channels/x/events/", "/token/", "/sessions/x", "//token", "/../token"],
)
def test_other_paths(backend, resource):
    for method in ("GET", "POST", "BREW"):
        assert backend.raw(method, resource)[0] == 404


def test_other_vhosts(server):
    nowhere = Vhost(server, f"/{fresh('v')}")
    server.ctl("vhost", "remove", nowhere.path)
    with Backend(nowhere) as backend:
        for resource in ("/channels/x", "/token?uid=a&channels=a", "/webrocket.js"):
            assert nowhere.path in backend.refused(404, "GET", resource)


def test_head_is_get_without_a_body(vhost, backend):
    backend.open("news")
    _, shown, body = backend.raw("GET", "/channels/news")
    status, headers, nothing = backend.raw("HEAD", "/channels/news")
    assert (status, nothing, headers["Content-Length"]) == (200, b"", str(len(body)))
    assert backend.raw("HEAD", "/webrocket.js")[0] == 200
    backend.refused(404, "GET", "/channels/other")


# The browser client


def test_the_script(server, vhost, backend):
    status, headers, own = backend.raw("GET", "/webrocket.js", Authorization="")
    assert status == 200
    assert headers["Content-Type"] == "text/javascript; charset=utf-8"
    assert headers["Access-Control-Allow-Origin"] == "*"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Cache-Control"] == "no-cache"
    status, again, nothing = backend.raw("GET", "/webrocket.js", If_None_Match=f'"x", W/{headers["ETag"]}')
    assert (status, nothing, again["ETag"]) == (304, b"", headers["ETag"])
    assert backend.raw("GET", "/webrocket.js", If_None_Match='"x"')[0] == 200

    connection = http.client.HTTPConnection(*server.websocket_address, timeout=PATIENCE)
    connection.request("GET", "/webrocket.js")
    response = connection.getresponse()
    plain = response.read()
    assert response.status == 200 and response.headers["ETag"] != headers["ETag"]
    assert own.startswith(plain) and b"$wr" in own[len(plain) :]
    connection.close()


# Bodies


def test_a_body_over_the_limit(vhost, backend):
    backend.open("news")
    listener = vhost.connect(max_size=None)
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
    body = b" " * (3 * BODY_BYTES_MAX)
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
        assert raw.status() in (202, 400)
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
    assert len(vhost.server.ctl_json("channel", "list", vhost.path)["channels"]) == 1


def test_what_is_counted(start):
    server = start()
    vhost = Vhost(server, "/test")
    with Backend(vhost) as backend:
        for channel in ("a", "b", "c"):
            backend.open(channel)
        backend.refused(400, "POST", "/channels/-")
        backend.refused(404, "GET", "/channels/d")
    connection = http.client.HTTPConnection(*server.control_address, timeout=PATIENCE)
    connection.request("GET", "/metrics")
    figures = dict(line.rsplit(" ", 1) for line in connection.getresponse().read().decode().splitlines() if line[0] != "#")
    connection.close()
    assert figures["webrocket_http_answers_done_total"] == "3"
    assert figures["webrocket_http_answers_refused_total"] == "2"
    assert figures["webrocket_http_answers_failed_total"] == "0"
    assert figures["webrocket_http_body_bytes"] == "0"
    assert figures["webrocket_http_bodies_waiting"] == "0"


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
