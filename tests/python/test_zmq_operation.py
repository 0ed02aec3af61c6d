"""A server with backends over ZeroMQ that starts, stops, is killed, and comes back."""

import contextlib
import os
import pathlib
import re
import signal
import socket

import pytest

from exchange import Client, Requester, Stream, Worker, error, eventually, figure, place
from process import PATIENCE, run
from session import Vhost, fresh

ADDRESSES = ("websocket", "control", "exchange", "streams")


def hears_until_ready(worker):
    """Beats until the server does not know the worker, as it is after a restart, and says ready then."""
    worker.socket.rcvtimeo = 200
    for _ in range(int(PATIENCE / 0.2)):
        worker.say("HB")
        with contextlib.suppress(OSError):
            if worker.hear() == [b"QT"]:
                break
    else:
        raise AssertionError("the server did not come back")
    worker.socket.rcvtimeo = int(PATIENCE * 1000)


@pytest.mark.parametrize("ends", ["asked", "killed"])
def test_backends_come_back_with_the_server(start, ends):
    server = start()
    vhost = Vhost(server, "/moon", "anonymous=read,write")
    worker, client = Worker(vhost).ready("", 5), Requester(vhost)
    assert client.ask("OC", "a") == [b"OK"]
    stream = Stream(vhost, "/moon:")
    ports = [word for name in ("exchange", "stream") for word in (f"--{name}-addr", server.ready[name.replace("stream", "streams")])]
    if ends == "asked":
        assert server.stop() == 0
        assert worker.hear() == [b"QT"]
    else:
        server.kill9()

    again = start(*ports)
    vhost.server = again
    hears_until_ready(worker)
    worker.say("RD", "", "5")
    browser = vhost.connect()
    assert client.ask("BC", "a", "e", "{}") == [b"OK"], "the channel was opened for good"
    assert client.ask("OC", "b") == [b"OK"]
    # Said before it was answered, so the worker is ready by now.
    worker.say("CC", "-")
    assert worker.hear() == error(454)
    # libzmq subscribes again in the thread that uses the socket.
    eventually(lambda: (stream.socket.poll(0), figure(again, "streams")), (0, 1))
    place(browser, "after")
    assert worker.events(1) == ["after"]
    assert stream.hear_topic() == "/moon:after"
    vhost.close_sessions()
    worker.close()
    client.close()
    stream.__exit__()
    assert again.stop() == 0


def test_workers_are_told_to_go(start):
    server = start()
    vhost = Vhost(server, "/moon", "anonymous=read,write")
    crew = [Worker(vhost).ready("", 1) for _ in range(20)]
    idle, client = Worker(vhost), Client(vhost)
    client.open("a")
    place(vhost.connect(), *["a"] * 30)
    assert server.stop() == 0
    for worker in crew:
        heard = [worker.hear()]
        while heard[-1] != [b"QT"]:
            heard.append(worker.hear())
        assert [command for command, *_ in heard] == [b"TR", b"QT"]
        worker.close()
    assert not client.socket.poll(0) and not idle.socket.poll(0)
    client.close()
    idle.close()


def test_a_peer_that_reads_nothing_does_not_hold_the_stop_up(start):
    server = start()
    vhost = Vhost(server, "/moon", "anonymous=read,write")
    browser = vhost.connect()
    stuck = Worker(vhost, rcvhwm=1, rcvbuf=4096).ready()
    for _ in range(20):
        place(browser, *["a"] * 50, data={"text": "x" * 10_000})
        stuck.say("HB")
    assert server.stop() == 0
    stuck.close()


@pytest.mark.parametrize("option", ["--exchange-addr", "--stream-addr"])
def test_an_address_in_use_is_named(tmp_path, option):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = "127.0.0.1:{}".format(taken.getsockname()[1])
        free = [word for name in ("websocket", "control", "exchange", "stream") for word in (f"--{name}-addr", "127.0.0.1:0")]
        position = free.index(option) + 1
        free[position] = address
        finished = run("webrocket-server", *free, "--data-dir", tmp_path / "data")
    assert finished.returncode == 1
    assert address in finished.stderr and "in use" in finished.stderr and option in finished.stderr


def test_the_server_says_where_it_listens(start):
    server = start()
    for name in ADDRESSES:
        assert re.fullmatch(r"127\.0\.0\.1:[1-9]\d*", server.ready[name]), name
    six = start("--exchange-addr", "[::1]:0", "--stream-addr", "[::1]:0", data_dir=server.data_dir.with_name("six"))
    vhost = Vhost(six, "/moon")
    with Client(vhost, ipv6=1) as client:
        client.open("a")
    assert six.stop() == 0


def test_an_idle_exchange_sleeps(start):
    server = start()
    vhost = Vhost(server, f"/{fresh('v')}", "anonymous=read,write")
    with Worker(vhost) as worker:
        worker.ready()
        before = _switches(server)
        for _ in range(3):
            # One a second: what else woke the exchange would be counted here.
            assert worker.socket.recv_multipart() == [b"", b"HB"]
            worker.say("HB")
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
