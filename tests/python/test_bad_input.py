"""Input that no proper client sends: each is answered as documented, harms nobody, and leaves nothing behind."""

import json
import pathlib
import random
import re

import pytest

from control import Control
from crowd import Crowd
from frames import TEXT, RawSocket, frame, handshake, subprotocol
from process import CommandFailed
from session import Session, Vhost, fresh, request
from wwfp import Wwfp, answer, error, subscribed

# Of each JSON type one. The text is a name for an event, and for nothing else.
VALUES = {"null": "null", "true": "true", "number": "5", "string": '"-"', "array": "[]", "object": "{}"}

WWFP_FIELDS = [
    # The request with its other members, the member, the answer to a string, and to a value of another type.
    ("auth", {}, "token", 402, 400),
    ("auth", {}, "user", 402, 400),
    ("auth", {"user": '"ghost"'}, "secret", 402, 400),
    ("auth", {"user": '"ghost"'}, "token", 402, 400),
    ("subscribe", {}, "channel", 454, 400),
    ("subscribe", {"channel": '"nowhere"'}, "hidden", 400, {"true": 454}),
    ("subscribe", {"channel": '"nowhere"'}, "data", 400, {"object": 454}),
    ("unsubscribe", {}, "channel", 454, 400),
    ("unsubscribe", {"channel": '"other"'}, "data", 400, {"object": 453}),
    ("broadcast", {"event": '"e"'}, "channel", 454, 400),
    ("broadcast", {"channel": '"other"'}, "event", 453, 400),
    ("broadcast", {"channel": '"home"', "event": '"e"'}, "trigger", 503, 400),
    ("broadcast", {"channel": '"other"', "event": '"e"'}, "data", 453, {name: 453 for name in VALUES}),
    ("trigger", {}, "event", 503, 400),
    ("trigger", {"event": '"e"'}, "data", 503, {name: 503 for name in VALUES}),
    ("openChannel", {}, "channel", 451, 400),
    ("closeChannel", {}, "channel", 451, 400),
]

CLASSIC_FIELDS = [
    # The same with one answer for all types but a string.
    ("authenticate", {}, "token", "INVALID_CREDENTIALS", "INVALID_CREDENTIALS"),
    ("authenticate", {}, "user", "INVALID_USER_NAME", "INVALID_USER_NAME"),
    ("authenticate", {"user": '"ghost"'}, "secret", "USER_NOT_FOUND", "USER_NOT_FOUND"),
    ("subscribe", {}, "channel", "INVALID_CHANNEL_NAME", "INVALID_CHANNEL_NAME"),
    ("unsubscribe", {}, "channel", "INVALID_CHANNEL_NAME", "INVALID_CHANNEL_NAME"),
    ("broadcast", {"event": '"e"'}, "channel", "INVALID_CHANNEL_NAME", "INVALID_CHANNEL_NAME"),
    ("broadcast", {"channel": '"nowhere"'}, "event", "CHANNEL_NOT_FOUND", "INVALID_EVENT_NAME"),
    ("broadcast", {"channel": '"nowhere"', "event": '"e"'}, "data", "CHANNEL_NOT_FOUND", "CHANNEL_NOT_FOUND"),
    ("trigger", {}, "event", "ASSIGNATION_FAILED", "INVALID_EVENT_NAME"),
    ("trigger", {"event": '"e"'}, "data", "ASSIGNATION_FAILED", "ASSIGNATION_FAILED"),
    ("openChannel", {}, "channel", "INVALID_CHANNEL_NAME", "INVALID_CHANNEL_NAME"),
    ("closeChannel", {}, "channel", "INVALID_CHANNEL_NAME", "INVALID_CHANNEL_NAME"),
]


def nested(depth):
    """A message nested so deep in all."""
    return '{"trigger":{"event":"e","data":' + "[" * (depth - 2) + "]" * (depth - 2) + "}}"


