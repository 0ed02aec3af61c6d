"""The Worker against a real server: who handles what, what happens when handlers, workers and servers fail."""

import os
import pathlib
import queue
import signal
import subprocess
import sys
import threading

import pytest

from crew import numbers
from exchange import Worker as PlainWorker
from kosmonaut import RequestError, Worker
from kosmonaut.link import log
from patience import PATIENCE
from wwfp import delivery, ok, request

_SOURCES = pathlib.Path(__file__).resolve().parents[1] / "src"


# What is handled


def test_a_trigger_says_who_sent_what(crew, transport):
    hand = crew.hire(transport=transport)
    ann = crew.browser()
    assert crew.trigger(data='{"item":"fuel","litres":4.5,"to":["é\\n"],"sid":"forged"}')
    heard = hand.hear()
    assert (heard.event, heard.data) == ("job", {"item": "fuel", "litres": 4.5, "to": ["é\n"]})
    assert (heard.sid, heard.uid, heard.channel) == (ann.sid, "ann", None)
    assert crew.trigger(data="[1]")
    assert hand.hear().data == {"data": [1]}
    assert crew.trigger()
    assert hand.hear().data == {}


def test_a_broadcast_may_carry_a_trigger(crew, vhost, transport):
    hand = crew.hire(transport=transport)
    vhost.server.ctl("channel", "add", vhost.path, "hall")
    ann = crew.browser()
    ann.subscribe("hall")
    ann.say(request("broadcast", channel='"hall"', event='"said"', data='{"n":1}', trigger='"job"', ref="1"))
    assert {ann.hear(), ann.hear()} == {ok(204, ref=1), delivery("said", "hall", ann.sid, '"n":1')}
    heard = hand.hear()
    assert (heard.data, heard.channel, heard.sid) == ({"n": 1}, "hall", ann.sid)


def test_each_event_has_its_handler(crew, transport):
    hand = crew.hire(events="job|order|other", transport=transport)
    orders, jobs = [], []

    @hand.worker.on("order")
    def order(trigger):
        orders.append(trigger.data["n"])

    assert hand.worker.on("job", jobs.append) is not None and order is not None
    for event in ("order", "job", "other"):
        assert crew.trigger(event, '{"n":1}')
    assert hand.hear().event == "other"
    assert (orders, [job.event for job in jobs]) == ([1], ["job"])


def test_an_event_without_a_handler_counts_as_handled(crew, transport, caplog):
    hand = crew.hire(transport=transport, events="job|other")
    otherwise = hand.worker._fallback
    hand.worker._fallback = None
    assert crew.trigger("other")
    crew.await_ready(hand)  # By what is handled after it.
    hand.worker._fallback = otherwise
    assert "no handler for the event 'other'" in caplog.text


def test_triggers_of_one_browser_come_in_order(crew, transport):
    hand = crew.hire(transport=transport)
    crew.place(*range(300))
    assert numbers(hand, 300) == list(range(300))


def test_a_filter_keeps_the_rest_away(crew, transport):
    orders, jobs = crew.hire(events="order-[0-9]+", transport=transport), crew.hire(transport=transport)
    assert not crew.trigger("order-x") and not crew.trigger("a-job")
    assert crew.trigger("order-12") and crew.trigger("job")
    assert (orders.hear().event, jobs.hear().event) == ("order-12", "job")


@pytest.mark.parametrize("transports", [("zmq", "zmq"), ("http", "http"), ("zmq", "http")], ids="-".join)
def test_workers_share_the_work(crew, transports):
    """Nobody goes on before both have begun; each trigger is handled once."""
    begun, done = [threading.Event(), threading.Event()], queue.SimpleQueue()

    def work(own, trigger):
        begun[own].set()
        assert all(event.wait(PATIENCE) for event in begun)
        done.put(trigger.data["n"])

    for own, transport in enumerate(transports):
        crew.hire(lambda trigger, own=own: work(own, trigger), transport=transport)
    crew.place(*range(20))
    assert sorted(done.get(timeout=PATIENCE) for _ in range(20)) == list(range(20))


@pytest.mark.parametrize("window", [1, 1000, None])
def test_windows(crew, window):
    hand = crew.hire(window=window)
    crew.place(*range(200))
    assert numbers(hand, 200) == list(range(200))


# Handlers that fail or take long


def test_what_a_handler_failed_at_goes_to_another_worker(crew, caplog):
    failed = []

    def fail(trigger):
        failed.append(trigger.data["n"])
        raise ValueError("spilled")

    good = crew.hire()
    crew.hire(fail)
    crew.place(*range(10))
    assert sorted(numbers(good, 10)) == list(range(10))
    assert failed and "spilled" in caplog.text


def test_a_handler_that_fails_does_not_end_the_worker(crew, transport, caplog):
    def fail(trigger):
        if trigger.data.get("n") == 1:
            raise ValueError("spilled")

    hand = crew.hire(fail, transport=transport)
    crew.place(1, 2)
    assert numbers(hand, 1) == [2]
    assert "the handler of the event 'job' failed" in caplog.text


