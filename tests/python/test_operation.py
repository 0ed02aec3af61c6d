"""What an operator meets: starting, stopping, changing things under load, losing power, and what the log tells."""

import http.client
import json
import re
import signal
import stat

import pytest

from patience import PATIENCE
from process import CommandFailed, Server, hex_word, run
from session import (
    BAD_CREDENTIALS,
    BAD_PAYLOAD,
    DANCE,
    DENIED,
    NO_CHANNEL,
    NO_USER,
    SECRET,
    Session,
    Vhost,
    broadcast,
    broadcast_until_gone,
    unknown,
)


@pytest.fixture
def vhost(start):
    """A vhost of a server of the test's own."""
    made = Vhost(start(), "/test")
    yield made
    made.close_sessions()


def vhosts(server):
    """The paths of all vhosts, in order."""
    return sorted(vhost["path"] for vhost in server.ctl_json("vhost", "list")["vhosts"])


def status(server, path, **headers):
    """The status of a GET on the control port."""
    connection = http.client.HTTPConnection(*server.control_address, timeout=PATIENCE)
    try:
        connection.request("GET", path, headers={name.replace("_", "-"): value for name, value in headers.items()})
        return connection.getresponse().status
    finally:
        connection.close()


# Failing to start


def says_why(finished, about):
    """Exit code 1 and one sentence that names the culprit; no trace of our own code."""
    assert finished.returncode == 1, finished
    lines = finished.stderr.strip().splitlines()
    assert lines, "it said nothing"
    assert about in lines[-1], finished.stderr
    for unwanted in ("panicked", "RUST_BACKTRACE", "stack backtrace", "src/"):
        assert unwanted not in finished.stderr, finished.stderr
    assert not [line for line in lines if '"message":"ready"' in line]


def start_in_vain(tmp_path, *arguments):
    """Runs a server that must end by itself."""
    return run("webrocket-server", *Server(tmp_path / "other", *arguments).arguments)


@pytest.mark.parametrize("port", ["websocket", "control"])
def test_address_in_use(start, tmp_path, port):
    address = start().ready[port]
    says_why(start_in_vain(tmp_path, f"--{port}-addr", address), address)


def test_data_directory_in_use(start, tmp_path):
    start()
    says_why(start_in_vain(tmp_path, "--data-dir", tmp_path / "data"), str(tmp_path / "data"))


def test_data_directory_that_cannot_be(tmp_path):
    (tmp_path / "file").write_text("no directory")
    below = tmp_path / "file" / "data"
    says_why(start_in_vain(tmp_path, "--data-dir", below), str(below))


@pytest.mark.parametrize(
    "content",
    ["this is no TOML", "no_such_key = 1", "shards = \"many\""],
    ids=["no toml", "unknown key", "wrong type"],
)
def test_bad_configuration(tmp_path, content):
    file = tmp_path / "webrocket.toml"
    file.write_text(content + "\n")
    says_why(start_in_vain(tmp_path, "--config", file), "webrocket.toml")


def test_missing_configuration(tmp_path):
    says_why(start_in_vain(tmp_path, "--config", tmp_path / "nowhere.toml"), "nowhere.toml")


@pytest.mark.parametrize(
    ("program", "arguments"),
    [
        ("webrocket-server", ["--no-such-option"]),
        ("webrocket-server", ["--shards", "many"]),
        ("webrocket-server", ["--io", "magic"]),
        ("webrocket-server", ["--websocket-addr", "nonsense"]),
        ("webrocket-ctl", []),
        ("webrocket-ctl", ["no-such-command"]),
        ("webrocket-ctl", ["vhost", "add"]),
        ("webrocket-ctl", ["user", "add", "/test", "joe", "--rights", "fly"]),
        ("webrocket-ctl", ["vhost", "add", "/bad name"]),
        ("webrocket-ctl", ["vhost", "add", "/test/channels"]),
        ("webrocket-ctl", ["user", "add", "/test", "bad name", "--rights", "read"]),
        ("webrocket-ctl", ["channel", "add", "/test", "bad name"]),
    ],
)
def test_usage_error(program, arguments):
    finished = run(program, *arguments)
    assert finished.returncode == 2
    assert finished.stdout == ""
    assert "panicked" not in finished.stderr


