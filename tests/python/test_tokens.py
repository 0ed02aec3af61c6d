"""Single access tokens: good for one session, once, for a while, on what their pattern matches, and for nobody else."""

import json

import pytest

from control import Control
from crowd import Crowd
from frames import TEXT, frame
from metrics import metric
from patience import eventually
from session import BAD_CREDENTIALS, Session, Vhost, fresh, request
from wwfp import Wwfp, answer, error, subscribed

DIALECTS = pytest.mark.parametrize("dialect", [Session, Wwfp])


def present(dialect, token):
    """The text with which a session of the dialect presents a token."""
    return request("auth" if dialect is Wwfp else "authenticate", token=json.dumps(token))


def accepted(dialect, uid):
    return answer("authenticated") if dialect is Wwfp else f'{{"authenticated":"{uid}"}}'


def refused(dialect):
    return error(402) if dialect is Wwfp else BAD_CREDENTIALS


@pytest.fixture
def vhost(make_vhost):
    return make_vhost()


@DIALECTS
@pytest.mark.parametrize("second", [Session, Wwfp])
def test_a_token_is_good_for_one_session_once(vhost, dialect, second):
    token = vhost.issue_token("tom", ".*")
    session, other = vhost.connect(dialect=dialect), vhost.connect(dialect=second)
    assert session.ask(present(dialect, token)) == accepted(dialect, "tom")
    assert session.ask(present(dialect, token)) == refused(dialect)
    assert other.ask(present(second, token)) == refused(second)
    # Losing against itself changed nothing, and dying gives nothing back.
    vhost.server.ctl("channel", "add", vhost.path, "private-one")
    assert "subscribed" in session.ask(request("subscribe", channel='"private-one"'))
    session.close()
    assert other.ask(present(second, token)) == refused(second)


@DIALECTS
def test_tokens_of_one_uid_are_many(vhost, dialect):
    for token in [vhost.issue_token("tom", ".*") for _ in range(3)]:
        assert vhost.connect(dialect=dialect).ask(present(dialect, token)) == accepted(dialect, "tom")


@DIALECTS
def test_wrong_digits(vhost, dialect):
    token, session = vhost.issue_token("tom", ".*"), vhost.connect(dialect=dialect)
    for at in range(0, 128, 9):
        flipped = token[:at] + ("0" if token[at] != "0" else "1") + token[at + 1 :]
        assert session.ask(present(dialect, flipped)) == refused(dialect)
    for wrong in (token[:-1], token + "0", token + " ", " " + token, token[:64], token + "\0", "0x" + token[2:]):
        assert session.ask(present(dialect, wrong)) == refused(dialect)
    # None of that has spent it, and so many failures have slowed nothing down.
    assert session.ask(present(dialect, token)) == accepted(dialect, "tom")


@DIALECTS
def test_a_token_means_nothing_to_another_vhost(vhost, make_vhost, dialect):
    token, stranger = vhost.issue_token("tom", ".*"), make_vhost().connect(dialect=dialect)
    assert stranger.ask(present(dialect, token)) == refused(dialect)
    assert stranger.ask(present(dialect, vhost.token)) == refused(dialect)
    assert vhost.connect(dialect=dialect).ask(present(dialect, token)) == accepted(dialect, "tom")


def all_but(server, count):
    """Returns once the server knows no more than so many tokens that nobody has used."""
    eventually(lambda: metric(server, "tokens"), count)


def test_an_unused_token_dies(start):
    server = start()
    vhost = Vhost(server, "/test")
    short, long = vhost.issue_token("tom", ".*", "--ttl", "1"), vhost.issue_token("tim", ".*", "--ttl", "600")
    all_but(server, 1)
    for dialect in (Session, Wwfp):
        assert vhost.connect(dialect=dialect).ask(present(dialect, short)) == refused(dialect)
    assert vhost.connect(dialect=Wwfp).ask(present(Wwfp, long)) == accepted(Wwfp, "tim")
    eventually(lambda: metric(server, "tokens"), 0)
    vhost.close_sessions()


def test_a_session_outlives_its_tokens_time(start):
    server = start()
    vhost = Vhost(server, "/test")
    server.ctl("channel", "add", vhost.path, "private-one")
    session = vhost.connect(dialect=Wwfp)
    with Control(server) as control:
        # On a busy machine, a short one may have died before it is presented.
        for ttl in (1, 2, 4, 8, 16, 32):
            token = control.issue_token(vhost.path, "tom", ".*", ttl=ttl)
            if session.ask(present(Wwfp, token)) == accepted(Wwfp, "tom"):
                break
        # Issued later, so it dies after the session's would have.
        other = control.issue_token(vhost.path, "tom", ".*", ttl=ttl)
    all_but(server, 0)
    assert session.ask(present(Wwfp, other)) == refused(Wwfp)
    session.subscribe("private-one", "tom")
    vhost.close_sessions()


