"""Servers, vhosts and sessions for tests: a plugin that every folder of tests loads, so that there is one of each.

Tests that cannot disturb each other share servers, which live for the whole run; others start their own.
"""

import contextlib
import ctypes
import errno
import os

import pytest

from backend import Backend
from exchange import Client
from process import Server, serving
from session import SECRET, Vhost, fresh


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


HAS_URING = _io_uring_is_allowed()
_WITH_URING = pytest.mark.skipif(not HAS_URING, reason="io_uring is forbidden here")


# Servers


@pytest.fixture(scope="session")
def shared_server(tmp_path_factory):
    """Gives the server with so many shards and this way to wait for sockets. Each of its tests has a vhost of its own."""
    with contextlib.ExitStack() as running:
        started = {}

        def get(shards, io="uring" if HAS_URING else "epoll"):
            if (shards, io) not in started:
                made = running.enter_context(serving(tmp_path_factory.mktemp("server"), shards=shards, io=io))
                assert (made.ready["shards"], made.ready["io"]) == (shards, io)
                started[shards, io] = made
            return started[shards, io]

        yield get


@pytest.fixture(scope="session", params=["epoll", pytest.param("uring", marks=_WITH_URING)])
def io(request):
    """Both ways in which a shard may wait for its sockets."""
    return request.param


@pytest.fixture(scope="session", params=[1, 2, 4], ids="{}-shards".format)
def spread_server(request, io, shared_server):
    """One server for each way to wait and each number of shards."""
    return shared_server(request.param, io)


@pytest.fixture(scope="session")
def plain_server(io, shared_server):
    """One server of two shards for each way to wait."""
    return shared_server(2, io)


@pytest.fixture(scope="session", params=[1, 4], ids="{}-shards".format)
def server(request, shared_server):
    """For backends, to which it makes no difference how shards wait: a single shard, and several."""
    return shared_server(request.param)


@pytest.fixture
def start(tmp_path):
    """Starts servers of the test's own, on the test's own data directory unless it names another."""
    started = []

    def start_one(*arguments, data_dir=None, **options):
        made = Server(data_dir or tmp_path / "data", *arguments, **options)
        started.append(made)
        return made.start()

    yield start_one
    for made in started:
        made.clean_up()
    for made in started:
        made.check()


# Vhosts


@pytest.fixture
def make_vhost(plain_server):
    """Makes vhosts of the plain server, with settings of the test's own and guest, who reads and writes."""
    with contextlib.ExitStack() as made:

        def make(*settings):
            vhost = made.enter_context(Vhost(plain_server, f"/{fresh('v')}", *settings))
            vhost.add_user("guest", "read,write")
            return vhost

        yield make


@pytest.fixture(scope="session")
def furnished_vhost(spread_server):
    """A vhost with a user for each right, and joe who has all of them and a secret."""
    vhost = Vhost(spread_server, f"/{fresh('lobby')}")
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


@pytest.fixture
def vhost(server):
    """A vhost for backends, three segments deep, where anonymous sessions may read and write."""
    with Vhost(server, f"/{fresh('v')}/channel/s", "anonymous=read,write") as made:
        yield made


# Who speaks to them


@pytest.fixture
def browser(vhost):
    """A session that places triggers."""
    return vhost.connect()


@pytest.fixture
def client(vhost):
    """A client over ZeroMQ."""
    with Client(vhost) as made:
        yield made


@pytest.fixture
def backend(vhost):
    """A backend over HTTP."""
    with Backend(vhost) as made:
        yield made
