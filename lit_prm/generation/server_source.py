"""Samples from an OpenAI-compatible server (vLLM, SGLang, llama.cpp), with concurrent requests."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from queue import SimpleQueue
from typing import Any, NamedTuple

from lit_prm.data.records import Message
from lit_prm.generation.choices import choices
from lit_prm.generation.http import Endpoint, RequestRefused
from lit_prm.generation.samples import Arrival, Arrivals, Prompt, Refusal, Sample, address, seed_of, writable

OF_A_PROMPT = (400, 413, 422)  # statuses that one prompt may cause, e.g. "maximum context length"

# vLLM and SGLang take what a request leaves out from the model's generation_config.json, and say nothing of it.
NEUTRAL: Mapping[str, Any] = {"top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0}

RESERVED = {"model", "messages", "prompt", "n", "seed", "stream", "temperature", "top_p", "max_tokens", "stop"}


class RequestedSamples(NamedTuple):
    """Numbers of the samples of one prompt that one request asks for."""

    prompt_index: int
    prompt: Prompt
    numbers: Sequence[int]


class ServerSampler:
    """Samples responses from a server, with ``concurrency`` requests in flight; the server does the batching.

    A request is a chat: the ``system`` prompt and one user turn, which the server's chat template renders; a prompt
    of messages that ends in one of the assistant is continued there. With ``plain`` the request is text that the model
    completes. ``template`` wraps prompts that are plain text. ``extra`` holds additional fields of the request, on top
    of ``NEUTRAL``, which turns off what would change the distribution; a
    field that is None is not sent. The seed of a sample is a hash of the settings, the prompt and the sample's
    number. ``per_request`` samples come from one request (``n`` of the API) and share the seed of the first; if the
    server returns fewer, further requests ask for the rest. A prompt that the server refuses, for example because it is
    too long, gives a ``Refusal``.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        model: str,
        *,
        temperature: float = 1.0,
        top_p: float = 1.0,
        max_tokens: int = 2048,
        stop: Sequence[str] = (),
        seed: int = 0,
        plain: bool = False,
        template: str = "{prompt}",
        system: str = "",
        extra: Mapping[str, Any] | None = None,
        concurrency: int = 64,
        per_request: int = 1,
    ) -> None:
        _refuse_unfit(plain, system, extra or {})
        self.endpoint = endpoint
        self.chats = not plain
        self.concurrency = concurrency
        self.per_request = per_request
        self.settings: dict[str, Any] = {
            "model": model, "api": "completions" if plain else "chat", "template": template,
            "temperature": temperature, "top_p": top_p, "max_tokens": max_tokens, "stop": list(stop) or None,
            "seed": seed, "per_request": per_request,
        }  # fmt: skip
        fields = {**NEUTRAL, **(extra or {})}
        optional = {"system": system, "extra": {name: value for name, value in fields.items() if value is not None}}
        self.settings |= {name: value for name, value in optional.items() if value}  # addresses without them stay

    @property
    def trouble(self) -> str:
        return self.endpoint.trouble

    def check(self) -> None:
        """Raise ValueError if no server is reachable, or if it lists its models without this one."""
        served = self.endpoint.models()
        if served and self.settings["model"] not in served:
            some = ", ".join(served[:8]) + (", ..." if len(served) > 8 else "")
            raise ValueError(
                f"{self.endpoint.url} serves {some}, not {self.settings['model']}. Give the name of one that it serves."
            )

    def sample(self, prompts: Sequence[str], n: int) -> list[list[str]]:
        """``n`` responses to each prompt, in the order of the prompts."""
        out = [[""] * n for _ in prompts]
        for arrival in self.draw(prompts, n, [range(n)] * len(prompts)):
            if isinstance(arrival, Refusal):
                raise ValueError(arrival.why)
            out[arrival.prompt][arrival.number] = arrival.sample.response
        return out

    def draw(self, prompts: Sequence[Prompt], n: int, missing: Sequence[Sequence[int]]) -> Arrivals:
        """Yield the missing samples as they arrive; the first error that is not worth a repetition is raised."""
        self.check()
        todo = self._requests(prompts, n, missing)
        lock, stop, arrived = threading.Lock(), threading.Event(), SimpleQueue[Arrival | Refusal | Exception | None]()

        def work() -> None:
            try:
                while not stop.is_set():
                    with lock:
                        request = next(todo, None)
                    if request is None:
                        break
                    for arrival in self._answered(request, stop):
                        arrived.put(arrival)
                arrived.put(None)
            except Exception as error:  # the consumer raises it
                arrived.put(error)

        workers = [threading.Thread(target=work, daemon=True) for _ in range(self.concurrency)]
        for worker in workers:  # daemons: the end of the process does not wait for answers
            worker.start()
        working = len(workers)
        try:
            while working:
                match arrived.get():
                    case None:
                        working -= 1
                    case Exception() as error:
                        raise error
                    case arrival:
                        yield arrival
        finally:
            stop.set()

    def _requests(
        self, prompts: Sequence[Prompt], n: int, missing: Sequence[Sequence[int]]
    ) -> Iterator[RequestedSamples]:
        """The requests of an uninterrupted run that hold a missing sample; always whole: its samples share a seed."""
        for i, (prompt, lacking) in enumerate(zip(prompts, map(set, missing), strict=True)):
            for start in range(0, n, self.per_request):
                numbers = range(start, min(start + self.per_request, n))
                if not lacking.isdisjoint(numbers):
                    yield RequestedSamples(i, prompt, numbers)

    def _answered(self, request: RequestedSamples, stop: threading.Event) -> Iterator[Arrival | Refusal]:
        numbers = request.numbers
        while numbers and not stop.is_set():
            try:
                samples = self._samples(request.prompt, numbers, stop)
            except ValueError as error:
                why = f"{error} (the prompt: {str(request.prompt)[:60]!r}, --per-request {len(numbers)})"
                if not isinstance(error, RequestRefused) or error.status not in OF_A_PROMPT:
                    raise ValueError(why) from None
                yield Refusal(request.prompt_index, why)
                break
            for number, sample in zip(numbers, samples, strict=False):
                yield Arrival(request.prompt_index, number, sample)
            numbers = numbers[len(samples) :]

    def _samples(self, prompt: Prompt, numbers: Sequence[int], stop: threading.Event) -> list[Sample]:
        """Samples of one request: at least one, at most one for each number."""
        seed = seed_of(address(self.settings, prompt, numbers[0]))
        body = {name: self.settings[name] for name in ("model", "temperature", "top_p", "max_tokens")} | {"seed": seed}
        body |= self.settings.get("extra", {})
        if self.settings["stop"]:
            body["stop"] = self.settings["stop"]
        if len(numbers) > 1:
            body["n"] = len(numbers)
        path = f"/{'chat/' if self.chats else ''}completions"
        body |= _chat(self._turns(prompt)) if self.chats else {"prompt": self._text(prompt)}
        responses = self.endpoint.post(path, body, choices, stop)
        return [Sample(writable(text), reason, seed) for text, reason in responses[: len(numbers)]]

    def _turns(self, prompt: Prompt) -> list[Message]:
        turns = [{"role": "user", "content": self._text(prompt)}] if isinstance(prompt, str) else list(prompt)
        system = self.settings.get("system")
        if system and turns[0]["role"] == "system":
            raise ValueError("The prompt has a system message of its own. Leave --system out.")
        return [{"role": "system", "content": system}, *turns] if system else turns

    def _text(self, prompt: Prompt) -> str:
        if not isinstance(prompt, str):
            raise ValueError("Plain completions need text, but this prompt is a list of messages. Leave --plain out.")
        text: str = self.settings["template"].replace("{prompt}", prompt)
        return text


def _chat(turns: list[Message]) -> dict[str, Any]:
    """The fields of a request with these messages; vLLM and SGLang continue a last one of the assistant."""
    continued = turns[-1]["role"] == "assistant"
    return {"messages": turns} | ({"add_generation_prompt": False, "continue_final_message": True} if continued else {})


def _refuse_unfit(plain: bool, system: str, extra: Mapping[str, Any]) -> None:
    if plain and system:
        raise ValueError(
            "--system is a turn of a chat, but --plain requests have no turns. Put the text into --prompt-template."
        )
    if taken := sorted(RESERVED & extra.keys()):
        raise ValueError(
            f"--extra holds {', '.join(taken)}, which `sample` sets itself. Use the command's own options instead."
        )