@pytest.mark.parametrize("program", ["webrocket-server", "webrocket-ctl"])
def test_help_and_version(program):
    for option in ("--help", "--version"):
        finished = run(program, option)
        assert (finished.returncode, finished.stderr) == (0, "")
        expected = rf"{program} \d+\.\d+\.\d+\n" if option == "--version" else rf"(?s).+\bUsage: {program} .+"
        assert re.fullmatch(expected, finished.stdout), finished.stdout


# Stopping


@pytest.mark.parametrize("with_signal", [signal.SIGTERM, signal.SIGINT])
def test_stops_on_a_signal(start, with_signal):
    server = start()
    server.add_vhost("/test")
    session = Session(server, "/test")
    assert server.stop(with_signal) == 0
    assert session.hear_close() == 1012


def test_two_lives_in_one_data_directory(start):
    server = start()
    token = server.add_vhost("/test")
    assert server.stop() == 0
    server.restart()
    assert hex_word(server.ctl("vhost", "show", "/test"), 40) == token


# What was acknowledged survives


def test_what_was_acknowledged_survives_a_kill(start):
    server = start()
    tokens = {path: server.add_vhost(path, "channels_max=77", "anonymous=read") for path in ("/one", "/two/deeper")}
    server.add_user("/one", "joe", "read,write", secret=SECRET)
    server.add_user("/one", "gone", "read")
    server.ctl("user", "remove", "/one", "gone")
    server.ctl("user", "set-rights", "/one", "joe", "--rights", "read")
    server.ctl("channel", "add", "/one", "news")
    server.ctl("channel", "add", "/one", "old-news")
    server.ctl("channel", "remove", "/one", "old-news")
    server.add_vhost("/gone")
    server.ctl("vhost", "remove", "/gone")
    tokens["/two/deeper"] = hex_word(server.ctl("vhost", "regenerate-token", "/two/deeper"), 40)
    server.kill9()

    server.restart()
    assert vhosts(server) == ["/one", "/two/deeper"]
    for path, token in tokens.items():
        assert server.ctl_json("vhost", "show", path)["token"] == token
        settings = server.ctl_json("settings", "show", path)
        assert (settings["channels_max"], settings["anonymous"]) == (77, "read")
    assert server.channels("/one") == ["news"]
    session = Session(server, "/one")
    session.authenticate("joe", SECRET)
    session.subscribe("news")
    assert session.ask(broadcast("news", "hello")) == DENIED
    assert session.ask('{"authenticate":{"user":"gone"}}') == NO_USER
    session.close()


def test_the_last_acknowledged_change_survives_many_kills(start):
    server = start()
    for turn in range(8):
        server.add_vhost(f"/v{turn}")
        server.kill9()
        server.restart()
        assert vhosts(server) == [f"/v{number}" for number in range(turn + 1)]


def test_a_change_is_durable_and_a_subscription_is_not(start):
    server = start()
    server.add_vhost("/test")
    server.add_user("/test", "manager", "read,write,manage")
    session = Session(server, "/test")
    session.authenticate("manager")
    session.subscribe("by-chance")
    session.open_channel("by-user")
    server.kill9()
    server.restart()
    assert server.channels("/test") == ["by-user"]


def test_access_tokens_do_not_survive(start):
    server = start()
    server.add_vhost("/test")
    token = server.issue_token("/test", "tom", ".*", "--ttl", "600")
    assert server.stop() == 0
    server.restart()
    session = Session(server, "/test")
    assert session.ask(json.dumps({"authenticate": {"token": token}})) == BAD_CREDENTIALS
    session.close()


