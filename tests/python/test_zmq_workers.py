"""Workers over ZeroMQ: who gets which trigger, what is acknowledged, and what becomes of it when a worker goes."""

import pytest

from exchange import Worker, error, place, trigger
from metrics import metric
from patience import eventually
from session import NO_WORKER, Vhost, fresh, request
from zmq_worker import WorkerProcess
from wwfp import Wwfp, delivery, error as wwfp_error, ok

def numbered(count, first=0):
    return [f"e{number}" for number in range(first, first + count)]


# What a trigger says


def test_a_trigger_says_who_sent_it(vhost):
    vhost.add_user("joe", "read,write")
    joe = vhost.connect("joe", dialect=Wwfp)
    with Worker(vhost) as worker:
        worker.ready()
        joe.say(request("trigger", event='"pay"', data='{"sum": 1e2,\n"sid":1}', ref="1"))
        assert joe.hear() == ok(205, ref=1)
        command, payload = worker.hear()
        assert (command, payload.decode()) == (b"TR", f'{{"pay":{{"sum": 1e2,"sid":"{joe.sid}","uid":"joe"}}}}')


def test_a_broadcast_triggers(vhost, client):
    vhost.add_user("joe", "read,write")
    client.open("news")
    joe = vhost.connect("joe", dialect=Wwfp)
    joe.subscribe("news")
    with Worker(vhost) as worker:
        worker.ready("", 5)
        joe.say(request("broadcast", channel='"news"', event='"said"', trigger='"log"', data='{"a":1}'))
        assert joe.hear() == delivery("said", "news", joe.sid, '"a":1')
        payload, _ = worker.trigger()
        assert payload == {"log": {"a": 1, "sid": joe.sid, "uid": "joe", "channel": "news"}}


# Who gets it


def test_without_a_worker_a_trigger_is_refused(vhost, browser):
    assert browser.ask(trigger("a")) == NO_WORKER
    with Worker(vhost) as worker:
        worker.ready("b.*")
        assert browser.ask(trigger("a")) == NO_WORKER
        place(browser, "b", "bb")
        assert worker.events(2) == ["b", "bb"]
        worker.leave()
        worker.hears_nothing()
        assert browser.ask(trigger("b")) == NO_WORKER


def test_only_workers_of_the_vhost_get_it(server, vhost, browser):
    with Vhost(server, f"/{fresh('v')}", "anonymous=read,write") as other, Worker(vhost) as ours, Worker(other) as theirs:
        ours.ready()
        theirs.ready()
        place(browser, *numbered(20))
        place(other.connect(), "theirs")
        assert theirs.events(1) == ["theirs"]
        theirs.hears_nothing()
        assert ours.events(20) == numbered(20)


@pytest.mark.parametrize("window", [None, 5])
def test_workers_share(vhost, browser, window):
    crew = [Worker(vhost).ready("", *([] if window is None else [window])) for _ in range(4)]
    place(browser, *numbered(20))
    heard = [worker.events(5) for worker in crew]
    for worker in crew:
        worker.hears_nothing()
        worker.close()
    assert sorted(sum(heard, [])) == sorted(numbered(20))
    for events in heard:
        assert events == sorted(events, key=numbered(20).index), "each in the order of placing"


def test_a_lone_worker_gets_them_in_order(vhost, browser):
    with Worker(vhost) as worker:
        worker.ready("", 3)
        place(browser, *numbered(300))
        assert worker.events(300) == numbered(300)


# Windows


def test_a_full_window_waits_for_acknowledgements(vhost, browser):
    with Worker(vhost) as worker:
        worker.ready("", 2)
        place(browser, *numbered(5))
        (first, a), (second, b) = worker.trigger(), worker.trigger()
        assert [*first, *second] == ["e0", "e1"]
        worker.hears_nothing()
        worker.say("AK", b)
        third, c = worker.trigger()
        assert [*third] == ["e2"]
        worker.hears_nothing()
        worker.say("AK", a)
        worker.say("AK", c)
        assert worker.events(2) == ["e3", "e4"]
        assert len({a, b, c}) == 3