# The text, its code in WWFP, and its error in the classic dialect.
TEXTS = [
    # Depth; brackets in a text are none.
    (nested(128), 503, "ASSIGNATION_FAILED"),
    (nested(129), 400, "INVALID_PAYLOAD"),
    (nested(10_000), 400, "INVALID_PAYLOAD"),
    ('{"trigger":' * 129 + "1" + "}" * 129, 400, "INVALID_PAYLOAD"),
    ("[" * 60_000, 400, "INVALID_PAYLOAD"),
    ('{"trigger":{"event":"e","data":"' + "[{" * 500 + '"}}', 503, "ASSIGNATION_FAILED"),
    # Of a key that stands twice in a payload the last counts; of the message's keys the first.
    ('{"trigger":{"event":":no","event":"e"}}', 503, "ASSIGNATION_FAILED"),
    ('{"trigger":{"event":"e","event":":no"}}', 400, "INVALID_EVENT_NAME"),
    ('{"trigger":{"event":"e","\\u0065vent":":no"}}', 400, "INVALID_EVENT_NAME"),
    ('{"trigger":{"event":"e"},"trigger":{"event":":no"}}', 503, "ASSIGNATION_FAILED"),
    ('{"trigger":{"event":"e"},"trigger":5,"\\u0000":[{}]}', 503, "ASSIGNATION_FAILED"),
    ('{"trigger":{"event":"e"},"rest":[}', 400, "INVALID_PAYLOAD"),
    # Halves of surrogate pairs are no text, but data may hold what JSON may.
    ('{"trigger":{"event":"\\ud800"}}', 400, "INVALID_EVENT_NAME"),
    ('{"trigger":{"event":"\\udc00\\ud800"}}', 400, "INVALID_EVENT_NAME"),
    ('{"trigger":{"event":"\\ud83d\\ude80"}}', 503, "ASSIGNATION_FAILED"),
    ('{"subscribe":{"channel":"\\ud800"}}', 400, "INVALID_CHANNEL_NAME"),
    ('{"trigger":{"event":"e","data":{"\\ud800":"\\udfff"}}}', 503, "ASSIGNATION_FAILED"),
    ('{"\\ud800":{}}', 400, "INVALID_PAYLOAD"),
    ('{"trigger":{"event":"\\uZZZZ"}}', 400, "INVALID_PAYLOAD"),
    ('{"trigger":{"event":"\\x41"}}', 400, "INVALID_PAYLOAD"),
    # NUL, raw and escaped.
    ('{"trigger":{"event":"a\0"}}', 400, "INVALID_PAYLOAD"),
    ('\0{"trigger":{"event":"e"}}', 400, "INVALID_PAYLOAD"),
    ('{"trigger":{"event":"e"}}\0', 400, "INVALID_PAYLOAD"),
    ('{"trigger":{"event":"a\\u0000"}}', 400, "INVALID_EVENT_NAME"),
    ('{"subscribe":{"channel":"a\\u0000"}}', 454, "INVALID_CHANNEL_NAME"),
    ('{"trigger":{"event":"e","data":"\\u0000"}}', 503, "ASSIGNATION_FAILED"),
    # Numbers that no machine number holds.
    ('{"trigger":{"event":"e","data":1e999}}', 503, "ASSIGNATION_FAILED"),
    ('{"trigger":{"event":"e","data":[-1E+999,99999999999999999999,1e-999]}}', 503, "ASSIGNATION_FAILED"),
    ('{"trigger":{"event":"e","more":1e999}}', 503, "ASSIGNATION_FAILED"),
    ('{"trigger":{"event":"e"},"more":1e999}', 503, "ASSIGNATION_FAILED"),
    ('{"trigger":1e999}', 400, "INVALID_PAYLOAD"),
    ('{"trigger":{"event":1e999}}', 400, "INVALID_EVENT_NAME"),
    ('{"trigger":{"event":"e","data":' + "9" * 60_000 + "}}", 503, "ASSIGNATION_FAILED"),
    # Numbers that JSON does not know.
    *((f'{{"trigger":{{"event":"e","data":{number}}}}}', 400, "INVALID_PAYLOAD")
      for number in ("NaN", "Infinity", "-", "+1", "01", "1.", ".5", "1e", "0x10", "--1")),
    # Long where short is expected.
    (f'{{"trigger":{{"event":"{"e" * 60_000}"}}}}', 400, "INVALID_EVENT_NAME"),
    (f'{{"subscribe":{{"channel":"{"c" * 60_000}"}}}}', 454, "INVALID_CHANNEL_NAME"),
    (f'{{"broadcast":{{"event":"e","channel":"{"c" * 201}"}}}}', 454, "INVALID_CHANNEL_NAME"),
    (f'{{"trigger":{{"{"k" * 60_000}":1}}}}', 400, "INVALID_EVENT_NAME"),
    ('{"trigger":{' + ",".join(f'"k{number}":1' for number in range(5_000)) + "}}", 400, "INVALID_EVENT_NAME"),
    # Other scripts' spaces and a byte order mark are no white space.
    ("\ufeff" + '{"trigger":{"event":"e"}}', 400, "INVALID_PAYLOAD"),
    ('\u00a0{"trigger":{"event":"e"}}', 400, "INVALID_PAYLOAD"),
]  # fmt: skip

