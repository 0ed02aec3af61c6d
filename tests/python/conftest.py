"""Servers for tests: one of each kind for the whole run where tests cannot disturb each other, fresh ones else."""

import ctypes
import errno
import os

import pytest

from process import Server
from session import Vhost, fresh

SECRET = "53cr37"


def _io_uring_is_allowed():
    """Whether this kernel sets up a ring for us; container runtimes often forbid it."""
    libc = ctypes.CDLL(None, use_errno=True)
    io_uring_setup = 425  # The same number on every architecture.
    parameters = ctypes.create_string_buffer(120)
    descriptor = libc.syscall(io_uring_setup, 4, parameters)
    if descriptor >= 0:
        os.close(descriptor)
        return True
    return ctypes.get_errno() not in (errno.ENOSYS, errno.EPERM, errno.EACCES)


_HOSTS = [
    pytest.param("epoll", id="epoll"),
    pytest.param(
        "uring",
        id="uring",
        marks=pytest.mark.skipif(not _io_uring_is_allowed(), reason="io_uring is forbidden here"),
    ),
]


def _end(server):
    """A server that served tests must end well and have met no fault of its own."""
    code = server.stop()
    assert code == 0, f"exit code {code}:\n" + "\n".join(server.log[-20:])
    assert not [line for line in server.log if "panicked" in line]


@pytest.fixture(scope="session", params=_HOSTS)
def io(request):
    """Both ways in which a shard may wait for its sockets."""
    return request.param


@pytest.fixture(scope="session", params=[1, 2, 4], ids="{}-shards".format)
def spread_server(request, io, tmp_path_factory):
    """One server for each way to wait and each number of shards."""
    server = Server(tmp_path_factory.mktemp("spread"), shards=request.param, io=io).start()
    assert (server.ready["shards"], server.ready["io"]) == (request.param, io)
    yield server
    try:
        _end(server)
    finally:
        server.clean_up()


@pytest.fixture(scope="session")
def furnished_vhost(spread_server):
    """A vhost with a user for each right, and joe who has all of them and a secret."""
    vhost = Vhost(spread_server, "/lobby")
    vhost.add_user("reader", "read")
    vhost.add_user("writer", "write")
    vhost.add_user("guest", "read,write")
    vhost.add_user("manager", "read,write,manage")
    vhost.add_user("joe", "read,write,manage", secret=SECRET)
    return vhost


@pytest.fixture
def lobby(furnished_vhost):
    """The furnished vhost; the test's sessions end with the test."""
    yield furnished_vhost
    furnished_vhost.close_sessions()


@pytest.fixture(scope="session")
def plain_server(io, tmp_path_factory):
    """One server of two shards for each way to wait."""
    server = Server(tmp_path_factory.mktemp("plain"), shards=2, io=io).start()
    yield server
    try:
        _end(server)
    finally:
        server.clean_up()


@pytest.fixture
def make_vhost(plain_server):
    """Makes vhosts of the plain server, with settings of the test's own and guest, who reads and writes."""
    made = []

    def make(*settings):
        vhost = Vhost(plain_server, f"/{fresh('v')}", *settings)
        vhost.add_user("guest", "read,write")
        made.append(vhost)
        return vhost

    yield make
    for vhost in made:
        vhost.close_sessions()
        plain_server.ctl("vhost", "remove", vhost.path)


@pytest.fixture
def start(tmp_path):
    """Starts servers of the test's own, on the test's own data directory unless it names another."""
    started = []

    def start_one(*arguments, data_dir=None, **options):
        server = Server(data_dir or tmp_path / "data", *arguments, **options)
        started.append(server)
        return server.start()

    yield start_one
    for server in started:
        server.clean_up()
    assert not [line for server in started for line in server.log if "panicked" in line]
