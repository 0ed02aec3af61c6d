"""Vhosts, clients and workers for the tests of this package; servers and browsers are those of tests/python.

From the root of the repository: `pytest -c tests/python/pytest.ini --rootdir . clients/kosmonaut-python/tests`.
"""

import pathlib
import sys

_ROOT = pathlib.Path(__file__).resolve().parents[3]
sys.path[:0] = [str(_ROOT / "tests" / "python"), str(_ROOT / "clients" / "kosmonaut-python" / "src")]

import pytest

from crew import Backed, Crew
from kosmonaut import Client
from session import fresh


def pytest_configure(config):
    config.pluginmanager.import_plugin("servers")


@pytest.fixture(scope="session")
def server(shared_server):
    return shared_server(2)


@pytest.fixture
def own_server(start):
    """A server that the test may stop, freeze and kill. It comes back at the same addresses."""
    return start().keep_addresses()


@pytest.fixture
def vhost(server):
    with Backed(server, f"/{fresh('k')}") as made:
        yield made


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