WWFP_ONLY = [
    (request("trigger", event='"e"', ref="9" * 60_000), error(400)),
    (request("trigger", event='"e"', ref=f'"{"r" * 60_000}"'), error(400)),
    (request("trigger", event='"e"', ref="1e999"), error(400)),
    (request("trigger", event='"e"', ref="99999999999999999999"), error(503, ref="99999999999999999999")),
    (request("trigger", event='"e"', ref='"\\ud800"'), error(400)),
    (request("trigger", event='"e"', ref='"\\u0000"'), error(503, ref='"\\u0000"')),
    ('{"trigger":{"event":"e","ref":[],"ref":1}}', error(503, ref=1)),
    ('{"trigger":{"event":"e","ref":1,"ref":[]}}', error(400)),
    (request("auth", user='"\\ud800"'), error(400)),
    (request("auth", user='"a\\u0000"'), error(402)),
    (request("auth", token='"\\ud800"'), error(400)),
    (request("auth", token=f'"{"0" * 60_000}"'), error(402)),
    (request("subscribe", channel='"nowhere"', data=f'{{"a":"{"x" * 60_000}"}}'), error(400, reason="data too long")),
    (request("subscribe", channel='"nowhere"', data="{" + " " * 60_000 + "}"), error(400, reason="data too long")),
    (request("close", data=f'"{"x" * 60_000}"'), error(400, reason="data too long")),
]


def refusals(dialect):
    """What a manager's session may say at any time, each with its answer."""
    if dialect is Session:
        for verb, members, field, of_string, of_others in CLASSIC_FIELDS:
            for name, value in VALUES.items():
                text = request(verb, **{**members, field: value})
                yield text, f'{{"err":"{of_string if name == "string" else of_others}"}}'
        yield from ((text, f'{{"err":"{classic}"}}') for text, _, classic in TEXTS)
        return
    for verb, members, field, of_string, of_others in WWFP_FIELDS:
        for name, value in VALUES.items():
            code = of_others.get(name, 400) if isinstance(of_others, dict) else of_others
            code = of_string if name == "string" else code
            for ref in (None, "1"):
                yield request(verb, **{**members, field: value}, ref=ref), error(code, ref=ref)
    yield from ((text, error(code)) for text, code, _ in TEXTS)
    yield from WWFP_ONLY


def furnish(vhost):
    """Gives a vhost what the tables above speak of."""
    vhost.add_user("manager", "read,write,manage")
    for channel in ("home", "other", "presence-home"):
        vhost.server.ctl("channel", "add", vhost.path, channel)
    return vhost


@pytest.fixture
def vhost(plain_server):
    with Vhost(plain_server, f"/{fresh('bad')}") as made:
        yield furnish(made)


DIALECTS = pytest.mark.parametrize("dialect", [Session, Wwfp])


