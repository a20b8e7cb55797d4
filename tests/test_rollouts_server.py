"""Samples from a server: all arrive, in order, once, whatever the server does on the way."""

from __future__ import annotations

import base64
import re
import socket
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import pytest

from lit_prm.generation import http
from lit_prm.generation.http import Endpoint, Passing, _seconds
from lit_prm.generation.samples import Arrival, address, seed_of
from lit_prm.generation.server_source import NEUTRAL, ServerSampler
from tests.fake_server import TROUBLES, FakeServer, answer

PROMPTS = [f"What is {i} + {i * i}?" for i in range(12)]


def sampler(server: FakeServer, **settings: Any) -> ServerSampler:
    endpoint = Endpoint(server.url, timeout=0.3, tries=9, pause=0.01)
    return ServerSampler(endpoint, "fake", **{"concurrency": 8, **settings})


def sampled(
    prompts: Sequence[str] = PROMPTS, n: int = 3, *, server: dict[str, Any] | None = None, **settings: Any
) -> Any:
    with FakeServer(**(server or {})) as fake:
        return sampler(fake, **settings).sample(prompts, n), fake


# --- laws -----------------------------------------------------------------------------------------


def test_trouble_on_the_way_changes_nothing() -> None:
    calm, _ = sampled()
    rough, server = sampled(server={"troubles": TROUBLES})
    assert rough == calm
    assert set(server.met) == set(TROUBLES)
    assert len({(body["messages"][0]["content"], body["seed"]) for body in server.answered}) == len(PROMPTS) * 3


def test_a_sample_is_what_the_server_answers_to_its_seed_and_prompt() -> None:
    texts, server = sampled(
        PROMPTS[:2], 2, temperature=0.7, top_p=0.9, max_tokens=50, stop=["Q:"], template="{prompt} Box it."
    )
    for i, prompt in enumerate(PROMPTS[:2]):
        of_prompt = [b for b in server.answered if b["messages"] == [{"role": "user", "content": f"{prompt} Box it."}]]
        assert sorted(texts[i]) == sorted(answer(body, 1)["choices"][0]["message"]["content"] for body in of_prompt)
    assert len({body["seed"] for body in server.answered}) == 4
    assert all(0 <= body["seed"] < 2**31 for body in server.answered)
    told = {k: v for k, v in server.answered[0].items() if k not in ("seed", "messages")}
    assert told == {
        "path": "/v1/chat/completions", "model": "fake", "temperature": 0.7, "top_p": 0.9, "max_tokens": 50,
        "stop": ["Q:"], **NEUTRAL,
    }  # fmt: skip


def test_the_seed_decides_the_samples_and_concurrency_does_not() -> None:
    first, server = sampled(concurrency=1)
    assert server.widest == 1
    assert sampled(concurrency=20)[0] == first
    assert sampled(seed=1)[0] != first


def test_more_samples_begin_with_the_fewer() -> None:
    assert [texts[:2] for texts in sampled(n=5)[0]] == sampled(n=2)[0]


def test_requests_go_out_side_by_side() -> None:
    _, server = sampled(n=2, concurrency=12, server={"pause": 0.1})
    assert server.widest == 12


def test_plain_completions_send_the_text() -> None:
    _, server = sampled(PROMPTS[:1], 1, plain=True, template="Q: {prompt}\nA:")
    assert (server.answered[0]["path"], server.answered[0]["prompt"]) == ("/v1/completions", f"Q: {PROMPTS[0]}\nA:")


@pytest.mark.parametrize("most", [99, 2, 1])
def test_several_samples_of_a_request_all_arrive_from_any_server(most: int) -> None:
    """One that ignores `n`, or bounds it, is asked for the others."""
    texts, server = sampled(PROMPTS[:3], 7, per_request=4, server={"most": most})
    assert all(len(set(of_prompt)) > 3 for of_prompt in texts)
    asked = [body.get("n", 1) for body in server.answered]
    assert sum(min(n, most) for n in asked) == 3 * 7
    assert max(asked) == 4


def test_samples_of_a_request_are_in_the_order_of_their_index() -> None:
    texts, server = sampled(PROMPTS[:1], 4, per_request=4)
    choices = answer(server.answered[0], 4)["choices"]
    assert texts[0] == [choice["message"]["content"] for choice in sorted(choices, key=lambda c: c["index"])]


# --- what the server may say ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "remedy"),
    [
        (400, "repeating it would not help"),
        (401, "LIT_PRM_API_KEY"),
        (404, "the model's name"),
        (307, "moved to http://else"),
    ],
)
def test_what_cannot_get_better_is_said_at_once_in_the_servers_words(status: int, remedy: str) -> None:
    with FakeServer(refusal=status, words="the tokens are out") as server:
        with pytest.raises(ValueError, match=f"{status}: the tokens are out.*{remedy}"):
            sampler(server, concurrency=1).sample(PROMPTS, 3)
        assert server.tries.total() == 0
        assert len(server.keys) == 1