def test_a_long_handler_does_not_make_its_worker_look_dead(crew, transport):
    """It works for longer than the silence after which a peer is dead: another one falls silent after it, and dies."""
    seen, begun, is_over = [], threading.Event(), threading.Event()

    def work(trigger):
        seen.append(trigger.data["n"])
        begun.set()
        assert is_over.wait(PATIENCE)

    busy = crew.hire(work, window=1, transport=transport)
    crew.place(1)
    assert begun.wait(PATIENCE)
    idle = crew.hire(transport=transport)
    with PlainWorker(crew.vhost) as silent:
        silent.ready("silence")
        silent.fall_silent()
        assert silent.hear() == [b"QT"]
    is_over.set()
    assert numbers(busy, 1) == [1]
    idle.stop()
    assert idle.handled.empty(), "what the busy one had was given to it"
    crew.place(2)
    assert numbers(busy, 1) == [2]
    assert seen == [1, 2]


# The end of a worker


def test_stopping_finishes_what_was_begun_and_gives_back_the_rest(crew):
    begun, go_on = threading.Event(), threading.Event()

    def wait(trigger):
        begun.set()
        assert go_on.wait(PATIENCE)

    first = crew.hire(wait)
    crew.place(*range(10))
    assert begun.wait(PATIENCE)
    first.worker.stop()
    second = crew.hire()
    go_on.set()
    assert first.join() is None
    assert numbers(first, 1) == [0] and first.handled.empty()
    assert numbers(second, 9) == list(range(1, 10))
    crew.place(10)
    assert numbers(second, 1) == [10]  # And nothing twice.


@pytest.mark.parametrize("options", [{"window": None}, {"transport": "http"}], ids=["zmq", "http"])
def test_what_nobody_acknowledges_is_handled_before_the_end(crew, options):
    begun, go_on = threading.Event(), threading.Event()

    def wait(trigger):
        begun.set()
        assert go_on.wait(PATIENCE)

    hand = crew.hire(wait, **options)
    crew.place(0)
    assert begun.wait(PATIENCE)
    hand.worker.stop()
    go_on.set()
    assert hand.join() is None
    assert numbers(hand, 1) == [0]


def test_a_worker_that_is_stopped_first_returns_at_once(vhost, transport):
    worker = Worker(vhost.url(transport), transport=transport)
    worker.stop()
    worker.run()


PROGRAM = """
import signal, sys, threading
from kosmonaut import Worker
worker = Worker(sys.argv[1], "ready|job", transport=sys.argv[2])
told = threading.Event()
def stop(*_):
    worker.stop()
    told.set()
signal.signal(signal.SIGTERM, stop)
@worker.on("ready")
def ready(trigger):
    print("ready", flush=True)
@worker.otherwise
def job(trigger):
    print(trigger.event, trigger.data["n"], flush=True)
    told.wait()
worker.run()
print("ended", flush=True)
"""


@pytest.fixture
def program(crew, vhost):
    """A worker process that is ready; its lines can be read."""
    started = []

    def start(transport="zmq"):
        process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, vhost.url(transport), transport],
            env={**os.environ, "PYTHONPATH": str(_SOURCES)},
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        crew.trigger_until_placed("ready")
        assert process.stdout.readline() == "ready\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()
        process.stdout.close()


def test_a_signal_may_stop_a_worker(program, crew, transport):
    process = program(transport)
    crew.place(1)
    assert process.stdout.readline() == "job 1\n"
    process.send_signal(signal.SIGTERM)
    assert process.stdout.readline() == "ended\n"
    assert process.wait(PATIENCE) == 0


def test_what_a_killed_process_had_goes_to_another_worker(program, crew):
    process = program()
    assert all(crew.trigger("job", f'{{"n":{number}}}') for number in range(20))
    assert process.stdout.readline() == "job 0\n"
    heir = crew.hire()
    process.kill()
    assert numbers(heir, 20) == list(range(20))


# Refusals


def refused(code, url, **options):
    with pytest.raises(RequestError) as caught:
        Worker(url, **options).run()
    assert caught.value.code == code, caught.value


def test_a_worker_that_is_refused_says_why(vhost, transport):
    refused(402, vhost.url(transport, token="0" * 40), transport=transport)
    unknown = vhost.url(transport).replace(vhost.path, "/nowhere")
    refused({"zmq": 402, "http": 404}[transport], unknown, transport=transport)
    refused(400, vhost.url(transport), filter="(", transport=transport)


def test_a_regenerated_token_ends_a_worker(crew, vhost, transport):
    hand = crew.hire(transport=transport)
    vhost.server.ctl("vhost", "regenerate-token", vhost.path)
    assert hand.join().code == 402
    hand.error = None


@pytest.mark.parametrize("window", [0, -1, 1001])
def test_a_window_is_bounded(window):
    with pytest.raises(ValueError):
        Worker("wr://t@h/v", window=window)


# Servers that go and come


def test_a_restarted_server_is_found_again(own_server, own_crew, transport):
    hand = own_crew.hire(transport=transport)
    for end in (own_server.stop, own_server.kill9):
        end()
        own_crew.forget_browser()
        own_server.restart()
        own_crew.await_ready(hand)
        own_crew.place(1)
        assert numbers(hand, 1) == [1]


def test_a_silent_server_is_left_and_found_again(own_server, own_crew, transport, monkeypatch):
    hand = own_crew.hire(transport=transport)
    left = threading.Event()
    monkeypatch.setattr(log, "warning", lambda *_: left.set())
    with own_server.freeze():
        assert left.wait(PATIENCE)
    own_crew.await_ready(hand)
