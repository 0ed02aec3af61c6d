"""A server with backends over ZeroMQ that starts, stops, is killed, and comes back."""

import contextlib
import os
import pathlib
import re
import signal
import socket

import pytest

from exchange import Client, Requester, Stream, Worker, error, place
from metrics import metric
from patience import eventually
from process import Server, run
from session import Vhost

ADDRESSES = ("websocket", "control", "exchange", "streams")


@pytest.mark.parametrize("ends", ["asked", "killed"])
def test_backends_come_back_with_the_server(start, ends):
    server = start().keep_addresses()
    vhost = Vhost(server, "/moon", "anonymous=read,write")
    worker, client, stream = Worker(vhost), Requester(vhost), Stream(vhost, "/moon:")
    with worker, client, stream:
        worker.ready("", 5)
        assert client.ask("OC", "a") == [b"OK"]
        if ends == "asked":
            assert server.stop() == 0
            assert worker.hear() == [b"QT"]
            worker.say("HB")
        else:
            server.kill9()

        server.restart()
        # It does not know the worker, which beats.
        assert worker.hear() == [b"QT"]
        worker.join("", "5")
        browser = vhost.connect()
        assert client.ask("BC", "a", "e", "{}") == [b"OK"], "the channel was opened for good"
        assert client.ask("OC", "b") == [b"OK"]
        # Said before it was answered, so the worker is ready by then.
        worker.say("CC", "-")
        while (heard := worker.hear()) == [b"QT"]:
            pass  # More than one beat had waited for the server.
        assert heard == error(454)
        worker.revive()
        # libzmq subscribes again in the thread that uses the socket.
        eventually(lambda: (stream.has_heard(), metric(server, "streams")), (False, 1))
        place(browser, "after")
        assert worker.events(1) == ["after"]
        assert stream.hear_topic() == "/moon:after"
        vhost.close_sessions()
    server.end_well()


def test_workers_are_told_to_go(start):
    server = start()
    vhost = Vhost(server, "/moon", "anonymous=read,write")
    with contextlib.ExitStack() as opened:
        crew = [opened.enter_context(Worker(vhost)).ready("", 1) for _ in range(20)]
        idle, client = opened.enter_context(Worker(vhost)), opened.enter_context(Client(vhost))
        for peer in (idle, client):
            assert peer.ask("CC", "-") == error(454)
        place(vhost.connect(), *["a"] * 30)
        with idle.is_cut_off(), client.is_cut_off():
            assert server.stop() == 0
        for worker in crew:
            command, *_ = worker.hear()
            assert (command, worker.hear()) == (b"TR", [b"QT"])
        assert not client.has_heard() and not idle.has_heard()


def test_a_peer_that_reads_nothing_does_not_hold_the_stop_up(start):
    server = start()
    vhost = Vhost(server, "/moon", "anonymous=read,write")
    browser = vhost.connect()
    with Worker(vhost, rcvhwm=1, rcvbuf=4096) as stuck:
        stuck.ready()
        for _ in range(20):
            place(browser, *["a"] * 50, data={"text": "x" * 10_000})
        assert server.stop() == 0


@pytest.mark.parametrize("option", ["--exchange-addr", "--stream-addr"])
def test_an_address_in_use_is_named(tmp_path, option):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = "127.0.0.1:{}".format(taken.getsockname()[1])
        finished = run("webrocket-server", *Server(tmp_path / "data", option, address).arguments)
    assert finished.returncode == 1
    assert address in finished.stderr and "in use" in finished.stderr and option in finished.stderr


def test_the_server_says_where_it_listens(start):
    server = start()
    for name in ADDRESSES:
        assert re.fullmatch(r"127\.\d+\.\d+\.\d+:[1-9]\d*", server.ready[name]), name
    six = start("--exchange-addr", "[::1]:0", "--stream-addr", "[::1]:0", data_dir=server.data_dir.with_name("six"))
    vhost = Vhost(six, "/moon")
    with Client(vhost, ipv6=1) as client:
        client.open("a")
    assert six.stop() == 0


def test_an_idle_exchange_sleeps(start):
    server = start()
    vhost = Vhost(server, "/moon", "anonymous=read,write")
    with Worker(vhost) as worker:
        worker.ready()
        before = _switches(server)
        # One a second: what else woke the exchange would be counted here.
        worker.hears_heartbeats(3)
        assert _switches(server) - before < 200


def _switches(server):
    """How often the exchange's thread has gone to sleep."""
    for task in pathlib.Path(f"/proc/{server.pid}/task").iterdir():
        if (task / "comm").read_text().strip() == "exchange":
            return int(re.search(r"^voluntary_ctxt_switches:\s+(\d+)", (task / "status").read_text(), re.M)[1])
    raise AssertionError("no thread is called exchange")


def test_a_signal_does_not_disturb_it(start):
    server = start()
    vhost = Vhost(server, "/moon")
    with Client(vhost) as client:
        client.open("a")
        os.kill(server.pid, signal.SIGWINCH)
        os.kill(server.pid, signal.SIGCONT)
        assert client.ask("CC", "a") == [b"OK"]
