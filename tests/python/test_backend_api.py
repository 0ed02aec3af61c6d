"""The HTTP Backend API: what backends may ask, what they are told, and what their browsers notice of it."""

import concurrent.futures
import http.client
import json
import urllib.parse

import pytest

from backend import Backend, Raw, basic, head, post
from patience import PATIENCE
from session import Session, Vhost, fresh, request
from wwfp import Wwfp, entry, on_channel


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
    assert vhost.server.channels(vhost.path) == ["news"]


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
    lines = vhost.server.ctl("channel", "show", vhost.path, "presence-x").splitlines()
    assert [line.split(maxsplit=1)[1] for line in lines if line.startswith("members")] == ['T"om, joe']
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
        events = [{"event": "hello", "data": {"sid": 1, "n": number, "channel": "x"}}, {"trigger": {"event": "bye"}}]
        assert backend.ask("POST", f"/sessions/{session.sid}/events", events) == (202, {})
    for number, session in enumerate(sessions):
        # What would make it look like a broadcast is left out.
        assert session.hear() == f'{{"hello":{{"n": {number}}}}}'
        assert session.hear() == '{"bye":{}}'
        session.hears_nothing()


def test_a_direct_message_reaches_the_classic_dialect(vhost, backend):
    session = vhost.connect()
    session.subscribe("news")
    session.say('{"broadcast":{"event":"me","channel":"news"}}')
    told = [json.loads(session.hear()) for _ in range(2)]
    (sid,) = [message["me"]["sid"] for message in told if "me" in message]
    assert backend.ask("POST", f"/sessions/{sid}/events", '{"event":"hello","data":1}') == (202, {})
    assert session.hear() == '{"hello":{"data":1}}'


def test_direct_messages_keep_their_order(vhost, backend):
    session = vhost.connect(dialect=Wwfp)
    events = [{"event": "e", "data": number} for number in range(1000)]
    assert backend.ask("POST", f"/sessions/{session.sid}/events", events) == (202, {})
    assert [session.hear() for _ in events] == [f'{{"e":{{"data":{number}}}}}' for number in range(1000)]


def test_a_session_that_is_not_there(server, vhost, backend):
    gone = vhost.connect(dialect=Wwfp)
    assert gone.ask(request("close")) == f'{{":closed":{{"sid":"{gone.sid}"}}}}'
    assert gone.hear_close() == 1000
    with Vhost(server, f"/{fresh('v')}") as other:
        stranger = other.connect(dialect=Wwfp)
        for sid in (stranger.sid, gone.sid, "0" * 36, "nobody", "%20"):
            backend.refused(404, "POST", f"/sessions/{sid}/events", {"event": "a"})
        backend.refused(400, "POST", f"/sessions/{gone.sid}/events", "{}")
        stranger.hears_nothing()


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