def test_regenerated_token(vhost):
    token = hex_word(vhost.server.ctl("vhost", "regenerate-token", vhost.path), 40)
    assert token != vhost.token
    assert hex_word(vhost.server.ctl("vhost", "show", vhost.path), 40) == token


# Changes act at once on those who are connected


def ask_past_notices(session, text):
    """The answer to `text`; being told of the end of a subscription before it is fine."""
    session.say(text)
    while (heard := session.hear()).startswith('{"unsubscribed"'):
        pass
    return heard


@pytest.mark.parametrize("change", ["remove", "take READ"])
def test_losing_the_right_to_read(vhost, change):
    vhost.add_user("victim", "read")
    vhost.add_user("guest", "read,write")
    victims, witness, writer = [vhost.connect("victim") for _ in range(4)], vhost.connect("guest"), vhost.connect("guest")
    witness.subscribe("news")
    for victim in victims:
        victim.subscribe("news")
    writer.broadcast("news", "before")
    for session in (witness, *victims):
        assert session.hear().startswith('{"before":')
    if change == "remove":
        vhost.server.ctl("user", "remove", vhost.path, "victim")
    else:
        vhost.server.ctl("user", "set-rights", vhost.path, "victim", "--rights", "write")
    writer.broadcast("news", "after")
    assert witness.hear().startswith('{"after":')
    for victim in victims:
        assert ask_past_notices(victim, '{"subscribe":{"channel":"news"}}') == DENIED
        assert victim.ask(DANCE) == unknown('"dance"')


def test_a_removed_user_holds_no_channel(vhost):
    vhost.add_user("victim", "read")
    vhost.add_user("guest", "read,write")
    victim, writer = vhost.connect("victim"), vhost.connect("guest")
    victim.subscribe("news")
    writer.broadcast("news", "before")
    vhost.server.ctl("user", "remove", vhost.path, "victim")
    broadcast_until_gone(writer, "news")
    assert vhost.connect().ask('{"authenticate":{"user":"victim"}}') == NO_USER


def test_gaining_and_losing_the_right_to_write(vhost):
    vhost.add_user("guest", "read")
    session, other = vhost.connect("guest"), vhost.connect("guest")
    other.subscribe("news")
    assert session.ask(broadcast("news", "hello")) == DENIED
    vhost.server.ctl("user", "set-rights", vhost.path, "guest", "--rights", "read,write")
    session.broadcast("news", "hello")
    assert other.hear().startswith('{"hello":')
    vhost.server.ctl("user", "set-rights", vhost.path, "guest", "--rights", "read")
    assert session.ask(broadcast("news", "hello")) == DENIED
    # READ was never gone, so the subscription was not either.
    other.unsubscribe("news")


def test_changed_secret(vhost):
    vhost.add_user("joe", "read", secret="old")
    vhost.server.ctl("user", "set-secret", vhost.path, "joe", "--secret-stdin", input="new\n")
    session = vhost.connect()
    assert session.ask('{"authenticate":{"user":"joe","secret":"old"}}') == BAD_CREDENTIALS
    session.authenticate("joe", "new")


def test_removed_vhost(vhost):
    sessions = [vhost.connect() for _ in range(6)]
    vhost.server.ctl("vhost", "remove", vhost.path)
    assert [session.hear_close() for session in sessions] == [4004] * 6
    with pytest.raises(Exception, match="404"):
        vhost.connect()
    # A new one of the same name starts from nothing.
    vhost.server.add_vhost(vhost.path)
    assert vhost.connect().ask('{"authenticate":{"user":"joe"}}') == NO_USER