def test_patience_ends_and_says_how_to_go_on() -> None:
    with FakeServer(refusal=503, words="loading") as server:
        asked = ServerSampler(Endpoint(server.url, tries=3, pause=0.001), "fake", concurrency=2)
        with pytest.raises(
            ValueError,
            match=r"failed 3 times in a row. The last failure: status 503: loading.*keeps the samples that it has",
        ):
            asked.sample(PROMPTS, 1)


def test_patience_lasts_while_a_large_model_is_loaded_again(monkeypatch: pytest.MonkeyPatch) -> None:
    slept = list[float]()

    def at_once(_: threading.Event, seconds: float) -> bool:
        slept.append(seconds)
        return False

    monkeypatch.setattr(threading.Event, "wait", at_once)
    endpoint = Endpoint("http://127.0.0.1:9")
    for uniform, low, high in ((min, 600, 660), (max, 1200, 1320)):
        slept.clear()
        monkeypatch.setattr("random.uniform", lambda a, b, pick=uniform: pick(a, b))
        with pytest.raises(ValueError, match="27 times in a row"):
            endpoint.post("/completions", {}, lambda found: found, threading.Event())
        assert low <= sum(slept) <= high


def test_the_pause_is_the_one_the_server_asks_for() -> None:
    pauses: list[float] = []

    class Stop(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            pauses.append(timeout or 0.0)
            return False

    def later(_: Any) -> None:
        raise Passing("not yet", after=0.3)

    with FakeServer() as server:
        endpoint = Endpoint(server.url, tries=2, pause=0.001)
        with pytest.raises(ValueError, match="2 times"):
            endpoint.post("/completions", {"prompt": "1", "seed": 1, "temperature": 1}, later, Stop())
    assert pauses == [0.3]


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, 0),
        ("7", 7),
        ("-1", 0),
        ("soon", 0),
        ("nan", 0),
        ("1000000000", 600),
        ("1e9", 600),
        ("0.5", 0.5),
        ("Mon, 01 Jan 2001 00:00:00 GMT", 0),
    ],
)
def test_retry_after_is_seconds_or_a_date(header: str | None, seconds: float) -> None:
    assert _seconds(header) == seconds


def test_a_server_that_is_not_there_is_said_at_once() -> None:
    with FakeServer() as server:
        url = server.url
    with pytest.raises(ValueError, match=r"no server at .* Start it, or correct --server"):
        ServerSampler(Endpoint(url), "fake").sample(PROMPTS, 1)


def test_another_model_than_the_served_is_refused() -> None:
    with FakeServer(models=["a", "b"]) as server, pytest.raises(ValueError, match=r"serves a, b, not fake"):
        sampler(server).sample(PROMPTS, 1)


def test_a_server_that_lists_no_models_is_asked_all_the_same() -> None:
    assert sampled(server={"models": None})[0] == sampled()[0]


@pytest.mark.parametrize("status", [401, 403])
def test_a_key_that_may_not_even_list_models_is_told_before_anything_is_asked(status: int) -> None:
    with FakeServer(refusal=status) as server, pytest.raises(ValueError, match=f"/models answered {status}.*API_KEY"):
        sampler(server).check()


