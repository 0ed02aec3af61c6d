"""What the exchange logs of triggers that are given up: some by name, the others by their number."""

from exchange import Worker, place
from patience import eventually

TRIGGERS = 500


def test_the_log_is_not_flooded_with_what_is_given_up(server, vhost, browser):
    server.ctl("settings", "set", vhost.path, "trigger_redeliveries_max=0")
    before = len(server.logged("further triggers were given up"))
    with Worker(vhost).ready("", "1000") as worker:
        place(browser, *["job"] * TRIGGERS)
        for _ in range(TRIGGERS):
            _, number = worker.trigger()
            worker.say("NK", number)

        def given_up():
            lines = server.logged("a trigger is given up: too many workers had it in vain")
            named = [line for line in lines if line["vhost"] == vhost.path]
            assert all(line["event"] == "job" for line in named)
            assert len(named) < TRIGGERS / 2
            counted = [line["count"] for line in server.logged("further triggers were given up")]
            return len(named) + sum(counted[before:])

        eventually(given_up, TRIGGERS)