def test_channel_opened_and_removed_by_ctl(vhost):
    vhost.add_user("guest", "read,write")
    reader, writer = vhost.connect("guest"), vhost.connect("guest")
    vhost.server.ctl("channel", "add", vhost.path, "private-news")
    reader.subscribe("private-news")
    writer.broadcast("private-news", "hello")
    assert reader.hear().startswith('{"hello":')
    shown = {"name": "private-news", "opened": True, "subscribers": {"size": 1}, "type": "private"}
    assert vhost.server.ctl_json("channel", "show", vhost.path, "private-news") == shown
    vhost.server.ctl("channel", "remove", vhost.path, "private-news")
    assert reader.hear() == '{"unsubscribed":"private-news"}'
    assert writer.ask(broadcast("private-news", "hello")) == NO_CHANNEL


def test_changed_setting(vhost):
    session = vhost.connect()
    assert session.ask('{"subscribe":{"channel":"news"}}') == DENIED
    vhost.server.ctl("settings", "set", vhost.path, "anonymous=read")
    session.subscribe("news")


# webrocket-ctl


def test_ctl_prints_the_servers_json(vhost):
    server, path = vhost.server, vhost.path
    vhost.add_user("joe", "read,write")
    server.ctl("channel", "add", path, "news")
    news = {"name": "news", "opened": True, "subscribers": {"size": 0}, "type": "open"}
    joe = {"name": "joe", "rights": "read,write", "has_secret": False}
    counted = {"path": path, "users": 1, "channels": 1}
    for command, told, line in [
        (("vhost", "list"), {"vhosts": [counted]}, [path, "1", "1"]),
        (("vhost", "show", path), counted | {"token": vhost.token}, ["token", vhost.token]),
        (("user", "list", path), {"users": [joe]}, ["joe", "read,write", "no"]),
        (("channel", "list", path), {"channels": [news]}, ["news", "open", "yes", "0"]),
        (("channel", "show", path, "news"), news, ["type", "open"]),
    ]:
        assert server.ctl_json(*command) == told, command
        assert line in [shown.split() for shown in server.ctl(*command).splitlines()], command
    settings = server.ctl_json("settings", "show", path)
    lines = [shown.split() for shown in server.ctl("settings", "show", path).splitlines() if shown]
    assert lines == [[name, str(value)] for name, value in settings.items()]


@pytest.mark.parametrize(
    "command",
    [
        ("vhost", "show", "/nowhere"),
        ("vhost", "remove", "/nowhere"),
        ("vhost", "regenerate-token", "/nowhere"),
        ("vhost", "add", "/test"),
        ("user", "list", "/nowhere"),
        ("user", "add", "/nowhere", "joe", "--rights", "read"),
        ("user", "remove", "/test", "nobody"),
        ("user", "set-rights", "/test", "nobody", "--rights", "read"),
        ("user", "set-secret", "/test", "nobody", "--secret", "x"),
        ("channel", "show", "/test", "nothing"),
        ("channel", "remove", "/test", "nothing"),
        ("token", "issue", "/test", "--uid", "tom", "--channels", "(unclosed"),
        ("token", "issue", "/nowhere", "--uid", "tom", "--channels", ".*"),
        ("settings", "show", "/nowhere"),
        ("settings", "set", "/test", "no_such_setting=1"),
        ("settings", "set", "/test", "channels_max=many"),
        ("settings", "set", "/test", "anonymous=write"),
    ],
    ids=" ".join,
)
def test_ctl_says_why_it_failed(plain_server_with_test, command):
    with pytest.raises(CommandFailed) as failed:
        plain_server_with_test.ctl(*command)
    assert failed.value.returncode == 1
    assert len(failed.value.stderr.strip().splitlines()) == 1, failed.value.stderr
    assert "panicked" not in failed.value.stderr


@pytest.fixture(scope="module")
def plain_server_with_test(plain_server):
    plain_server.add_vhost("/test")
    yield plain_server
    plain_server.ctl("vhost", "remove", "/test")