@pytest.mark.parametrize(
    ("pattern", "matched", "others"),
    [
        ("private-a", ["private-a"], ["private-ab", "private-a.b", "private-"]),
        ("private-a|private-b", ["private-a", "private-b"], ["private-ab", "private-a-private-b"]),
        ("private-[ab]+", ["private-a", "private-abba"], ["private-abc", "private-"]),
        (".*", ["private-a", "presence-b"], []),
        ("", [], ["private-a"]),
        ("a", [], ["private-a", "presence-a"]),
        ("^private-a$", ["private-a"], ["private-ab"]),
        ("(?i)PRIVATE-A", ["private-a", "private-A"], ["private-ab"]),
        ("(?x) private-a # and a comment", ["private-a"], ["private-ab"]),
    ],
)
def test_a_pattern_is_anchored_at_both_ends(make_vhost, pattern, matched, others):
    vhost = make_vhost()
    session = vhost.connect(dialect=Wwfp)
    with Control(vhost.server) as control:
        for channel in (*matched, *others):
            assert control.ask("POST", vhost.path, "/channels", {"name": channel})[0] in (200, 201)
        session.present_token(control.issue_token(vhost.path, "tom", pattern))
    for channel in matched:
        assert f'"channel":"{channel}","uid":"tom"' in session.ask(request("subscribe", channel=f'"{channel}"'))
        if channel.startswith("presence"):
            session.hear()
    for channel in others:
        assert session.ask(request("subscribe", channel=f'"{channel}"')) == error(403), channel


def test_rights_end_with_what_gave_them(vhost):
    vhost.server.ctl("channel", "add", vhost.path, "private-one")
    vhost.add_user("nobody", "write")
    session = vhost.connect(dialect=Wwfp)
    join = request("subscribe", channel='"private-one"')
    session.present_token(vhost.issue_token("tom", ".*"))
    session.subscribe("private-one", "tom")
    assert session.ask(request("trigger", event='"work"')) == error(503)
    # Another token, another user: each replaces what was before, subscriptions and all.
    session.present_token(vhost.issue_token("tim", "other"))
    assert session.ask(request("unsubscribe", channel='"private-one"')) == error(453)
    assert session.ask(join) == error(403)
    session.authenticate("nobody")
    assert session.ask(join) == error(403)
    assert session.ask(request("openChannel", channel='"more"')) == error(403)
    session.present_token(vhost.issue_token("tom", "private-one"))
    assert session.ask(join) == subscribed("private-one", "tom")


def test_tokens_do_not_survive_a_restart(start):
    server = start()
    token = Vhost(server, "/test").issue_token("tom", ".*", "--ttl", "600")
    server.kill9()
    server.restart()
    session = Wwfp(server, "/test")
    assert session.ask(present(Wwfp, token)) == refused(Wwfp)
    session.close()


def test_tokens_stay_out_of_the_log(start):
    server = start(log_level="trace")
    vhost = Vhost(server, "/test")
    tokens = [vhost.issue_token("tom", ".*") for _ in range(6)]
    for dialect, used, malformed in ((Session, *tokens[:2]), (Wwfp, *tokens[2:4])):
        session = vhost.connect(dialect=dialect)
        session.ask(present(dialect, used))
        session.ask(present(dialect, used))
        # A message that does not even parse, one with the wrong key, and one that ends the session.
        session.ask(present(dialect, malformed)[:-1])
        session.ask(request("login", token=f'"{malformed}"'))
        session.say(b'{"auth":{"token":"' + malformed.encode() + b'"}}')
        assert session.hear_close() == 1003
    # In the query it is of no use, but some will try.
    vhost.connect(dialect=Wwfp).close()
    Session(server, f"/test?token={tokens[4]}").close()
    with pytest.raises(Exception, match="404"):
        Session(server, f"/nowhere?token={tokens[5]}")
    vhost.close_sessions()
    assert server.stop() == 0
    assert len(server.log) > 5, "at trace it tells more than that"
    log = "\n".join(server.log)
    assert not [token for token in tokens if token[:16] in log or token[-16:] in log]


CONNECTIONS = 200


def dialect_of(racer):
    return Wwfp if racer.is_wwfp else Session


@pytest.mark.parametrize("rounds", [100, pytest.param(2_000, marks=pytest.mark.nightly)])
def test_of_many_that_try_a_token_at_once_one_wins(start, rounds):
    server = start(shards=4)
    vhost = Vhost(server, f"/{fresh('race')}")
    with Crowd(server, vhost.path) as crowd, Control(server) as control:
        for number in range(CONNECTIONS):
            crowd.join("wwfp" if number % 2 else "webrocket")
        racers = crowd.members
        crowd.listen_until(lambda: all(racer.heard for racer in racers if racer.is_wwfp), "the greetings")
        for racer in racers:
            racer.heard.clear()
        winners = set()
        for turn in range(rounds):
            token = control.issue_token(vhost.path, "tom", ".*")
            tries = {dialect: frame(TEXT, present(dialect, token)) for dialect in (Session, Wwfp)}
            # Another one is the first every time.
            for racer in racers[turn % CONNECTIONS :] + racers[: turn % CONNECTIONS]:
                racer.send(tries[dialect_of(racer)])
            answers = crowd.hear_all("the answers")
            won = [at for at, racer in enumerate(racers) if answers[at] == accepted(dialect_of(racer), "tom")]
            lost = [at for at, racer in enumerate(racers) if answers[at] == refused(dialect_of(racer))]
            assert (len(won), len(lost)) == (1, CONNECTIONS - 1), f"round {turn}: {won}"
            winners.update(won)
        # In each round another one is the first.
        assert len(winners) > min(rounds, CONNECTIONS) / 10, "the same few win always: this is no race"
