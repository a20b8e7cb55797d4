"""Samples responses from a causal language model, in this process or in worker processes."""

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

from lit_prm.generation.roomy_cache import roomy
from lit_prm.models.language_model import Dtype, load_model, load_tokenizer

ROWS = 384  # sequences of one batch; more are not faster on a CPU


class Sampler(Protocol):
    """A source of responses."""

    def sample(self, prompts: Sequence[str], n: int) -> list[list[str]]:
        """``n`` responses to each rendered prompt, in order."""
        ...


class DecodingJob(NamedTuple):
    """A batch of prompts with ``n`` responses to each. The responses depend only on the model and these fields."""

    prompts: tuple[str, ...]
    n: int
    seed: str


class Drawn(NamedTuple):
    """The n responses to one prompt, and their numbers of tokens."""

    texts: list[str]
    generated: list[int]  # tokens of each response, with its end-of-turn token
    prompt: int  # tokens of the prompt
    whole: list[bool]  # whether each response ended with an end token, not at max_new_tokens


class Decoder:
    """Samples responses from a loaded model, on the model's device; the model's train or eval mode stays.

    Each token is the inverse of the tempered distribution function at one uniform random number, so the draws of a row
    depend only on the seed and the row's place in the job. Temperature 0 takes the most likely token. The model reads
    a prompt once for all its responses.
    """

    FULL = 0.75  # finished rows leave the batch when a smaller share of rows is unfinished

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

        Finished rows stay in the batch until enough rows are finished: moving the cache of the others costs more.
        """
        count, device = len(ids) * n, ids.device
        out = torch.full((count, self.max_new_tokens), self.stop, device=device)
        alive = torch.arange(count, device=device)
        logits, cache = self._next(ids, mask, None)
        logits, mask = logits.repeat_interleave(n, 0), mask.repeat_interleave(n, 0)
        cache.batch_repeat_interleave(n)
        cache.layers = list(map(roomy, cache.layers))
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
        """Logits of the token after ``ids`` and the updated cache; [R, L] -> [R, V]."""
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
        """One token id for each row; [R, V], [R] -> [R]. Float32 sums would sometimes draw the last token."""
        if self.temperature == 0:
            return logits.argmax(-1)
        reached = torch.softmax(logits / self.temperature, -1).double().cumsum(-1)  # [R, V]
        at = uniform.unsqueeze(1) * reached[:, -1:]
        return torch.searchsorted(reached, at, right=True).squeeze(1)  # right: never a token of probability 0


class LocalSampler:
    """Samples from a model with ``workers`` processes on the CPU, or in this process on another ``device``.

    Prompts are split into jobs of similar length. Every job has a random generator of its own, seeded by (seed, job).
    Law: the responses depend on the seed, the prompts and n, not on the number of workers. Each worker has one torch
    thread, since several processes are faster than several threads for small models; for equal rounding set one thread
    in this process too.
    """

    FEW = 8  # so few jobs are done in this process, before workers would have started

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
        """Yield the responses of each job, in order; closing the generator cancels the jobs that are left."""
        if self.workers <= 1 or len(jobs) <= self.FEW:
            if jobs:
                yield from map(_decoder_of(*self.settings, self.device), jobs)
            return
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload([__name__])  # one process imports this module, for all workers of all calls
        with ProcessPoolExecutor(self.workers, context, initializer=_start_worker, initargs=self.settings) as pool:
            yield from pool.map(_work, jobs)  # closing it cancels the jobs that have not begun


def dealt(prompts: Sequence[str], n: int) -> list[list[int]]:
    """Indices of prompts in jobs: prompts of similar length, with ``n`` responses to each."""
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
        raise ValueError(f"{n} responses to each prompt are less than one. Set n to 1 or more.")
    parts = dealt(prompts, n)
    jobs = [DecodingJob(tuple(prompts[i] for i in part), n, f"{seed}-{j}") for j, part in enumerate(parts)]
    out: list[list[str]] = [[] for _ in prompts]
    with closing(draw(jobs)) as drawn:
        tracked = track(drawn, progress or "", len(jobs), transient=True, disable=not progress)
        for part, responses in zip(parts, tracked, strict=True):
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
        raise ValueError(
            f"temperature {temperature} is negative. Give 0 for the most likely tokens, or more to sample."
        )


def _as_int(seed: str) -> int:
    return int.from_bytes(hashlib.sha256(seed.encode()).digest()[:8], "little") >> 1
