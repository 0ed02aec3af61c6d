"""Many triggers over workers that are killed: each is accounted for."""

import collections
import pathlib
import subprocess
import sys
import time

import pytest

from exchange import eventually, figure, place, trigger
from session import Vhost

TRIGGERS = 100_000
WORKERS = 8
# Triggers that are asked for at a time.
BATCH = 200

_PROGRAM = pathlib.Path(__file__).with_name("zmq_worker.py")


class Crew:
    """Workers in processes of their own. Each has a file for what it handles."""

    def __init__(self, vhost, window, folder):
        self._arguments = [vhost.server.exchange_url, vhost.path, vhost.token, window]
        self._folder = folder
        # With the file of each.
        self._processes = collections.deque()
        self.kills = 0

    def __enter__(self):
        for _ in range(WORKERS):
            self.hire()
        return self

    def __exit__(self, *_):
        while self._processes:
            self.kill()

    def hire(self):
        path = self._folder / f"worker-{self.kills + len(self._processes)}"
        path.touch()
        process = subprocess.Popen([sys.executable, _PROGRAM, *self._arguments, path])
        self._processes.append((process, path))

    def kill(self):
        """Kills the one who has worked longest."""
        process, _ = self._processes.popleft()
        process.kill()
        process.wait()
        self.kills += 1

    def handled(self):
        """How often each number was handled."""
        files = self._folder.glob("worker-*")
        lines = collections.Counter(line for file in files for line in file.read_text().splitlines())
        return {line: count for line, count in lines.items() if line.startswith("work ")}

    def has_ended(self):
        """Whether each that lives was told the end, and so has handled all that it was told before."""
        return all("end" in path.read_text() for _, path in self._processes)


def place_all(server, vhost, crew):
    """Places all triggers, each exactly once; meanwhile a worker is killed and replaced each second."""
    browser = vhost.connect()
    next_kill = time.monotonic() + 1
    for start in range(0, TRIGGERS, BATCH):
        for number in range(start, start + BATCH):
            browser.say(trigger("work", {"number": number}))
        assert [browser.hear() for _ in range(BATCH)] == ['{"triggered":"work"}'] * BATCH
        if time.monotonic() >= next_kill:
            crew.kill()
            crew.hire()
            next_kill += 1


@pytest.mark.parametrize("window", ["100", ""], ids=["with a window", "without"])
def test_every_trigger_is_accounted_for(start, tmp_path, window):
    server = start(shards=1)
    vhost = Vhost(server, "/moon", "anonymous=read,write", f"trigger_queue_max={TRIGGERS}", "trigger_redeliveries_max=20")
    folder = tmp_path / "handled"
    folder.mkdir()
    with Crew(vhost, window, folder) as crew:
        eventually(lambda: figure(server, "workers_zeromq"), WORKERS)
        place_all(server, vhost, crew)
        eventually(lambda: (figure(server, "triggers_waiting"), figure(server, "triggers_outstanding")), (0, 0))
        browser = vhost.connect()
        eventually(lambda: (place(browser, "end"), crew.has_ended())[1], True)
        kills = crew.kills
    handled = crew.handled()
    doubled = sum(count - 1 for count in handled.values())
    lost = TRIGGERS - len(handled)
    redelivered, dead = (figure(server, f"triggers_{name}_total") for name in ("redelivered", "dead"))
    print(f"{TRIGGERS} triggers, {kills} workers killed: {len(handled)} handled, {doubled} again, {lost} lost, {redelivered=} {dead=}")
    assert kills > 0 and figure(server, "triggers_placed_total") >= TRIGGERS
    assert dead == 0
    if window:
        assert lost == 0 and doubled <= redelivered
    else:
        assert doubled == 0
    vhost.close_sessions()
    assert server.stop() == 0