def test_the_key_goes_to_the_server_and_into_no_message(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIT_PRM_API_KEY", "sk-secret")
    with FakeServer(refusal=401, words="bad key sk-secret") as server:
        with pytest.raises(ValueError, match=r"bad key \*\*\*") as caught:
            sampler(server).sample(PROMPTS, 1)
        assert server.keys == {"Bearer sk-secret"}
    assert "sk-secret" not in str(caught.value)
    monkeypatch.setenv("LIT_PRM_API_KEY", "sk-sec\nret")
    with pytest.raises(ValueError, match="holds a character that no header may have") as caught:
        Endpoint("http://localhost")
    assert "sec" not in str(caught.value).removeprefix("LIT")


@pytest.mark.parametrize("status", [301, 302, 307])
def test_the_key_follows_no_redirection(status: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIT_PRM_API_KEY", "sk-secret")
    with FakeServer() as thief, FakeServer(refusal=status) as server:
        server.elsewhere = f"{thief.url}/v1/models?key=sk-secret"
        with pytest.raises(ValueError, match=f"answered {status}: .*moved to {thief.url}") as caught:
            sampler(server).sample(PROMPTS, 1)
        assert thief.keys == set()
        assert "sk-secret" not in str(caught.value)


def test_no_word_of_a_server_is_a_command_to_the_terminal() -> None:
    red = "\x1b[31mred\x07\u009b31m"
    with FakeServer(refusal=400, words=red) as server, pytest.raises(ValueError, match=r"400: .*red") as refused:
        sampler(server).sample(PROMPTS, 1)
    with FakeServer(models=[red]) as server, pytest.raises(ValueError, match=r"serves .*red") as unlisted:
        sampler(server).check()
    for message in (str(refused.value), str(unlisted.value)):
        assert message.isprintable()


def test_an_answer_has_a_bound_and_its_connection_is_not_used_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "LARGEST", 1000)
    told = r"more than 1,000 bytes"
    with FakeServer(refusal=500, words="x" * 10**5) as server, pytest.raises(ValueError, match=told):
        sampler(server).sample(PROMPTS[:1], 1)
    with FakeServer(models=["fake", *map(str, range(1000))]) as server:
        asked = sampler(server).endpoint
        assert asked.models() is None  # as for any server that lists none
        monkeypatch.setattr(http, "LARGEST", 10**6)
        assert len(asked.models() or ()) == 1001


@pytest.mark.parametrize(
    ("url", "becomes"),
    [
        ("http://localhost:8000", "http://localhost:8000/v1"),
        ("http://localhost:8000/", "http://localhost:8000/v1"),
        ("https://host/v1/", "https://host/v1"),
        ("https://host/openai/v2", "https://host/openai/v2"),
    ],
)
def test_a_url_without_a_path_means_v1(url: str, becomes: str) -> None:
    assert Endpoint(url).url == becomes


@pytest.mark.parametrize("url", ["localhost:8000", "ftp://x", "http://", "http://x:port", "http://me:pw@x"])
def test_what_is_no_url_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(ValueError, match="--server") as caught:
        Endpoint(url)
    assert "pw" not in str(caught.value)


def test_a_message_list_needs_a_chat() -> None:
    prompt = ({"role": "system", "content": "Be brief."}, {"role": "user", "content": "1 + 1"})
    with FakeServer() as server:
        drawn = list(sampler(server).draw([prompt], 1, [[0]]))
        assert server.answered[0]["messages"] == list(prompt)
        assert isinstance(drawn[0], Arrival)
        assert drawn[0].sample.seed == server.answered[0]["seed"]
        with pytest.raises(ValueError, match="Leave --plain out"):
            list(sampler(server, plain=True).draw([prompt], 1, [[0]]))


def test_a_prompt_that_ends_in_a_turn_of_the_assistant_is_continued_there() -> None:
    question, begun = {"role": "user", "content": "1 + 1"}, {"role": "assistant", "content": "Step 1:"}
    with FakeServer() as server:
        list(sampler(server, system="Be brief.").draw([(question, begun), (question,)], 1, [[0], [0]]))
    how = {
        body["messages"][-1]["role"]: (body.get("add_generation_prompt"), body.get("continue_final_message"))
        for body in server.answered
    }
    assert how == {"assistant": (False, True), "user": (None, None)}


@pytest.mark.parametrize("part", ["reasoning_content", "reasoning", "tool_calls"])
def test_responses_in_parts_are_refused(part: str, monkeypatch: pytest.MonkeyPatch) -> None:
    choice = {"message": {"content": "7", part: "I think"}, "finish_reason": "stop"}
    monkeypatch.setattr("tests.fake_server.answer", lambda *_: {"choices": [choice]})
    with FakeServer() as server, pytest.raises(ValueError, match=f"{part}.*a reward needs the whole response"):
        sampler(server).sample(PROMPTS, 1)


WHOLE = {"index": 0, "message": {"content": "7"}, "finish_reason": "stop"}


@pytest.mark.parametrize(
    ("odd", "told"),
    [
        ({"finish_reason": "abort"}, "ended with 'abort'"),
        ({"finish_reason": "content_filter"}, "ended with 'content_filter'"),
        ({"finish_reason": ["stop"]}, r"ended with \['stop'\]"),
        ({"message": {"content": None}}, "no text: None"),
        ({"message": {"content": [{"type": "text", "text": "7"}]}}, "no text: .*'type'"),
        ({"message": "7"}, "a message that is not an object: '7'"),
        ({"message": None}, "a message that is not an object: None"),
        ({"index": "first"}, "the index 'first', which is not a number"),
    ],
)
def test_what_is_no_whole_response_is_asked_for_again(
    odd: dict[str, Any], told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with FakeServer() as server:
        # by what this server was asked: one of an earlier test may still be answering
        odd_first = lambda *_: {"choices": [{**WHOLE, **odd} if len(server.answered) < 2 else WHOLE]}  # noqa: E731
        monkeypatch.setattr("tests.fake_server.answer", odd_first)
        asked = sampler(server)
        asked.endpoint.timeout = 30.0  # a busy machine takes its time
        assert asked.sample(PROMPTS[:1], 1) == [["7"]]
        assert re.search(told, asked.trouble)
        assert len(server.answered) == 2


def test_plain_completions_without_text_are_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter([{"finish_reason": "stop"}, {"text": "7", "finish_reason": None}])
    monkeypatch.setattr("tests.fake_server.answer", lambda *_: {"choices": [next(answers)]})
    assert sampled(PROMPTS[:1], 1, plain=True)[0] == [["7"]]


@pytest.mark.parametrize(("content", "kept"), [("", ""), (" \n", ""), ("a\ud83d", "a\ufffd"), (" x ", " x ")])
def test_responses_are_kept_as_files_take_them(content: str, kept: str, monkeypatch: pytest.MonkeyPatch) -> None:
    choice = {"message": {"content": content}, "finish_reason": "length"}
    monkeypatch.setattr("tests.fake_server.answer", lambda *_: {"choices": [choice]})
    assert sampled(PROMPTS[:1], 1)[0] == [[kept]]


def test_seeds_are_those_they_were() -> None:
    """Files of samples name them: a change would draw everything again."""
    name = address({"model": "m", "seed": 0}, ({"role": "user", "content": "ü"},), 3)
    assert (name[:16], seed_of(name)) == ("ae6dc9202903e91e", 1148457541)


def test_a_proxy_of_the_environment_is_used_except_for_the_hosts_it_names(monkeypatch: pytest.MonkeyPatch) -> None:
    with FakeServer(refusal=404, words="I am the proxy") as proxy, FakeServer() as server:
        monkeypatch.setenv("http_proxy", proxy.url)
        monkeypatch.setenv("no_proxy", "")
        with pytest.raises(ValueError, match="I am the proxy"):
            sampler(server).sample(PROMPTS, 1)
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        assert len(sampler(server).sample(PROMPTS, 1)) == len(PROMPTS)


@pytest.mark.parametrize("scheme", ["http://", ""])
def test_a_proxy_gets_the_name_and_password_of_its_address(monkeypatch: pytest.MonkeyPatch, scheme: str) -> None:
    with FakeServer(refusal=404, words="I am the proxy") as proxy:
        monkeypatch.setenv("http_proxy", f"{scheme}me:a%20word@{proxy.url.removeprefix('http://')}")
        monkeypatch.setenv("no_proxy", "")
        Endpoint("http://example.invalid").models()
    assert proxy.proxy_keys == {"Basic " + base64.b64encode(b"me:a word").decode()}


def test_a_proxy_of_another_kind_is_refused_without_its_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "socks5://me:word@localhost:1080")
    monkeypatch.setenv("no_proxy", "")
    with pytest.raises(ValueError, match=r"http_proxy names socks5://localhost:1080, which is no HTTP proxy") as error:
        Endpoint("http://example.invalid")
    assert "word" not in str(error.value)


def test_a_connection_serves_many_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.fake_server.Handler.protocol_version", "HTTP/1.1")
    opened = list[Any]()

    def verify(_: Any, client: Any) -> bool:
        opened.append(client)
        return True

    with FakeServer() as server:
        monkeypatch.setattr(server, "verify_request", verify)
        sampler(server, concurrency=1).sample(PROMPTS, 1)
        assert len(server.answered) == len(PROMPTS)
        assert len(opened) == 1


@pytest.mark.parametrize("begun", [b"HTTP/1.1 200 OK\r\nX: ", b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"])
def test_one_time_limit_bounds_a_whole_answer_whose_bytes_keep_coming(begun: bytes) -> None:
    """Headers or body; each byte comes in time, and the server goes on for as long as somebody listens."""
    ended_by: list[str] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def drip() -> None:
            connection, _ = server.accept()
            with connection, suppress(OSError):
                connection.recv(2**16)
                connection.sendall(begun)
                for _ in range(200):
                    time.sleep(0.05)
                    connection.sendall(b" ")
                ended_by.append("the server")

        thread = threading.Thread(target=drip)
        thread.start()
        endpoint = Endpoint(f"http://127.0.0.1:{server.getsockname()[1]}", timeout=0.5, tries=1)
        with pytest.raises(ValueError, match=r"Read timed out|the whole answer was not there after 0\.5 s"):
            endpoint.post("/completions", {}, lambda answer: answer, threading.Event())
        thread.join()
    assert not ended_by
