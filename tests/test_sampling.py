from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from lit_prm.generation.local_sampler import Decoder, DecodingJob, LocalSampler
from lit_prm.models.language_model import load_model, load_tokenizer

PROMPTS = ["Add 3 and 4.", "7 * 2 =", "Find the sum of the first five odd numbers.", "Hi"]


def sample(model: Path, prompts: list[str] = PROMPTS, n: int = 3, **settings: float) -> list[list[str]]:
    given = {"max_new_tokens": 8, **settings}
    return LocalSampler(str(model), **given).sample(prompts, n)  # type: ignore[arg-type]


# --- laws -----------------------------------------------------------------------------------------


def test_every_prompt_has_n_responses_and_the_seed_decides_them(policy_folder: Path) -> None:
    first = sample(policy_folder)
    assert [len(texts) for texts in first] == [3] * len(PROMPTS)
    assert sample(policy_folder) == first
    assert sample(policy_folder, seed=1) != first
    assert len({text for texts in first for text in texts}) > 8


def test_responses_belong_to_their_prompts_in_any_order(policy_folder: Path) -> None:
    order = [2, 0, 3, 1]
    turned = sample(policy_folder, [PROMPTS[i] for i in order], temperature=0.001)
    straight = sample(policy_folder, temperature=0.001)
    assert turned == [straight[i] for i in order]


