"""CURVE over ZeroMQ: keys of vhosts, who is let in by them, and what taking one away does.

What needs a server that speaks CURVE is skipped where this build cannot (docs/protocol.md, "CURVE").
"""

import json

import pytest
import zmq

from exchange import Client, Requester, Stream, Worker, error, is_let_in, place, streams_subscribe
from metrics import metric
from patience import eventually
from process import CommandFailed, Server, run, serving
from session import Vhost, fresh
from zmtp import RawPeer, greeting

OPTION = "--exchange-curve-secret-key-file"
NO_CURVE = "this build cannot do CURVE"


def new_key():
    """A backend's key pair, as options of its socket."""
    public, secret = zmq.curve_keypair()
    return {"curve_publickey": public, "curve_secretkey": secret}


def public(key):
    return key["curve_publickey"].decode()


# Keys, in every build


def test_keys_come_and_go(start):
    server = start()
    moon, sun = Vhost(server, "/moon"), Vhost(server, "/sun")
    keys = sorted(public(new_key()) for _ in range(3))
    for key in keys:
        assert server.ctl("key", "add", moon.path, key) == ""
    assert sorted(entry["key"] for entry in server.ctl_json("key", "list", moon.path)["keys"]) == keys
    assert sorted(server.ctl("key", "list", moon.path).split()) == sorted(["KEY", *keys])
    for vhost, wrong in ((moon, keys[0]), (sun, keys[0])):
        with pytest.raises(CommandFailed) as failed:
            server.ctl("key", "add", vhost.path, wrong)
        assert failed.value.returncode == 1 and wrong in failed.value.stderr
    server.kill9()
    server.restart()
    server.ctl("key", "remove", moon.path, keys[0])
    assert server.ctl("key", "delete", moon.path, keys[1]) == ""
    assert server.ctl_json("key", "list", moon.path) == {"keys": [{"key": keys[2]}]}
    with pytest.raises(CommandFailed):
        server.ctl("key", "remove", moon.path, keys[0])
    server.ctl("key", "add", sun.path, keys[0])
    server.ctl("vhost", "remove", moon.path)
    server.ctl("key", "add", sun.path, keys[2])
    assert server.stop() == 0


def test_without_curve_the_server_does_not_start(tmp_path):
    made = run("webrocket-ctl", "key", "pair", tmp_path / "key")
    if made.returncode == 0:
        pytest.skip("this build speaks CURVE")
    assert not (tmp_path / "key").exists()
    (tmp_path / "key").write_text(new_key()["curve_secretkey"].decode())
    server = Server(tmp_path / "data", OPTION, tmp_path / "key")
    ended = run("webrocket-server", *server.arguments)
    for finished in (made, ended):
        assert finished.returncode == 1 and not finished.stdout
        assert NO_CURVE in finished.stderr and "libzmq3-dev" in finished.stderr


# With a key pair


@pytest.fixture(scope="module")
def key_pair(tmp_path_factory):
    """The file with a server's secret key, and the public one; skips where there are none."""
    file = tmp_path_factory.mktemp("key") / "exchange.key"
    made = run("webrocket-ctl", "--json", "key", "pair", file)
    if NO_CURVE in made.stderr:
        pytest.skip(made.stderr.strip())
    return file, json.loads(made.stdout)["public_key"]


@pytest.fixture(scope="module")
def server(key_pair, tmp_path_factory):
    file, public_key = key_pair
    with serving(tmp_path_factory.mktemp("curve"), OPTION, file, log_level="trace") as made:
        assert made.ctl_json("node", "show")["curve_public_key"] == public_key
        made.key = {"curve_serverkey": public_key.encode()}
        yield made
    log = "\n".join(made.log)
    assert public_key in log and file.read_text().strip() not in log


@pytest.fixture
def vhost(vhost):
    """A vhost of the test's own with one key."""
    vhost.key = add_key(vhost)
    return vhost


@pytest.fixture(params=["exchange", "stream"])
def entrance(request, server):
    """A kind of socket, and where it connects."""
    return (zmq.DEALER, server.exchange_url) if request.param == "exchange" else (zmq.SUB, server.stream_url)


def add_key(vhost):
    """Gives the vhost a new key; the options of a socket that has it."""
    key = new_key()
    vhost.server.ctl("key", "add", vhost.path, public(key))
    return {**vhost.server.key, **key}


def test_a_secret_key_file_is_closed_and_not_written_twice(key_pair, tmp_path):
    file, _ = key_pair
    assert file.stat().st_mode & 0o777 == 0o600
    again = run("webrocket-ctl", "key", "pair", file)
    assert again.returncode == 1 and str(file) in again.stderr
    opened = tmp_path / "open.key"
    opened.write_text(file.read_text())
    opened.chmod(0o644)
    ended = run("webrocket-server", *Server(tmp_path / "data", OPTION, opened).arguments)
    assert ended.returncode == 1 and "mode 644" in ended.stderr and file.read_text().strip() not in ended.stderr


def test_a_key_of_the_vhost_is_let_in(server, vhost, entrance):
    accepted = metric(server, "zap_accepted_total")
    assert is_let_in(*entrance, **vhost.key)
    eventually(lambda: metric(server, "zap_accepted_total"), accepted + 1)


