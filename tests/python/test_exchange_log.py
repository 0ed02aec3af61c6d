"""What the exchange logs of triggers that are given up: some by name, the others by their number."""

import json

from exchange import Worker, browser, eventually, place, server, vhost

TRIGGERS = 500


def test_the_log_is_not_flooded_with_what_is_given_up(server, vhost, browser):
    server.ctl("settings", "set", vhost.path, "trigger_redeliveries_max=0")
    with Worker(vhost).ready("", "1000") as worker:
        place(browser, *["job"] * TRIGGERS)
        for _ in range(TRIGGERS):
            _, number = worker.trigger()
            worker.say("NK", number)

        def given_up():
            fields = [json.loads(line)["fields"] for line in list(server.log) if "given up" in line]
            named = [line for line in fields if line.get("vhost") == vhost.path]
            assert all(line["event"] == "job" for line in named)
            assert len(named) < TRIGGERS / 2
            return len(named) + sum(line.get("count", 0) for line in fields)

        eventually(given_up, TRIGGERS)