def test_room_in_the_cache_changes_no_response(policy_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    roomy = sample(policy_folder)
    monkeypatch.setattr("lit_prm.generation.roomy_cache.ROOM", 0)  # a new buffer for every token
    assert sample(policy_folder) == roomy
    monkeypatch.setattr("lit_prm.generation.local_sampler.roomy", lambda layer: layer)  # transformers' own layers
    assert sample(policy_folder) == roomy


def test_a_worker_does_what_this_process_would(policy_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In this process: what a pool is given suffices, whatever the order in which jobs are done."""
    monkeypatch.setattr("lit_prm.generation.local_sampler.ROWS", 4)  # four chunks
    monkeypatch.setattr(LocalSampler, "FEW", 0)
    alone = sample(policy_folder)
    monkeypatch.setattr("lit_prm.generation.local_sampler.ProcessPoolExecutor", _Backwards)
    assert sample(policy_folder, workers=2) == alone


class _Backwards:
    """A pool of one worker, this process, that does the last job first."""

    def __init__(self, _: int, __: object, initializer: Callable[..., None], initargs: tuple[Any, ...]) -> None:
        initializer(*initargs)

    def __enter__(self) -> _Backwards:
        return self

    def __exit__(self, *_: object) -> None: ...

    def map(self, work: Callable[[Any], Any], jobs: list[Any]) -> Iterator[Any]:
        done = [work(job) for job in reversed(jobs)]
        return iter(done[::-1])


@pytest.mark.slow  # starting two processes takes seconds each
def test_workers_change_nothing(policy_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lit_prm.generation.local_sampler.ROWS", 4)  # four chunks
    monkeypatch.setattr(LocalSampler, "FEW", 0)
    alone, two = (LocalSampler(str(policy_folder), max_new_tokens=8, workers=w).sample(PROMPTS, 3) for w in (1, 2))
    assert alone == two


def test_the_caller_s_random_numbers_are_left_alone(policy_folder: Path) -> None:
    torch.manual_seed(3)
    before = torch.random.get_rng_state()
    sample(policy_folder, ["Hi"], 1)
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize("longest", [1, 3])
def test_no_response_is_longer_than_allowed(policy_folder: Path, longest: int) -> None:
    assert decode(decoder_of(policy_folder, 1.0, longest)).shape == (len(PROMPTS), longest)


def decoder_of(folder: Path, temperature: float = 1.0, max_new_tokens: int = 8) -> Decoder:
    return Decoder(load_model(str(folder)), load_tokenizer(str(folder)), temperature, max_new_tokens)


def decode(decoder: Decoder, n: int = 1) -> torch.Tensor:
    """Token ids of n responses to each prompt."""
    with torch.no_grad():
        return decoder._decode(*decoder._prompts(PROMPTS), n, torch.Generator().manual_seed(0))


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_when_finished_rows_leave_changes_nothing(
    temperature: float, policy_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoder = decoder_of(policy_folder, temperature, 24)
    decoder.stop = int(decode(decoder, 8).flatten().mode().values)  # many rows end, at different times
    drawn = []
    for full in (0.0, 0.75, 2.0):  # never, now and then, at once
        monkeypatch.setattr(Decoder, "FULL", full)
        drawn.append(decode(decoder, 8))
    ends = (drawn[0] == decoder.stop).sum(1)
    assert len(ends.unique()) > 1
    assert torch.equal(drawn[0], drawn[1])
    assert torch.equal(drawn[0], drawn[2])


def test_what_was_drawn_is_counted(policy_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A response's tokens and its end of turn, but no end where it was cut off."""
    decoder = decoder_of(policy_folder)
    end = decoder.stop
    rows = [[5, 6, end, end], [5, 6, 7, 8], [end] * 4, [5, 6, 7, end]]
    monkeypatch.setattr(decoder, "_decode", lambda *_: torch.tensor(rows))
    drawn = decoder(DecodingJob((PROMPTS[0], PROMPTS[3]), 2, "seed"))
    assert [d.generated for d in drawn] == [[3, 4], [1, 4]]
    assert [d.prompt for d in drawn] == [len(decoder.tokenizer(p)["input_ids"]) for p in (PROMPTS[0], PROMPTS[3])]
    assert drawn[1].texts == ["", decoder.tokenizer.decode([5, 6, 7])]


def test_a_loaded_model_gives_what_its_folder_does(policy_folder: Path) -> None:
    assert decoder_of(policy_folder).sample(PROMPTS, 3, seed=5) == sample(policy_folder, seed=5)


def test_jobs_left_undone_are_not_begun(policy_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[DecodingJob] = []
    work = Decoder.__call__
    monkeypatch.setattr(Decoder, "__call__", lambda self, job: done.append(job) or work(self, job))  # type: ignore[func-returns-value]
    drawn = LocalSampler(str(policy_folder), max_new_tokens=2).draw([DecodingJob(("Hi",), 1, str(i)) for i in range(5)])
    next(drawn)
    drawn.close()
    assert [job.seed for job in done] == ["0"]


# --- a slow, obvious reference --------------------------------------------------------------------


def logits(model: Path, ids: list[int]) -> torch.Tensor:
    with torch.no_grad():
        out: torch.Tensor = load_model(str(model))(input_ids=torch.tensor([ids])).logits[0, -1]
    return out


@pytest.mark.parametrize("temperature", [0, 0.001])
def test_cold_samples_are_the_likeliest_tokens_one_prompt_at_a_time(temperature: float, policy_folder: Path) -> None:
    """No padding, no cache, no shared prompt, one full forward per token."""
    tokenizer = load_tokenizer(str(policy_folder))
    for prompt, texts in zip(PROMPTS, sample(policy_folder, temperature=temperature, n=2), strict=True):
        ids = list(tokenizer(prompt)["input_ids"])
        start = len(ids)
        while len(ids) - start < 8:
            best = int(logits(policy_folder, ids).argmax())
            if best == tokenizer.eos_token_id:
                break
            ids.append(best)
        assert texts == [tokenizer.decode(ids[start:], skip_special_tokens=True)] * 2


def test_a_finished_row_leaves_the_others_as_they_were(policy_folder: Path) -> None:
    """Greedy tokens stay what they are up to the first that ends its row, and the end fills the rest."""
    decoder = decoder_of(policy_folder, temperature=0)
    decoder.stop = -1
    whole = decode(decoder)
    decoder.stop = int(whole[1, 2])  # the second row ends here
    for row, cut in zip(whole.tolist(), decode(decoder).tolist(), strict=True):
        kept = row[: row.index(decoder.stop)] if decoder.stop in row else row
        assert (cut + [decoder.stop] * 8)[:8] == kept + [decoder.stop] * (8 - len(kept))


def test_warm_samples_follow_the_tempered_softmax(policy_folder: Path) -> None:
    tokenizer = load_tokenizer(str(policy_folder))
    prompt, temperature, n = PROMPTS[1], 0.7, 3000
    p = torch.softmax(logits(policy_folder, list(tokenizer(prompt)["input_ids"])) / temperature, -1)
    (texts,) = sample(policy_folder, [prompt], n, temperature=temperature, max_new_tokens=1)
    drawn = Counter(texts)
    likely = p.topk(4)
    for token, chance in zip(likely.indices.tolist(), likely.values.tolist(), strict=True):
        spread = 5 * (chance * (1 - chance) / n) ** 0.5  # five standard deviations
        assert drawn[str(tokenizer.decode([token]))] / n == pytest.approx(chance, abs=spread)


# --- refusals -------------------------------------------------------------------------------------


@pytest.mark.parametrize("temperature", [-0.5, float("nan")])
def test_a_negative_temperature_is_refused(temperature: float) -> None:
    with pytest.raises(ValueError, match=r"is negative\. Give 0 for the most likely tokens"):
        LocalSampler("none", temperature=temperature)


def test_no_responses_are_refused_and_no_prompts_have_none(policy_folder: Path) -> None:
    with pytest.raises(ValueError, match="less than one"):
        sample(policy_folder, n=0)
    assert sample(policy_folder, []) == []