@DIALECTS
def test_each_is_answered_and_nobody_is_harmed(vhost, dialect):
    session, neighbour = (vhost.connect("manager", dialect=kind) for kind in (dialect, Wwfp))
    session.subscribe("home")
    neighbour.subscribe("home")
    wrong = []
    for text, answer in refusals(dialect):
        session.say(text)
        # The neighbour is served meanwhile, and the session hears it like anybody.
        tick = neighbour.broadcast("home", "tick")
        heard = {session.hear(), session.hear()}
        if heard != {answer, tick}:
            wrong.append(f"{text[:120]}\n   expected {answer[:120]}\n   heard {heard}")
            while session.ask('{"sync":1}') not in (error(400), '{"err":"UNDEFINED_EVENT","event":"sync"}'):
                pass
    assert not wrong, "\n".join(wrong)


def resident_bytes(server):
    """How much memory a process holds."""
    status = pathlib.Path(f"/proc/{server.pid}/status").read_text()
    return int(re.search(r"^VmRSS:\s+(\d+) kB$", status, re.MULTILINE)[1]) << 10


# What a process may hold more of after thousands of refusals than after the first hundreds, in bytes.
GROWTH_MAX = 8 << 20


@DIALECTS
def test_refusals_leave_nothing_behind(start, dialect):
    server = start(shards=2)
    vhost = furnish(Vhost(server, "/bad"))
    with Crowd(server, vhost.path) as crowd:
        members = [crowd.join(dialect.SUBPROTOCOL) for _ in range(4)]
        for member in members:
            member.say(request("authenticate" if dialect is Session else "auth", user='"manager"'))
            if dialect is Wwfp:
                member.say(request("subscribe", channel='"home"'))
        before = 1 if dialect is Session else 3
        crowd.listen_until(lambda: all(len(member.heard) == before for member in members), "the beginning")
        table = list(refusals(dialect))
        frames = [frame(TEXT, text) for text, _ in table]

        def repeat(times):
            for _ in range(times):
                for member in members:
                    member.heard.clear()
                for data in frames:
                    for member in members:
                        member.send(data)
                    crowd.listen()
                crowd.listen_until(lambda: all(len(member.heard) >= len(table) for member in members), "the answers")
                for member in members:
                    assert list(member.heard) == [answer for _, answer in table]

        repeat(3)
        warm = resident_bytes(server)
        repeat(12)
        grown = resident_bytes(server) - warm
        assert grown < GROWTH_MAX, f"{grown} bytes more after {12 * len(table) * len(members)} refusals"
    assert server.stop() == 0


@DIALECTS
def test_garbage_in_batches(vhost, plain_server, dialect):
    """Whatever text comes, in whatever pieces: one answer each, and the session lives."""
    chance = random.Random(7)
    alphabet = list('{}[]":,\\ue0159-.ntfls ') + ["\u00e9", "\U0001f680", "\u0001"]
    texts = ["".join(chance.choices(alphabet, k=chance.randrange(60))) for _ in range(3_000)]
    refused = error(400) if dialect is Wwfp else '{"err":"INVALID_PAYLOAD"}'
    data = b"".join(frame(TEXT, text) for text in texts)
    with RawSocket(plain_server.websocket_address) as raw:
        raw.upgrade(vhost.path, subprotocol(dialect.SUBPROTOCOL))
        if dialect is Wwfp:
            raw.text()
        at, answers = 0, []
        while at < len(data):
            size = chance.randrange(1, 4_000)
            piece, at = data[at : at + size], at + size
            raw.send(piece)
        while len(answers) < len(texts):
            answers.append(raw.text())
        assert set(answers) == {refused}
        assert raw.ask("[]") == refused


