"""Servers, vhosts, clients and workers for the tests of this package; processes and browsers come from tests/python."""

import pathlib
import sys

_ROOT = pathlib.Path(__file__).resolve().parents[3]
sys.path[:0] = [str(_ROOT / "tests" / "python"), str(_ROOT / "clients" / "kosmonaut-python" / "src")]

import pytest

from crew import Crew
from kosmonaut import Client
from process import Server
from session import Vhost, fresh
from wwfp import Wwfp

PORTS = {"zmq": "exchange", "http": "websocket"}


class Backed(Vhost):
    """A vhost with `ann`, who reads and writes, and the URLs of its backends."""

    def __init__(self, server, path):
        super().__init__(server, path)
        self.add_user("ann", "read,write")

    def url(self, transport, token=None):
        address = self.server.ready[PORTS[transport]]
        return f"wr://{token or self.token}@{address}{self.path}"

    def browser(self, user="ann"):
        return self.connect(user, dialect=Wwfp)


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    made = Server(tmp_path_factory.mktemp("kosmonaut")).start()
    yield made
    assert made.stop() == 0
    assert not [line for line in made.log if "panicked" in line]


@pytest.fixture
def own_server(tmp_path):
    """A server that the test may stop, freeze and kill. It comes back at the same addresses."""
    made = Server(tmp_path / "data").start()
    for port in ("websocket", "control", "exchange"):
        made.arguments[made.arguments.index(f"--{port}-addr") + 1] = made.ready[port]
    yield made
    made.clean_up()
    assert not [line for line in made.log if "panicked" in line]


@pytest.fixture
def vhost(server):
    made = Backed(server, f"/{fresh('k')}")
    yield made
    made.close_sessions()
    server.ctl("vhost", "remove", made.path)


@pytest.fixture
def own_vhost(own_server):
    made = Backed(own_server, "/world")
    yield made
    made.close_sessions()


@pytest.fixture(params=["zmq", "http"])
def transport(request):
    return request.param


@pytest.fixture
def client(vhost, transport):
    with Client(vhost.url(transport), transport=transport) as made:
        yield made


@pytest.fixture
def crew(vhost):
    made = Crew(vhost)
    yield made
    made.dismiss()


@pytest.fixture
def own_crew(own_vhost):
    made = Crew(own_vhost)
    yield made
    made.dismiss()
