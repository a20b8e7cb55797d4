"""Rollouts from a causal language model in this process or in worker processes."""

from __future__ import annotations

import hashlib
import multiprocessing
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from typing import Any, NamedTuple, Protocol, cast

import torch
from rich.progress import track
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from lit_prm.models.language_model import Dtype, load_model, load_tokenizer

ROWS = 384  # sequences decoded together: more bring nothing on a CPU


class Sampler(Protocol):
    """A source of responses."""

    def sample(self, prompts: Sequence[str], n: int) -> list[list[str]]:
        """``n`` responses to each rendered prompt, in order."""
        ...


class DecodingJob(NamedTuple):
    """Prompts that are decoded together, ``n`` responses to each. What comes depends on the model and this alone."""

    prompts: tuple[str, ...]
    n: int
    seed: str


class Drawn(NamedTuple):
    """The n responses to one prompt, and what they cost."""

    texts: list[str]
    generated: list[int]  # tokens of each, its end-of-turn token among them
    prompt: int  # tokens of the prompt
    whole: list[bool]  # whether each ended by itself


class Decoder:
    """Draws responses from a loaded model, on its device and in the mode it is in.

    Each token is the inverse of the tempered distribution function at a uniform number of its own, so a row's
    draws depend on the seed and its place in the job alone; at temperature 0 it is the likeliest token.
    A prompt is read once, whatever the number of its responses.
    """

    FULL = 0.75  # share of rows still going below which finished ones leave the batch

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        temperature: float = 1.0,
        max_new_tokens: int = 512,
    ) -> None:
        _refuse_negative(temperature)
        self.model = model
        self.tokenizer: Any = tokenizer
        self.temperature = temperature
        self.max_new_tokens = max_new_tokens
        self.stop = cast(int, self.tokenizer.eos_token_id)

    def sample(self, prompts: Sequence[str], n: int, seed: int = 0) -> list[list[str]]:
        """``n`` responses to each prompt, in order."""
        return _sampled(lambda jobs: (self(job) for job in jobs), prompts, n, seed)

    @torch.no_grad()
    def __call__(self, job: DecodingJob) -> list[Drawn]:
        ids, mask = self._prompts(job.prompts)
        rows = self._decode(ids, mask, job.n, torch.Generator().manual_seed(_as_int(job.seed))).tolist()
        kept = [row[: row.index(self.stop)] if self.stop in row else row for row in rows]
        texts = self.tokenizer.batch_decode(kept, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        whole = [self.stop in row for row in rows]
        generated = [len(k) + ended for k, ended in zip(kept, whole, strict=True)]
        starts = range(0, len(texts), job.n)
        return [
            Drawn(texts[i : i + job.n], generated[i : i + job.n], tokens, whole[i : i + job.n])
            for i, tokens in zip(starts, mask.sum(1).tolist(), strict=True)
        ]

    def _prompts(self, prompts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Ids and mask of every prompt, padded on the left; [Q, P] each."""
        # a chat template has written the special tokens already, as in Encoder
        special = not self.tokenizer.chat_template
        rows = self.tokenizer(list(prompts), add_special_tokens=special)["input_ids"]
        width = max(len(row) for row in rows)
        ids = torch.tensor([[0] * (width - len(row)) + row for row in rows])
        mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows])
        return ids.to(self.model.device), mask.to(self.model.device)

    def _decode(self, ids: Tensor, mask: Tensor, n: int, generator: torch.Generator) -> Tensor:
        """Token ids of ``n`` responses to each prompt, ``stop`` after the end; [Q n, up to max_new_tokens].

        A finished row goes on for nothing until enough are finished: moving the others' cache costs more.
        """
        count, device = len(ids) * n, ids.device
        out = torch.full((count, self.max_new_tokens), self.stop, device=device)
        alive = torch.arange(count, device=device)
        logits, cache = self._next(ids, mask, None)
        logits, mask = logits.repeat_interleave(n, 0), mask.repeat_interleave(n, 0)
        cache.batch_repeat_interleave(n)
        for t in range(self.max_new_tokens):
            uniform = torch.rand(count, generator=generator, dtype=torch.float64).to(device)
            drawn = self._draw(logits, uniform[alive])
            out[alive, t] = drawn if t == 0 else drawn.where(out[alive, t - 1] != self.stop, self.stop)
            going = (out[alive, t] != self.stop).nonzero().squeeze(1)
            if not len(going) or t + 1 == self.max_new_tokens:
                break
            if len(going) < self.FULL * len(alive):
                cache.batch_select_indices(going)
                alive, mask = alive[going], mask[going]
            mask = torch.cat([mask, mask.new_ones(len(alive), 1)], dim=1)
            logits, cache = self._next(out[alive, t : t + 1], mask, cache)
        return out[:, : t + 1]

    def _next(self, ids: Tensor, mask: Tensor, cache: Any) -> tuple[Tensor, Any]:
        """Logits of the token after ``ids``, and the cache that has seen them; [R, L] -> [R, V]."""
        positions = (mask.cumsum(1) - 1).clamp(min=0)[:, -ids.shape[1] :]
        result = self.model(
            input_ids=ids,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
        return result.logits[:, -1].float(), result.past_key_values

    def _draw(self, logits: Tensor, uniform: Tensor) -> Tensor:
        """One token id for each row; [R, V], [R] -> [R]. In float64, or the last token would be drawn now and then."""
        if self.temperature == 0:
            return logits.argmax(-1)
        reached = torch.softmax(logits / self.temperature, -1).double().cumsum(-1)  # [R, V]
        at = uniform.unsqueeze(1) * reached[:, -1:]
        return torch.searchsorted(reached, at, right=True).squeeze(1)  # right: never a token of probability 0


class LocalSampler:
    """Sampling from a model on this machine's CPU cores, or in this process on another ``device``.

    Prompts are dealt into jobs of similar length and every job draws from a generator of its own, seeded by
    (seed, job): the responses depend on the seed, the prompts and n, not on the workers (who have one torch
    thread each; without them let this process have one too). ``workers`` processes of one thread each are
    faster than one process of many threads at this size. At temperature 0 every response is the likeliest.
    """

    FEW = 8  # jobs that are done here before workers have started

    def __init__(
        self,
        model: str,
        *,
        temperature: float = 1.0,
        max_new_tokens: int = 512,
        workers: int = 1,
        seed: int = 0,
        dtype: Dtype = "float32",
        progress: str | None = None,
        device: str = "cpu",
    ) -> None:
        _refuse_negative(temperature)
        self.settings = (model, dtype, temperature, max_new_tokens)
        self.workers = workers if torch.device(device).type == "cpu" else 1
        self.seed = seed
        self.progress = progress
        self.device = device

    def sample(self, prompts: Sequence[str], n: int) -> list[list[str]]:
        return _sampled(self.draw, prompts, n, self.seed, self.progress)

    def draw(self, jobs: Sequence[DecodingJob]) -> Generator[list[Drawn], None, None]:
        """What each job brings, in order and as it comes; close it to leave jobs undone."""
        if self.workers <= 1 or len(jobs) <= self.FEW:
            if jobs:
                yield from map(_decoder_of(*self.settings, self.device), jobs)
            return
        with ProcessPoolExecutor(
            self.workers,
            multiprocessing.get_context("spawn"),
            initializer=_start_worker,
            initargs=self.settings,
        ) as pool:
            yield from pool.map(_work, jobs)  # when closed, it cancels what is not begun


def dealt(prompts: Sequence[str], n: int) -> list[list[int]]:
    """Numbers of prompts of similar length, those together whose ``n`` responses are drawn in one job."""
    order = sorted(range(len(prompts)), key=lambda i: (len(prompts[i]), i))
    size = max(ROWS // n, 1)
    return [order[i : i + size] for i in range(0, len(order), size)]


def _sampled(
    draw: Callable[[Sequence[DecodingJob]], Generator[list[Drawn], None, None]],
    prompts: Sequence[str],
    n: int,
    seed: int,
    progress: str | None = None,
) -> list[list[str]]:
    """``n`` responses to each prompt, drawn in jobs of prompts of similar length."""
    if n < 1:
        raise ValueError(f"{n} responses to each prompt are less than one; ask for n >= 1")
    parts = dealt(prompts, n)
    jobs = [DecodingJob(tuple(prompts[i] for i in part), n, f"{seed}-{j}") for j, part in enumerate(parts)]
    out: list[list[str]] = [[] for _ in prompts]
    with closing(draw(jobs)) as drawn:
        shown = track(drawn, progress or "", len(jobs), transient=True, disable=not progress)
        for part, responses in zip(parts, shown, strict=True):
            for i, of_prompt in zip(part, responses, strict=True):
                out[i] = of_prompt.texts
    return out


def _decoder_of(model: str, dtype: Dtype, temperature: float, max_new_tokens: int, device: str = "cpu") -> Decoder:
    loaded: PreTrainedModel = cast(Any, load_model(model, dtype)).to(device)
    return Decoder(loaded, load_tokenizer(model), temperature, max_new_tokens)


_decoder: Decoder | None = None  # one for each worker process


def _start_worker(*settings: Any) -> None:
    global _decoder
    torch.set_num_threads(1)
    _decoder = _decoder_of(*settings)


def _work(job: DecodingJob) -> list[Drawn]:
    assert _decoder is not None
    return _decoder(job)


def _refuse_negative(temperature: float) -> None:
    if not temperature >= 0:  # nan is neither
        raise ValueError(f"temperature {temperature} is negative; give 0 for the likeliest tokens, or more to draw")


def _as_int(seed: str) -> int:
    return int.from_bytes(hashlib.sha256(seed.encode()).digest()[:8], "little") >> 1
