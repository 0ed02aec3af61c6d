"""The Client against a real server, over both transports."""

import concurrent.futures

import pytest

from kosmonaut import Client, ConnectionLost, KosmonautError, RequestError, RequestTimeout

from crew import Backed
from patience import eventually
from wwfp import Wwfp, on_channel


def refused(code, ask, *arguments):
    with pytest.raises(RequestError) as caught:
        ask(*arguments)
    assert caught.value.code == code, caught.value
    return caught.value


def test_channels_and_broadcasts(client, vhost):
    for _ in range(2):
        client.open_channel("news")
    listener = vhost.browser()
    listener.subscribe("news")
    for data, members in [
        ({"text": "grüße 🚀"}, '"text":"grüße 🚀",'),
        ([1, 2.5, None], '"data":[1,2.5,null],'),
        (None, '"data":null,'),
        ({}, ""),
    ]:
        client.broadcast("news", "headline", data)
        assert listener.hear() == f'{{"headline":{{{members}"channel":"news"}}}}'
    client.broadcast("news", 'he"l\\lo é')
    assert listener.hear() == '{"he\\"l\\\\lo é":{"channel":"news"}}'
    client.close_channel("news")
    assert listener.hear() == on_channel("unsubscribed", "news")


def test_a_message_to_one_session(client, vhost):
    ann = vhost.browser()
    client.send_message(ann.sid, "hello", {"n": 1})
    assert ann.hear() == '{"hello":{"n":1}}'
    client.send_message(ann.sid, "hello")
    assert ann.hear() == '{"hello":{}}'


def test_a_token_lets_in_and_members_are_listed(client, vhost):
    client.open_channel("presence-hall")
    assert client.members("presence-hall") == []
    token = client.request_token("j&o+e", "presence-.+")
    assert len(token) == 128
    joe = vhost.connect(dialect=Wwfp)
    joe.present_token(token)
    joe.attend("presence-hall", "j&o+e", data='{"age":7}')
    assert client.members("presence-hall") == [{"uid": "j&o+e", "age": 7}]
    client.open_channel("news")
    assert client.members("news") == []


def test_refusals_are_alike_over_both_transports(client):
    client.open_channel("news")
    assert refused(451, client.open_channel, "no name").status == "Invalid channel name"
    for ask in (client.close_channel, client.members):
        assert refused(454, ask, "nowhere").status == "Channel not found"
    refused(454, client.broadcast, "nowhere", "hello")
    refused(400, client.broadcast, "news", ":hello")
    refused(400, client.request_token, "joe", "(")
    refused(400, client.request_token, "", ".*")
    refused(404, client.send_message, "0" * 8 + "-0000-0000-0000-" + "0" * 12, "hello")
    refused(404, client.send_message, "nobody", "hello")
    client.broadcast("news", "hello")  # A refusal harms nothing that follows.


def test_the_channel_limit(client, vhost):
    vhost.server.ctl("settings", "set", vhost.path, "channels_max=1")
    client.open_channel("a")
    refused(403, client.open_channel, "b")


def test_a_wrong_token_and_an_unknown_vhost(vhost, transport):
    with Client(vhost.url(transport, token="0" * 40), transport=transport) as client:
        for _ in range(2):
            refused(402, client.open_channel, "news")
    unknown = vhost.url(transport).replace(vhost.path, "/nowhere")
    with Client(unknown, transport=transport) as client:
        refused({"zmq": 402, "http": 404}[transport], client.open_channel, "news")


def test_a_regenerated_token_locks_out(client, vhost):
    client.open_channel("news")
    vhost.server.ctl("vhost", "regenerate-token", vhost.path)
    for _ in range(2):
        refused(402, client.open_channel, "news")


def test_data_that_json_does_not_know_is_refused_before_it_is_sent(client):
    with pytest.raises(ValueError):
        client.broadcast("news", "hello", float("nan"))
    with pytest.raises(TypeError):
        client.broadcast("news", "hello", object())


def test_threads_may_share_a_client(client):
    client.open_channel("presence-a")

    def ask(number):
        return (
            len(client.request_token(f"u{number}", ".*")) if number % 2 else client.members("presence-a")
        )

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        assert list(pool.map(ask, range(64))) == [[], 128] * 32


def test_a_late_answer_is_nobody_elses(own_vhost, transport):
    with Client(own_vhost.url(transport), timeout=0.5, transport=transport) as client:
        answered(lambda: client.open_channel("presence-hall"))
        with own_vhost.server.freeze():
            for _ in range(3):
                with pytest.raises(RequestTimeout):
                    client.request_token("joe", ".*")
        assert answered(lambda: client.members("presence-hall")) == []


def answered(ask):
    """The answer, asked for again while the server is not there or too slow. To ask twice must do no harm."""
    answers = []

    def is_answered():
        try:
            answers.append(ask())
        except (ConnectionLost, RequestTimeout):
            return False
        return True

    eventually(is_answered, True)
    return answers[0]


def test_a_restarted_server_is_found_again(own_server, own_vhost, transport):
    with Client(own_vhost.url(transport), timeout=0.5, transport=transport) as client:
        answered(lambda: client.open_channel("news"))
        own_server.kill9()
        for _ in range(2):
            with pytest.raises((ConnectionLost, RequestTimeout)):
                client.open_channel("news")
        own_server.restart()
        answered(lambda: client.broadcast("news", "hello"))
        answered(lambda: refused(454, client.broadcast, "nowhere", "hello"))


def test_localhost_is_found(start, transport):
    server = start(*(word for port in ("websocket", "exchange") for word in (f"--{port}-addr", "127.0.0.1:0")))
    vhost = Backed(server, "/world")
    port = vhost.url(transport).rpartition(":")[2]
    with Client(f"wr://{vhost.token}@localhost:{port}", transport=transport) as client:
        client.open_channel("news")


def test_a_closed_client_connects_anew(client):
    client.open_channel("news")
    client.close()
    client.close()
    client.close_channel("news")


@pytest.mark.parametrize(
    "url",
    ["http://t@h/v", "wr://h/v", "wr://t:x@h/v", "wr://t@/v", "wr://t@h", "wr://t@h/", "wr://t@h/v?x", "wr://t@h:x/v"],
)
def test_a_url_is_checked_without_showing_the_token(url):
    for transport in ("zmq", "http"):
        with pytest.raises(ValueError) as caught:
            Client(url.replace("t@", "secret@"), transport=transport)
        assert "secret" not in str(caught.value)
    with pytest.raises(ValueError):
        Client("wr://t@h/v", transport="smoke")


def test_errors_share_a_base():
    assert all(issubclass(kind, KosmonautError) for kind in (RequestError, RequestTimeout, ConnectionLost))
    assert issubclass(RequestTimeout, TimeoutError) and issubclass(ConnectionLost, ConnectionError)