def test_what_a_worker_refuses_another_gets(vhost, browser):
    with Worker(vhost) as unwilling, Worker(vhost) as willing:
        unwilling.ready("", 1)
        place(browser, "a")
        payload, number = unwilling.trigger()
        willing.ready("", 1)
        unwilling.say("NK", number)
        again, _ = willing.trigger()
        assert again == payload
        unwilling.hears_nothing()


def test_a_lone_worker_gets_it_again_until_it_is_given_up(server, vhost, browser):
    server.ctl("settings", "set", vhost.path, "trigger_redeliveries_max=2")
    with Worker(vhost) as worker:
        worker.ready("", 1)
        dead = metric(server, "triggers_dead_total")
        place(browser, "poison", "next")
        for _ in range(3):
            payload, number = worker.trigger()
            assert [*payload] == ["poison"]
            worker.say("NK", number)
        assert worker.events(1) == ["next"]
        eventually(lambda: metric(server, "triggers_dead_total"), dead + 1)

    def given_up():
        lines = server.logged("a trigger is given up: too many workers had it in vain")
        return [line["event"] for line in lines if line["vhost"] == vhost.path]

    eventually(given_up, ["poison"])


def test_what_is_not_its_own_a_worker_cannot_acknowledge(vhost, browser):
    with Worker(vhost) as owner, Worker(vhost) as other:
        owner.ready("", 1)
        other.ready("x", 1)
        place(browser, "a", "b")
        _, number = owner.trigger()
        for word in ("AK", "NK"):
            other.say(word, number)
            other.say(word, 999_999)
        other.hears_nothing()
        owner.hears_nothing()
        owner.say("AK", number)
        assert owner.events(1) == ["b"]


def test_ready_again_takes_back_what_was_outstanding(vhost, browser):
    with Worker(vhost) as worker:
        worker.ready("", 2)
        place(browser, *numbered(3))
        assert [[*worker.trigger()[0]] for _ in range(2)] == [["e0"], ["e1"]]
        worker.join("e.*", "10")
        assert worker.events(3) == numbered(3)


# Leaving


def test_what_a_leaving_worker_has_others_get_in_order(vhost, browser):
    with Worker(vhost) as leaving, Worker(vhost) as staying:
        leaving.ready("", 4)
        place(browser, *numbered(6))
        numbers = [leaving.trigger()[1] for _ in range(4)]
        leaving.say("AK", numbers[1])
        assert [*leaving.trigger()[0]] == ["e4"]
        leaving.leave()
        leaving.hears_nothing()
        staying.join("", "10")
        assert staying.events(5) == ["e0", "e2", "e3", "e4", "e5"]
        place(browser, "last")
        assert staying.events(1) == ["last"]


def test_a_killed_workers_triggers_are_redelivered_in_order(vhost, browser):
    with Worker(vhost) as heir, WorkerProcess(vhost, "hold") as doomed:
        eventually(lambda: browser.ask(trigger("e0")), '{"triggered":"e0"}')
        place(browser, *numbered(7, first=1))
        assert [doomed.next_handled() for _ in range(5)] == [(event, None) for event in numbered(5)]
        heir.join("", "100")
        first = heir.events(3)
        doomed.kill()
        assert first + heir.events(5) == [*numbered(3, first=5), *numbered(5)]


def test_what_was_acknowledged_last_counts(vhost, browser):
    """A worker that acknowledges and closes is not taken for one that died before."""
    with Worker(vhost) as heir:
        heir.ready("", 1)
        place(browser, "hold")
        _, held = heir.trigger()
        for number in range(20):
            worker = Worker(vhost).ready("", 1)
            place(browser, f"once{number}")
            _, acknowledged = worker.trigger()
            worker.say("AK", acknowledged)
            worker.close(linger_ms=10_000)
        heir.say("AK", held)
        place(browser, "end")
        assert heir.events(1) == ["end"]


@pytest.mark.parametrize("server", [1], indirect=True)
def test_a_silent_worker_expires(server, vhost, browser):
    expired = metric(server, "workers_expired_total")
    with Worker(vhost) as silent, Worker(vhost) as heir:
        silent.ready("", 1)
        place(browser, "a")
        assert silent.trigger()[1]
        silent.fall_silent()
        heir.ready("", 1)
        assert heir.events(1) == ["a"]
        assert silent.hear() == [b"QT"]
        eventually(lambda: metric(server, "workers_expired_total"), expired + 1)
        silent.ready("", 1)
        place(browser, "b", "c")
        assert sorted(silent.events(1) + heir.events(1)) == ["b", "c"]


