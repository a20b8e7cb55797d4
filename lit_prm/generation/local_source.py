"""Samples from a model in this process or its workers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from lit_prm.data.encoding import Encoder, tokenizer_identity
from lit_prm.data.records import Problem
from lit_prm.data.steps import BlankLine
from lit_prm.generation.local_sampler import DecodingJob, LocalSampler, dealt
from lit_prm.generation.samples import Arrival, Arrivals, Prompt, Sample, seed_of, writable
from lit_prm.models.language_model import load_tokenizer
from lit_prm.models.weights import weights_hash


class LocalSource:
    """Samples from a local model, in jobs of prompts of similar length; a job's seed is a hash of all its prompts.

    Law: a job that is drawn again gives the same samples. If any sample of a job is missing, the whole job is drawn.
    """

    trouble = ""

    def __init__(
        self, model: str, *, temperature: float, max_tokens: int, seed: int, template: str, dtype: str, workers: int,
        device: str,
    ) -> None:  # fmt: skip
        tokenizer = load_tokenizer(model)
        self.encoder = Encoder(tokenizer, BlankLine(), prompt_template=template)
        self.sampler = LocalSampler(
            model, temperature=temperature, max_new_tokens=max_tokens, workers=workers, dtype=dtype, device=device
        )
        self.settings: dict[str, Any] = {
            "model": Path(model).resolve().name if Path(model).is_dir() else model,
            "model_weights": weights_hash(model), "tokenizer": tokenizer_identity(tokenizer), "api": "in process",
            "template": template, "temperature": temperature, "max_tokens": max_tokens, "seed": seed, "dtype": dtype,
        }  # fmt: skip

    def draw(self, prompts: Sequence[Prompt], n: int, missing: Sequence[Sequence[int]]) -> Arrivals:
        rendered = [self.encoder.prompt_text(Problem(prompt=prompt, id="")) for prompt in prompts]
        parts = [part for part in dealt(rendered, n) if any(missing[i] for i in part)]
        seeds = [seed_of(json.dumps([self.settings, [rendered[i] for i in part], n])) for part in parts]
        jobs = [
            DecodingJob(tuple(rendered[i] for i in part), n, str(seed)) for part, seed in zip(parts, seeds, strict=True)
        ]
        with closing(self.sampler.draw(jobs)) as drawn:
            for part, seed, of_part in zip(parts, seeds, drawn, strict=True):
                for i, of_prompt in zip(part, of_part, strict=True):
                    for number, (text, whole) in enumerate(zip(of_prompt.texts, of_prompt.whole, strict=True)):
                        yield Arrival(i, number, Sample(writable(text), "stop" if whole else "length", seed))