@DIALECTS
def test_big_data_of_members(vhost, dialect):
    """60 KB are too much unless the vhost says otherwise, and then they are shown whole."""
    vhost.server.ctl("settings", "set", vhost.path, "presence_data_bytes_max=65536")
    session, witness = vhost.connect("manager", dialect=Wwfp), vhost.connect("manager", dialect=dialect)
    big = f'"a":"{"x" * 60_000}"'
    session.attend("presence-home", "manager", data=f"{{{big}}}")
    shown = f'{{"uid":"manager",{big}}}'
    heard = witness.ask(request("subscribe", channel='"presence-home"'))
    if dialect is Wwfp:
        assert heard == subscribed("presence-home", "manager", [shown])
    else:
        assert witness.hear() == f'{{":presence":{{"channel":"presence-home","subscribers":[{shown}]}}}}'
    assert session.ask(f'{{"close":{{"b":{json.dumps("y" * 60_000)}}}}}') == answer("closed", f'"sid":"{session.sid}"')


# More of everything than anybody needs

SUBSCRIPTIONS = 1_000


@pytest.mark.parametrize("attempts", [4_000, pytest.param(100_000, marks=pytest.mark.nightly)])
def test_many_more_subscriptions_than_are_granted(vhost, plain_server, attempts):
    with Crowd(plain_server, vhost.path) as crowd:
        classic, extra, session = crowd.join("webrocket"), crowd.join("webrocket"), crowd.join("wwfp")

        def answers(member, texts):
            """Says all of it in big pieces, and hears an answer to each."""
            member.heard.clear()
            for at in range(0, len(texts), 500):
                member.send(b"".join(frame(TEXT, text) for text in texts[at : at + 500]))
                crowd.listen_until(lambda: len(member.heard) >= min(at + 500, len(texts)), "the answers")
            return list(member.heard)

        crowd.listen_until(lambda: session.heard, "the greeting")
        for member in (classic, extra):
            assert answers(member, ['{"authenticate":{"user":"manager"}}']) == ['{"authenticated":"manager"}']
        assert answers(session, [request("auth", user='"manager"')]) == ['{":authenticated":{}}']
        names = [f"c{number}" for number in range(attempts)]

        heard = answers(classic, [f'{{"subscribe":{{"channel":"{name}"}}}}' for name in names])
        assert heard[:SUBSCRIPTIONS] == [f'{{"subscribed":"{name}"}}' for name in names[:SUBSCRIPTIONS]]
        assert set(heard[SUBSCRIPTIONS:]) == {'{"err":"ACCESS_DENIED","reason":"subscription limit reached"}'}

        assert answers(extra, ['{"subscribe":{"channel":"more"}}']) == ['{"subscribed":"more"}']
        asked = [*names[:SUBSCRIPTIONS], *["more"] * (attempts - SUBSCRIPTIONS)]
        heard = answers(session, [f'{{"subscribe":{{"channel":"{name}"}}}}' for name in asked])
        assert heard[:SUBSCRIPTIONS] == [subscribed(name) for name in names[:SUBSCRIPTIONS]]
        assert set(heard[SUBSCRIPTIONS:]) == {error(403, reason="subscription limit reached")}

        # All that was granted still is.
        session.heard.clear()
        acknowledged = answers(extra, [f'{{"broadcast":{{"event":"e","channel":"{name}"}}}}' for name in names[:SUBSCRIPTIONS]])
        assert acknowledged == [f'{{"broadcasted":"{name}"}}' for name in names[:SUBSCRIPTIONS]]
        crowd.listen_until(lambda: len(session.heard) == SUBSCRIPTIONS, "all broadcasts")
        assert {json.loads(text)["e"]["channel"] for text in session.heard} == set(names[:SUBSCRIPTIONS])


# The control API and webrocket-ctl

NO_PATTERNS = ["(x{1000}){1000}", r"\w{100}{100}", "((a{100}){100}){100}", "(" * 600, "x" * 1_025, "(x", "[", "*", r"\p{Nothing}",
           "(?=a)", r"(a)\1", "a)|(?:.*"]  # fmt: skip

