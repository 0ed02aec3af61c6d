"""The load test against a server that it has not started, and what it leaves behind."""

import json
import signal

import pytest

from patience import PATIENCE, eventually
from process import run, start_program
from session import SECRET

SCENARIOS = {
    "fanout": ["--channels", 2, "--subscribers", 5, "--broadcasts", 20],
    "connect": ["--connections", 20, "--warm-up", 5, "--channels", 2],
    "churn": ["--connections", 20, "--channels", 2, "--duration", "1s"],
    "soak": ["--connections", 20, "--channels", 2, "--duration", "1s"],
    "presence": ["--members", 10, "--rate", 20, "--seconds", 1],
    "trigger": ["--triggers", 500, "--rounds", 1, "--light-seconds", 1],
    "request": ["--requests", 500, "--rounds", 1, "--light-seconds", 1],
}


@pytest.fixture
def server(start):
    """One with the vhost /demo, which a test may leave as it likes."""
    return start("--dev")


def loadtest(server, scenario, *more):
    return run("webrocket-loadtest", scenario, "--url", server.websocket_url("/demo"), *SCENARIOS[scenario], *more)


def control(server):
    return ["--control-url", server.control_url, "--cookie-file", server.cookie_file]


def channels(server):
    return server.channels("/demo")


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_server_is_left_as_it_was_found(server, scenario):
    before = channels(server)
    finished = loadtest(server, scenario, *control(server), "--json")
    assert finished.returncode == 0, finished.stderr
    found = json.loads(finished.stdout)
    assert (found["scenario"], found["server"]["shards"]) == (scenario, server.ready["shards"])
    assert channels(server) == before


def test_what_was_open_before_stays_open(server):
    server.ctl("channel", "add", "/demo", "load-0")
    before = channels(server)
    assert loadtest(server, "fanout", *control(server)).returncode == 0
    assert channels(server) == before


def test_a_run_that_fails_leaves_nothing_open(server):
    before = channels(server)
    # There is room for the first channel, and not for the second.
    server.ctl("settings", "set", "/demo", f"channels_max={len(before) + 1}")
    finished = loadtest(server, "fanout", *control(server))
    assert finished.returncode == 1
    assert "could not be opened" in finished.stderr
    assert channels(server) == before


def test_the_server_process_is_measured_where_it_is_named(server):
    finished = loadtest(server, "request", *control(server), "--server-pid", server.pid, "--json")
    assert finished.returncode == 0, finished.stderr
    assert json.loads(finished.stdout)["figures"]["server_cpu_ns_per_request"]["value"] > 0


@pytest.mark.parametrize("scenario", ["presence", "trigger", "request"])
def test_who_does_not_name_the_control_api_is_told_so(server, scenario):
    finished = loadtest(server, scenario)
    assert (finished.returncode, finished.stdout) == (1, "")
    assert "--control-url" in finished.stderr


def test_a_wrong_cookie_is_told_and_not_shown(server, tmp_path):
    wrong = tmp_path / "wrong.cookie"
    wrong.write_text(SECRET)
    finished = loadtest(server, "presence", "--control-url", server.control_url, "--cookie-file", wrong)
    assert finished.returncode == 1
    assert "answers 401" in finished.stderr
    assert SECRET not in finished.stderr


# Being told to stop


def start_churn(*arguments, **environment):
    words = ["churn", *SCENARIOS["churn"][:-1], "60s", *arguments]
    return start_program("webrocket-loadtest", *words, **environment)


def test_ctrl_c_closes_what_was_opened(server):
    before = channels(server)
    churn = start_churn("--url", server.websocket_url("/demo"), *control(server))
    eventually(lambda: "crowd-1" in channels(server), True)
    churn.send_signal(signal.SIGINT)
    _, said = churn.communicate(timeout=PATIENCE)
    # Before that it may say at what.
    assert (churn.returncode, said.endswith("interrupted\n")) == (1, True), said
    assert channels(server) == before


def test_ctrl_c_leaves_nothing_of_a_server_of_its_own(tmp_path):
    churn = start_churn(TMPDIR=str(tmp_path))
    # The cookie is there once the server is.
    eventually(lambda: len(list(tmp_path.glob("*/*.cookie"))), 1)
    churn.send_signal(signal.SIGINT)
    _, said = churn.communicate(timeout=PATIENCE)
    assert churn.returncode == 1
    assert "interrupted" in said
    assert not list(tmp_path.iterdir())