@pytest.mark.parametrize("word", ["AK", "NK", "HB"])
def test_who_is_not_ready_is_told_to_say_so(vhost, word):
    with Worker(vhost) as worker:
        assert worker.ask(word, *([] if word == "HB" else [1])) == [b"QT"]
        worker.say("QT")
        worker.hears_nothing()


@pytest.mark.parametrize("server", [1], indirect=True)
def test_the_server_sends_heartbeats(vhost):
    with Worker(vhost) as worker:
        worker.ready().hears_heartbeats(2)


# What it may say


@pytest.mark.parametrize(
    "frames",
    [
        ["RD", "("],
        ["RD", "a" * 5000],
        ["RD", "(a{1000}){1000}"],
        ["RD", "", "0"],
        ["RD", "", "1001"],
        ["RD", "", "-1"],
        ["RD", "", "x"],
        ["RD", "", "1", "1"],
        ["AK"],
        ["AK", "x"],
        ["AK", "99999999999999999999"],
        ["AK", "1", "2"],
        ["NK"],
        ["HB", "1"],
        ["QT", "1"],
        [],
        [""],
        ["rd"],
        ["XX"],
        ["RD", b"\xff"],
        ["RD", "", "1", "", ""],
        ["RD", *[""] * 1000],
    ],
    ids=lambda frames: repr(frames)[:24],
)
def test_a_wrong_message_is_a_bad_request(vhost, frames):
    with Worker(vhost) as worker:
        assert worker.ask(*frames) == error(400)
        assert worker.ready("", 1)


def test_a_filter_matches_the_whole_name(vhost, browser):
    with Worker(vhost) as worker:
        worker.ready("pay|order[.]new", 5)
        for event in ("payment", "xpay", "order.newer", "order-new"):
            assert browser.ask(trigger(event)) == NO_WORKER
        place(browser, "pay", "order.new")
        assert worker.events(2) == ["pay", "order.new"]


# Queues


def test_a_full_queue_refuses(server, vhost, browser):
    server.ctl("settings", "set", vhost.path, "trigger_queue_max=3")
    with Worker(vhost) as worker:
        worker.ready("", 1)
        place(browser, *numbered(4))
        assert browser.ask(trigger("more")) == NO_WORKER
        vhost.add_user("joe", "read,write")
        wwfp = vhost.connect("joe", dialect=Wwfp)
        assert wwfp.ask(request("trigger", event='"more"', ref="1")) == wwfp_error(503, ref=1)
        assert worker.events(4) == numbered(4)
        place(browser, "again")
        assert worker.events(1) == ["again"]


@pytest.mark.parametrize("server", [1], indirect=True)
def test_a_worker_without_window_that_reads_nothing_loses_nothing(server, vhost, browser):
    """The way to it is full at some time; what finds no room waits."""
    count, data = 3_000, {"text": "x" * 4_000}
    with Worker(vhost, rcvhwm=1, rcvbuf=4096) as worker:
        worker.ready()
        for start in range(0, count, 100):
            place(browser, *numbered(100, start), data=data)
        assert worker.events(count) == numbered(count)


def test_operators_see_workers_and_what_waits(server, vhost, browser):
    with Worker(vhost) as worker:
        worker.ready("e.*", 2)
        place(browser, *numbered(5))
        (shown,) = server.ctl_json("worker", "list", vhost.path)["workers"]
        told = ("transport", "filter", "window", "outstanding")
        assert [shown[name] for name in told] == ["zeromq", "e.*", 2, 2]
        queue = server.ctl_json("queue", "show", vhost.path)
        counted = {"waiting": 3, "outstanding": 2, "workers": 1, "streams": 0, "placed": 5, "refused": 0}
        assert {name: queue[name] for name in counted} == counted
        # What people read has the same numbers: a table of workers, a line for each number of the queue.
        _, row = server.ctl("worker", "list", vhost.path).splitlines()
        assert row.split()[1:5] == ["zeromq", "e.*", "2", "2"]
        lines = dict(line.rsplit(maxsplit=1) for line in server.ctl("queue", "show", vhost.path).splitlines())
        assert (lines["waiting"], lines["outstanding"]) == ("3", "2")