TOKEN_BODIES = [
    b"", b"null", b"[]", b"{", b"\x00", b"\xff", b'{"uid":"tom"}', b'{"channels":".*"}',
    b'{"uid":"tom","channels":".*","more":1}', b'{"uid":"\\ud800","channels":".*"}', b'{"uid":"a\\u0000","channels":".*"}',
    b'{"uid":"","channels":".*"}', b'{"uid":"tom","channels":"\\ud800"}', b'{"uid":"\xff","channels":".*"}',
    *(f'{{"uid":{value},"channels":".*"}}'.encode() for value in ("null", "true", "5", "[]", "{}", f'"{"u" * 129}"')),
    *(f'{{"uid":"tom","channels":{value}}}'.encode() for value in ("null", "true", "5", "[]", "{}")),
    *(f'{{"uid":"tom","channels":".*","ttl":{value}}}'.encode()
      for value in ("0", "-1", "1.5", '"5"', "86401", "99999999999999999999", "1e999", "1e3", "[]", "true")),
    b'{"uid":"tom","channels":".*","ttl":' + b"[" * 5_000 + b"]" * 5_000 + b"}",
]  # fmt: skip


def test_bad_requests_for_tokens(vhost):
    with Control(vhost.server) as control:
        for body in TOKEN_BODIES:
            status, answer = control.ask("POST", vhost.path, "/tokens", body)
            assert (status, list(answer)) == (400, ["error"]), body[:100]
        for pattern in (*NO_PATTERNS, "x" * 1_000_000):
            status, answer = control.ask("POST", vhost.path, "/tokens", {"uid": "tom", "channels": pattern})
            assert (status, list(answer)) == (400, ["error"]), pattern[:100]
            assert len(answer["error"]) < 500
        status, _ = control.ask("POST", vhost.path, "/tokens", {"uid": "tom", "channels": "x" * (1 << 20)})
        assert status == 413
        control.issue_token(vhost.path, "tom", ".*", ttl=1)
    for pattern in NO_PATTERNS:
        with pytest.raises(CommandFailed) as failed:
            vhost.issue_token("tom", pattern)
        assert (failed.value.returncode, len(failed.value.stderr.strip().splitlines())) == (1, 1)


@pytest.mark.parametrize("pattern", ["(a+)+$", "(a|a)*b", "(a*)*(a*)*(a*)*x", "(.*)*(.*)*(.*)*[^a]", "(a?){200}a{200}"])
def test_patterns_that_take_other_engines_forever(vhost, pattern):
    """They are fine here: matching takes time in proportion to the name, whatever the pattern."""
    name = "a" * 199 + "b"
    vhost.server.ctl("channel", "add", vhost.path, name)
    session = vhost.connect(dialect=Wwfp)
    session.present_token(vhost.issue_token("tom", pattern))
    matches = re.fullmatch({"(a+)+$": "a+", "(a|a)*b": "a*b", "(.*)*(.*)*(.*)*[^a]": ".*[^a]"}.get(pattern, "x"), name)
    for _ in range(20):
        assert session.ask(request("subscribe", channel=f'"{name}"')) == (subscribed(name) if matches else error(403))


@pytest.mark.parametrize(
    "path", ["/", "//", "/a/", "/a//b", "a", "/" + "s" * 65, "/a" * 86, "/a/channels", "/ä", "/a b", "/a\0", "/a/../b", "/%2e"]
)
def test_bad_paths_of_vhosts(plain_server, path):
    with Control(plain_server) as control:
        for request in (("GET", path, ""), ("POST", path, "/tokens", {"uid": "tom", "channels": ".*"})):
            status, said = control.ask(*request)
            assert (status, list(said)) == (400, ["error"])
    with RawSocket(plain_server.websocket_address) as raw:
        raw.send(handshake(path))
        # A space and a zero are no part of a request's head.
        assert raw.response()[0] == (400 if set(path) & set(" \0") else 404)


def test_the_longest_path_of_a_vhost(plain_server):
    for path in ("/a" * 85, "/" + "s" * 64 + "/" + "t" * 64):
        with Vhost(plain_server, path) as vhost:
            vhost.connect(dialect=Wwfp)