def test_ctl_without_a_server(tmp_path):
    (tmp_path / "cookie").write_text("0" * 40)
    finished = run("webrocket-ctl", "--control-url", "http://127.0.0.1:1", "--cookie-file", tmp_path / "cookie", "vhost", "list")
    says_why(finished, "127.0.0.1:1")


# The cookie


def test_cookie_is_the_owners_alone(start):
    server = start()
    assert stat.S_IMODE(server.cookie_file.stat().st_mode) == 0o600
    cookie = server.cookie_file.read_text()
    assert server.stop() == 0
    server.restart()
    assert server.cookie_file.read_text() == cookie


def test_without_the_cookie_nothing_is_told(start, tmp_path):
    server = start()
    server.add_vhost("/secret-path")
    cookie = server.cookie_file.read_text().strip()
    forged = cookie[:-1] + ("0" if cookie[-1] != "0" else "1")
    assert status(server, "/vhosts", X_WebRocket_Cookie=cookie) == 200
    for headers in ({}, {"X_WebRocket_Cookie": forged}, {"X_WebRocket_Cookie": ""}, {"X_WebRocket_Cookie": cookie[:-1]}):
        assert status(server, "/vhosts", **headers) == 401
    (tmp_path / "forged").write_text(forged)
    refused = run(
        "webrocket-ctl", "--control-url", server.control_url, "--cookie-file", tmp_path / "forged", "vhost", "list"
    )
    assert refused.returncode == 1
    assert len(refused.stderr.strip().splitlines()) == 1
    assert "secret-path" not in refused.stdout + refused.stderr


def test_health_needs_no_cookie(start):
    server = start()
    assert [status(server, path) for path in ("/healthz", "/readyz", "/metrics")] == [200, 200, 200]


# The log


def test_secrets_stay_out_of_the_log(start):
    server = start(log_level="trace")
    vhost = Vhost(server, "/test", "anonymous=read")
    by_argument, by_stdin, changed, wrong = "s3cret-by-argument", "s3cret-by-stdin", "s3cret-changed", "s3cret-wrong"
    vhost.add_user("joe", "read", secret=by_argument)
    server.ctl("user", "add", "/test", "ann", "--secret-stdin", "--rights", "read", input=f"{by_stdin}\n")
    server.ctl("user", "set-secret", "/test", "ann", "--secret", changed)
    access_token, unused = vhost.issue_token("tom", ".*"), vhost.issue_token("tim", ".*")
    regenerated = hex_word(server.ctl("vhost", "regenerate-token", "/test"), 40)

    session = vhost.connect()
    session.authenticate("joe", by_argument)
    session.authenticate("ann", changed)
    for request in ({"user": "joe", "secret": wrong}, {"token": wrong}):
        assert session.ask(json.dumps({"authenticate": request})) == BAD_CREDENTIALS
    assert session.ask(json.dumps({"authenticate": {"token": access_token}})) == '{"authenticated":"tom"}'
    # A message that does not even parse may hold a secret too.
    assert session.ask(f'{{"authenticate":{{"user":"joe","secret":"{by_argument}"') == BAD_PAYLOAD
    vhost.close_sessions()
    cookie = server.cookie_file.read_text().strip()
    assert server.stop() == 0

    log = "\n".join(server.log)
    assert len(server.log) > 5, "at trace it tells more than that"
    secrets = [by_argument, by_stdin, changed, wrong, vhost.token, regenerated, access_token, unused, cookie]
    assert not [secret for secret in secrets if secret in log]
    # Secrets of users are stored as hashes only, single access tokens not at all.
    stored = b"".join(file.read_bytes() for file in server.data_dir.rglob("*") if file.is_file())
    assert not [secret for secret in (by_argument, by_stdin, changed, access_token, unused) if secret.encode() in stored]


def test_every_line_of_the_log_is_json(start):
    server = start(log_level="debug")
    Vhost(server, "/test").connect().close()
    assert server.stop() == 0
    for line in server.log:
        assert isinstance(json.loads(line), dict)
