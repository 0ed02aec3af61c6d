"""An exchange that was kept from listening: its workers spoke all the time, so none of them is taken for dead."""

import contextlib
import os
import signal
import time

from exchange import Worker, figure, server, vhost

WORKERS = 20
BEAT = 0.5
# Together longer than a worker may be silent.
BEATS = 8


def test_a_stopped_server_takes_nobody_for_dead(server, vhost):
    with contextlib.ExitStack() as open_workers:
        workers = [open_workers.enter_context(Worker(vhost)).ready("", "5") for _ in range(WORKERS)]
        expired = figure(server, "workers_expired_total")
        os.kill(server.pid, signal.SIGSTOP)
        try:
            for _ in range(BEATS):
                # Nothing can be awaited: that nothing happens is what is tried.
                time.sleep(BEAT)
                for worker in workers:
                    worker.say("HB")
        finally:
            os.kill(server.pid, signal.SIGCONT)
        for worker in workers:
            worker.hears_nothing()
        assert figure(server, "workers_expired_total") == expired
        assert figure(server, "workers_zeromq") == WORKERS