def test_other_keys_are_refused(server, vhost, entrance):
    refused = metric(server, "zap_refused_total")
    assert not is_let_in(*entrance, **server.key, **new_key())
    eventually(lambda: metric(server, "zap_refused_total"), refused + 1)
    # Who takes another one for the server, or has not the secret half, does not come so far that anybody is asked.
    assert not is_let_in(*entrance, **{**vhost.key, "curve_serverkey": new_key()["curve_publickey"]})
    assert not is_let_in(*entrance, **{**vhost.key, "curve_secretkey": new_key()["curve_secretkey"]})
    eventually(lambda: metric(server, "zap_refused_total"), refused + 1)


def test_nothing_but_curve_is_spoken(vhost, entrance):
    assert not is_let_in(*entrance, plain_username=vhost.path.encode(), plain_password=vhost.token.encode())
    assert not is_let_in(*entrance)
    for mechanism in (b"PLAIN", b"NULL"):
        with RawPeer(entrance[1]) as peer:
            peer.send(greeting(mechanism))
            assert peer.ended()


def test_backends_work_as_they_do_in_the_clear(server, vhost):
    with Worker(vhost, **vhost.key) as worker, Requester(vhost, **vhost.key) as client:
        with Stream(vhost, f"{vhost.path}:", "", **vhost.key) as stream:
            streams_subscribe(server, 1)
            worker.ready("job.*", 5)
            assert client.ask("OC", "news") == [b"OK"]
            assert client.ask("BC", "news", "hello", '{"a":1}') == [b"OK"]
            assert client.ask("BC", "nowhere", "hello", "1") == error(454)
            browser = vhost.connect()
            place(browser, "job", "job.next")
            assert worker.events(2) == ["job", "job.next"]
            assert [stream.hear_topic() for _ in range(2)] == [f"{vhost.path}:job", f"{vhost.path}:job.next"]
    streams_subscribe(server, 0)


def test_a_key_says_which_vhost_a_backend_is_of(server, vhost):
    with Vhost(server, f"/{fresh('v')}", "anonymous=read,write") as other:
        key = add_key(other)
        with Client(vhost, **key) as client, Stream(vhost, f"{vhost.path}:", f"{other.path}:", **key) as spy:
            client.open("theirs")
            streams_subscribe(server, 1)
            with Worker(vhost, **vhost.key) as worker:
                worker.ready()
                place(vhost.connect(), "mine")
                assert worker.events(1) == ["mine"]
            place(other.connect(), "theirs")
            assert spy.hear_topic() == f"{other.path}:theirs", "and nothing before it"
        assert server.channels(other.path) == ["theirs"]
        assert server.channels(vhost.path) == []


def test_a_key_that_is_taken_away_cuts_off(server, vhost):
    worker, client = Worker(vhost, **vhost.key), Requester(vhost, **vhost.key)
    with worker, client, Stream(vhost, f"{vhost.path}:", **vhost.key) as stream:
        worker.ready("", 2)
        streams_subscribe(server, 1)
        browser = vhost.connect()
        place(browser, "before")
        assert worker.trigger()[1] and stream.hear_topic() == f"{vhost.path}:before"
        further = add_key(vhost)
        worker.hears_nothing()

        with stream.is_cut_off():
            server.ctl("key", "remove", vhost.path, public(vhost.key))
        assert worker.hear() == [b"QT"]
        assert client.ask("OC", "a") == error(402)
        for kind, url in ((zmq.DEALER, server.exchange_url), (zmq.SUB, server.stream_url)):
            assert not is_let_in(kind, url, **vhost.key)
            assert is_let_in(kind, url, **further)
        with Worker(vhost, **further) as heir:
            heir.join("", "5")
            assert heir.events(1) == ["before"], "what the one with the old key had"
            place(browser, "after")
            assert heir.events(1) == ["after"]
        assert not stream.has_heard()


def test_bounds_are_of_what_is_said_and_not_of_its_boxes(key_pair, start):
    bounds = ("--exchange-message-bytes-max", 1024, "--exchange-unread-bytes-max", 2048)
    server = start(OPTION, key_pair[0], *bounds)
    server.key = {"curve_serverkey": key_pair[1].encode()}
    vhost = Vhost(server, "/moon")
    key = add_key(vhost)
    with Worker(vhost, **key) as worker:
        worker.ready()
        # The frames are short and the boxes are not; a heartbeat a second comes, and so does a look at what is unread.
        for _ in range(3):
            for _ in range(200):
                assert worker.ask("CC", "-") == error(454)
            worker.hears_heartbeats(1)
        worker.hears_nothing()
        assert worker.ask("x" * 1024) == error(400), "as long as a frame may be"
        eventually(lambda: metric(server, "peers_cut_total"), 0)
        assert server.ctl_json("queue", "show", vhost.path)["workers"] == 1, "the same connection all the time"
        worker.say("x" * 1025)
        eventually(lambda: server.ctl_json("queue", "show", vhost.path)["workers"], 0)
    assert server.stop() == 0
