"""Rollouts from a causal language model in this process or in worker processes."""

from __future__ import annotations

import hashlib
import multiprocessing
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from typing import Any, Protocol, cast

import torch
from rich.progress import track
from torch import Tensor

from lit_prm.models import Dtype, load_model, load_tokenizer


class Sampler(Protocol):
    """A source of responses."""

    def sample(self, prompts: Sequence[str], n: int) -> list[list[str]]:
        """``n`` responses to each rendered prompt, in order."""
        ...


class LocalSampler:
    """Ancestral sampling from a model on this machine's CPU cores.

    Prompts are dealt into chunks of similar length and every chunk draws from a generator of its own,
    seeded by (seed, chunk): the responses depend on the seed, the prompts and n, not on the workers (who
    have one torch thread each; without them let this process have one too). ``workers`` processes of one
    thread each are faster than one process of many threads at this size.
    """

    ROWS = 384  # sequences decoded together: more bring nothing on a CPU
    FEW = 8  # chunks that are done here before workers have started

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
    ) -> None:
        if temperature <= 0:
            raise ValueError(f"temperature {temperature} is not positive; for nearly greedy responses give 0.01")
        self.settings = (model, dtype, temperature, max_new_tokens)
        self.workers = workers
        self.seed = seed
        self.progress = progress

    def sample(self, prompts: Sequence[str], n: int) -> list[list[str]]:
        if n < 1:
            raise ValueError(f"{n} responses to each prompt are less than one; ask for n >= 1")
        order = sorted(range(len(prompts)), key=lambda i: (len(prompts[i]), i))
        size = max(self.ROWS // n, 1)
        chunks = [order[i : i + size] for i in range(0, len(order), size)]
        jobs = [([prompts[i] for i in chunk], n, f"{self.seed}-{c}") for c, chunk in enumerate(chunks)]
        out: list[list[str]] = [[] for _ in prompts]
        with ExitStack() as stack:
            results = track(
                self._results(jobs, stack),
                self.progress or "",
                len(jobs),
                transient=True,
                disable=not self.progress,
            )
            for chunk, responses in zip(chunks, results, strict=True):
                for i, texts in zip(chunk, responses, strict=True):
                    out[i] = texts
        return out

    def _results(self, jobs: Sequence[_Job], stack: ExitStack) -> Iterator[list[list[str]]]:
        if self.workers <= 1 or len(jobs) <= self.FEW:
            decoder = _Decoder(*self.settings)
            return (decoder(job) for job in jobs)
        pool = ProcessPoolExecutor(
            self.workers,
            multiprocessing.get_context("spawn"),
            initializer=_start_worker,
            initargs=self.settings,
        )
        return stack.enter_context(pool).map(_work, jobs)


_Job = tuple[list[str], int, str]  # prompts, responses for each, seed


class _Decoder:
    """A loaded model that turns jobs into responses."""

    def __init__(self, model: str, dtype: Dtype, temperature: float, max_new_tokens: int) -> None:
        self.model = load_model(model, dtype)
        self.tokenizer: Any = load_tokenizer(model)
        self.temperature = temperature
        self.max_new_tokens = max_new_tokens
        self.stop = cast(int, self.tokenizer.eos_token_id)

    @torch.inference_mode()
    def __call__(self, job: _Job) -> list[list[str]]:
        prompts, n, seed = job
        generator = torch.Generator().manual_seed(_as_int(seed))
        tokens = self._decode(*self._prompts(prompts, n), generator).tolist()
        kept = [row[: row.index(self.stop)] if self.stop in row else row for row in tokens]
        texts = self.tokenizer.batch_decode(kept, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return [texts[i : i + n] for i in range(0, len(texts), n)]

    def _prompts(self, prompts: Sequence[str], n: int) -> tuple[Tensor, Tensor]:
        """Ids and mask of every prompt ``n`` times, padded on the left; [R, P] each."""
        # a chat template has written the special tokens already, as in Encoder
        special = not self.tokenizer.chat_template
        rows = self.tokenizer(list(prompts), add_special_tokens=special)["input_ids"]
        width = max(len(row) for row in rows)
        ids = torch.tensor([[0] * (width - len(row)) + row for row in rows])
        mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows])
        return ids.repeat_interleave(n, 0), mask.repeat_interleave(n, 0)

    def _decode(self, ids: Tensor, mask: Tensor, generator: torch.Generator) -> Tensor:
        """Sampled token ids, ``stop`` after the end; [R, up to max_new_tokens]. Finished rows leave the batch."""
        out = torch.full((len(ids), self.max_new_tokens), self.stop)
        alive = torch.arange(len(ids))
        cache: Any = None
        for t in range(self.max_new_tokens):
            positions = (mask.cumsum(1) - 1).clamp(min=0)[:, -ids.shape[1] :]
            result = self.model(
                input_ids=ids,
                attention_mask=mask,
                position_ids=positions,
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=1,
            )
            cache = result.past_key_values
            probabilities = torch.softmax(result.logits[:, -1].float() / self.temperature, -1)
            drawn = torch.multinomial(probabilities, 1, generator=generator)
            out[alive, t] = drawn.squeeze(1)
            going = (drawn.squeeze(1) != self.stop).nonzero().squeeze(1)
            if not len(going):
                break
            if len(going) < len(alive):
                cache.batch_select_indices(going)
            ids, alive = drawn[going], alive[going]
            mask = torch.cat([mask[going], mask.new_ones(len(going), 1)], dim=1)
        return out[:, : t + 1]


_decoder: _Decoder | None = None  # one for each worker process


def _start_worker(*settings: Any) -> None:
    global _decoder
    torch.set_num_threads(1)
    _decoder = _Decoder(*settings)


def _work(job: _Job) -> list[list[str]]:
    assert _decoder is not None
    return _decoder(job)


def _as_int(seed: str) -> int:
    return int.from_bytes(hashlib.sha256(seed.encode()).digest()[:8], "little") >> 1
