"""Samples from any OpenAI-compatible server (vLLM, SGLang, llama.cpp), many at once."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from queue import SimpleQueue
from typing import Any, NamedTuple

from lit_prm.data.records import Message
from lit_prm.generation.choices import choices
from lit_prm.generation.http import Endpoint, RequestRefused
from lit_prm.generation.samples import Arrival, Arrivals, Prompt, Refusal, Sample, address, seed_of, writable

OF_A_PROMPT = (400, 413, 422)  # statuses that may be the fault of one prompt, as "maximum context length" is

OURS = {"model", "messages", "prompt", "n", "seed", "stream", "temperature", "top_p", "max_tokens", "stop"}


class RequestedSamples(NamedTuple):
    """Samples of one prompt that one request may bring together."""

    prompt: int
    words: Prompt
    numbers: Sequence[int]


class ServerSampler:
    """Asks a server for responses, ``concurrency`` requests at a time; batching and GPUs are the server's.

    A request is a chat of one user turn behind the ``system`` prompt, which the server's chat template renders;
    ``plain`` ones are text to go on with. ``template`` wraps prompts that are plain text; ``extra`` are fields of the
    request beside ours. Each carries a seed made of the settings, the prompt and the sample's number. ``per_request``
    samples are asked for together (``n`` of the API) and share the seed of the first; from a server that brings fewer,
    the others are asked for again. A prompt that the server finds wrong or too long is brought as a ``Refusal``.
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
        self.concurrency = concurrency
        self.per_request = per_request
        self.settings: dict[str, Any] = {
            "model": model, "api": "completions" if plain else "chat", "template": template,
            "temperature": temperature, "top_p": top_p, "max_tokens": max_tokens, "stop": list(stop) or None,
            "seed": seed, "per_request": per_request,
        }  # fmt: skip
        given = {"system": system, "extra": dict(extra or {})}
        self.settings |= {name: value for name, value in given.items() if value}  # samples without keep their address

    @property
    def chats(self) -> bool:
        return bool(self.settings["api"] == "chat")

    @property
    def trouble(self) -> str:
        return self.endpoint.trouble

    def check(self) -> None:
        """Refuses a server that is not there, or that says it serves other models."""
        served = self.endpoint.models()
        if served and self.settings["model"] not in served:
            some = ", ".join(served[:8]) + (", ..." if len(served) > 8 else "")
            raise ValueError(
                f"{self.endpoint.url} serves {some}, not {self.settings['model']}; give the name of one it serves"
            )

    def sample(self, prompts: Sequence[str], n: int) -> list[list[str]]:
        """``n`` responses to each prompt, in order."""
        out = [[""] * n for _ in prompts]
        for arrival in self.draw(prompts, n, [range(n)] * len(prompts)):
            if isinstance(arrival, Refusal):
                raise ValueError(arrival.why)
            out[arrival.prompt][arrival.number] = arrival.sample.response
        return out

    def draw(self, prompts: Sequence[Prompt], n: int, missing: Sequence[Sequence[int]]) -> Arrivals:
        """The missing samples as they come; the first error that no repetition helps ends it."""
        self.check()
        todo = self._requests(prompts, n, missing)
        lock, stop, arrived = threading.Lock(), threading.Event(), SimpleQueue[Arrival | Refusal | Exception | None]()

        def work() -> None:
            try:
                while not stop.is_set():
                    with lock:
                        asked = next(todo, None)
                    if asked is None:
                        break
                    for arrival in self._answered(asked, stop):
                        arrived.put(arrival)
                arrived.put(None)
            except Exception as error:  # raised again by who asked
                arrived.put(error)

        workers = [threading.Thread(target=work, daemon=True) for _ in range(self.concurrency)]
        for worker in workers:  # daemons: nobody who leaves waits for the answers
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
        """The requests of an unbroken run that bring a missing sample: a part of one would bring other samples."""
        for i, (words, lacking) in enumerate(zip(prompts, map(set, missing), strict=True)):
            for start in range(0, n, self.per_request):
                numbers = range(start, min(start + self.per_request, n))
                if not lacking.isdisjoint(numbers):
                    yield RequestedSamples(i, words, numbers)

    def _answered(self, asked: RequestedSamples, stop: threading.Event) -> Iterator[Arrival | Refusal]:
        numbers = asked.numbers
        while numbers and not stop.is_set():
            try:
                samples = self._ask(asked.words, numbers, stop)
            except ValueError as error:
                why = f"{error} (asked: {str(asked.words)[:60]!r}, --per-request {len(numbers)})"
                if not isinstance(error, RequestRefused) or error.status not in OF_A_PROMPT:
                    raise ValueError(why) from None
                yield Refusal(asked.prompt, why)
                break
            for number, sample in zip(numbers, samples, strict=False):
                yield Arrival(asked.prompt, number, sample)
            numbers = numbers[len(samples) :]

    def _ask(self, words: Prompt, numbers: Sequence[int], stop: threading.Event) -> list[Sample]:
        """At least one sample, at most one for each number."""
        seed = seed_of(address(self.settings, words, numbers[0]))
        body = {name: self.settings[name] for name in ("model", "temperature", "top_p", "max_tokens")} | {"seed": seed}
        body |= self.settings.get("extra", {})
        if self.settings["stop"]:
            body["stop"] = self.settings["stop"]
        if len(numbers) > 1:
            body["n"] = len(numbers)
        path = f"/{'chat/' if self.chats else ''}completions"
        asked = {"messages": self._turns(words)} if self.chats else {"prompt": self._text(words)}
        found = self.endpoint.post(path, body | asked, choices, stop)
        return [Sample(writable(text), reason, seed) for text, reason in found[: len(numbers)]]

    def _turns(self, words: Prompt) -> list[Message]:
        turns = [{"role": "user", "content": self._text(words)}] if isinstance(words, str) else list(words)
        system = self.settings.get("system")
        if system and turns[0]["role"] == "system":
            raise ValueError("the prompt brings a system message of its own; leave --system out")
        return [{"role": "system", "content": system}, *turns] if system else turns

    def _text(self, words: Prompt) -> str:
        if not isinstance(words, str):
            raise ValueError("plain completions take text, and this prompt is a list of messages; leave --plain out")
        filled: str = self.settings["template"].replace("{prompt}", words)
        return filled


def _refuse_unfit(plain: bool, system: str, extra: Mapping[str, Any]) -> None:
    if plain and system:
        raise ValueError("--system is a turn of a chat, and --plain asks for none; put it into --prompt-template")
    if taken := sorted(OURS & extra.keys()):
        raise ValueError(f"--extra holds {', '.join(taken)}, which `sample` sets itself; leave it to the options")
