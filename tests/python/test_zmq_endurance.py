"""Many triggers over workers that are killed: each is accounted for."""

import collections
import threading

import pytest

from exchange import place, trigger
from metrics import metric
from patience import PATIENCE, eventually
from session import Vhost, fresh
from zmq_worker import WorkerProcess

WORKERS = 8
# Triggers that are asked for at a time, and how many of them one worker gets.
BATCH = 200
SHARE = BATCH // WORKERS


class Crew:
    """Workers in processes of their own."""

    def __init__(self, vhost, window):
        self._vhost, self._window = vhost, window
        self._browser = vhost.connect()
        self._told = threading.Condition()
        self._living = collections.deque()
        self.everybody = []
        self.marks = 0

    def __enter__(self):
        for _ in range(WORKERS):
            self._living.append(self._hired())
        self._has_workers(WORKERS)
        return self

    def __exit__(self, *_):
        for worker in self._living:
            worker.kill()

    def _hired(self):
        worker = WorkerProcess(self._vhost, self._window, self._told)
        self.everybody.append(worker)
        return worker

    def kill_one(self):
        """Kills the one that has worked longest and returns it."""
        killed = self._living.popleft()
        killed.kill()
        return killed

    def fill_up(self):
        """Returns once the server knows that one is dead, and another one in its place."""
        self._has_workers(WORKERS - 1)
        self._living.append(self._hired())
        self._has_workers(WORKERS)

    def _has_workers(self, count):
        eventually(lambda: metric(self._vhost.server, "workers_zeromq"), count)

    def settle(self):
        """Returns once everything that was placed before and not lost is handled: each worker gets a mark behind it."""
        mark = fresh("mark")
        for _ in range(int(PATIENCE)):
            place(self._browser, *[mark] * WORKERS)
            self.marks += WORKERS
            with self._told:
                if self._told.wait_for(lambda: all(mark in worker.events for worker in self._living), timeout=1):
                    return
        raise AssertionError("a worker gets nothing")

    def handled(self):
        """How often each number was handled."""
        return collections.Counter(number for worker in self.everybody for number in worker.numbers)


class Account:
    """What must become of the triggers of a batch in which a worker was killed."""

    def __init__(self, numbers, killed, has_window):
        self.numbers, self.killed, self.has_window = numbers, killed, has_window

    def check(self, handled):
        by_killed = set(self.killed.numbers).intersection(self.numbers)
        lost = [number for number in self.numbers if handled[number] == 0]
        again = [number for number in self.numbers if handled[number] > 1]
        if self.has_window:
            assert not lost
            assert set(again) <= by_killed and all(handled[number] == 2 for number in again)
        else:
            assert not again
            assert len(lost) + len(by_killed) <= SHARE, "more is lost than was on its way to the one who was killed"
        return len(lost), len(again)


@pytest.mark.parametrize(
    ("triggers", "fatal_every"), [(4_000, 4), pytest.param(100_000, 10, marks=pytest.mark.nightly)]
)
@pytest.mark.parametrize("window", ["100", ""], ids=["with a window", "without"])
def test_every_trigger_is_accounted_for(start, window, triggers, fatal_every):
    server = start(shards=1)
    vhost = Vhost(server, "/moon", "anonymous=read,write", f"trigger_queue_max={triggers}", "trigger_redeliveries_max=20")
    browser, accounts = vhost.connect(), []
    with Crew(vhost, window) as crew:
        for batch in range(triggers // BATCH):
            numbers = range(batch * BATCH, (batch + 1) * BATCH)
            is_fatal = batch % fatal_every == fatal_every - 1
            if is_fatal:
                crew.settle()
            for number in numbers:
                browser.say(trigger("work", {"number": number}))
            if is_fatal:
                accounts.append(Account(numbers, crew.kill_one(), bool(window)))
            assert [browser.hear() for _ in numbers] == ['{"triggered":"work"}'] * BATCH
            if is_fatal:
                crew.fill_up()
        crew.settle()
        handled = crew.handled()
    lost, again = map(sum, zip(*(account.check(handled) for account in accounts)))
    redelivered, dead = (metric(server, f"triggers_{name}_total") for name in ("redelivered", "dead"))
    print(f"{triggers} triggers, {len(accounts)} workers killed: {again} handled twice, {lost} lost, {redelivered=} {dead=}")
    assert (len(handled), handled.total()) == (triggers - lost, triggers - lost + again), "outside of the fatal batches"
    assert set(handled) <= set(range(triggers))
    eventually(lambda: metric(server, "triggers_placed_total"), triggers + crew.marks)
    assert again <= redelivered and dead == 0
    vhost.close_sessions()
    server.end_well()
