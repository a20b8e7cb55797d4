"""The scorer of the reward models that this project trains: the rewards of training, for any responses."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate, pairwise
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lit_prm.data.batch import Batch, Encoded, collate
from lit_prm.data.encoding import Encoder
from lit_prm.data.records import Group, Rollout
from lit_prm.models.probes import moved
from lit_prm.models.reference import Reference, Uniform
from lit_prm.models.reward_model import RewardModel
from lit_prm.models.shared_prompts import PART
from lit_prm.models.values import prefix_values, response_rewards, step_rewards, step_values
from lit_prm.scoring.base import Detail, Scorer
from lit_prm.scoring.check_samples import refuse_disagreement
from lit_prm.scoring.planning import planned
from lit_prm.scoring.rewards import Rewards, Span

Floats = NDArray[np.float32]


class ModelScorer(Scorer):
    """Scores with a ``RewardModel``: steps by its ``step_rewards``, tokens as if each were a step.

    The encoder must have ``spans``: they say which text each token stands for. Responses to one problem share its
    prompt, unless ``whole_rows`` gives a reason why they cannot. Equal responses are scored once. ``budget`` is the
    number of padded tokens of a batch, by default one that suits the device.
    """

    def __init__(
        self,
        reward_model: RewardModel,
        encoder: Encoder,
        *,
        identity: Mapping[str, Any],
        baseline: Reference | None = None,
        device: str = "cpu",
        budget: int | None = None,
        detail: Detail = "tokens",
        whole_rows: str | None = None,
    ) -> None:
        self.reward_model = reward_model.eval().to(device)
        self.reward_model.replace_references(_Remembered)
        self.encoder = encoder
        self.baseline = baseline or _scoring_reference(self.reward_model)
        self.device = torch.device(device)
        self.budget = budget or PART[self.device.type]
        self.detail = detail if _rewards_tokens(self.reward_model) else "steps"
        self.whole_rows = whole_rows
        self.identity = dict(identity)
        self.rounding = (str(self.device), self.budget, whole_rows is None)

    def score(self, groups: Sequence[Group]) -> list[list[Rewards]]:
        groups = self.written_out(groups)
        rows = self.encoder.encode(groups)
        distinct: dict[tuple[bytes, bytes], Encoded] = {}
        keys = [(row.key, row.step.tobytes()) for row in rows]
        for key, row in zip(keys, rows, strict=True):
            distinct.setdefault(key, row)
        read = dict(zip(distinct, self._read(list(distinct.values())), strict=True))
        rewards = iter(
            _rewards(self._spans(rollout, rows[i]), rows[i], read[keys[i]], self.detail)
            for i, rollout in enumerate(r for g in groups for r in g.rollouts)
        )
        return [[next(rewards) for _ in group.rollouts] for group in groups]

    def check(self, groups: Sequence[Group]) -> None:
        """Raise ValueError if training would give a few of these responses other rewards than ``score`` does."""
        self.refuse_too_long(groups)
        refuse_disagreement(self, self.by_training, groups)

    def written_out(self, groups: Sequence[Group]) -> Sequence[Group]:
        return self.encoder.written_out(groups)

    def fitting(self, groups: Sequence[Group]) -> Sequence[Group]:
        return self.encoder.fitting(groups)

    def refuse_too_long(self, groups: Sequence[Group]) -> None:
        """Raise ValueError if prompts leave no room for a response; the error gives a limit that suffices."""
        limit, sizes = self.encoder.max_length, self.encoder.prompt_lengths(groups)
        long = [group.problem.id for group, size in zip(groups, sizes, strict=True) if size >= limit]
        if long:
            raise ValueError(
                f"{len(long)} of {len(groups)} problems have a prompt that fills the {limit} tokens of max_length. The "
                f"first is {long[0]!r}; the longest has {max(sizes)} tokens. Give a larger limit, e.g. --max-length "
                f"{2 * max(sizes)}, or leave these problems out."
            )

    @torch.no_grad()
    def by_training(self, group: Group) -> Rewards:
        """Rewards of a group's first response as in training: a batch of one row, the prompt and the response."""
        group = self.written_out([group.keep([0])])[0]
        row = self.encoder.encode([group])[0]
        read = next(self._of_batch(moved(collate([row]), self.device)))
        return _rewards(self._spans(group.rollouts[0], row), row, read, self.detail)

    @torch.no_grad()
    def _read(self, rows: Sequence[Encoded]) -> list[_Read]:
        by_row: dict[int, _Read] = {}
        for batch, shares in planned(rows, self.budget, may_share=self.whole_rows is None):
            collated = moved(collate([rows[i] for i in batch], share_prompts=shares), self.device)
            by_row |= zip(batch, self._of_batch(collated), strict=True)
        return [by_row[i] for i in range(len(rows))]

    def _of_batch(self, batch: Batch) -> Iterator[_Read]:
        values = self.reward_model(batch)
        rewards, valid = self.reward_model.step_rewards(values, batch.step)
        tokens = self.reward_model.step_rewards(values, _each_token(batch.step))[0]
        columns = [response_rewards(values, batch.length.to(values.device)), rewards, valid, tokens]
        columns.append(step_values(values, batch.step)[0])
        if self.baseline is not None:
            logps = self.baseline.logps(batch)
            columns.append(step_rewards(prefix_values(logps), batch.step)[0])
        yield from (_Read(*row) for row in zip(*(column.cpu().numpy() for column in columns), strict=True))

    def _spans(self, rollout: Rollout, row: Encoded) -> list[Span]:
        if self.encoder.own_steps:
            lengths = [len(step) for step in self.encoder.split(rollout)] or [0]
            return list(pairwise(accumulate(lengths, initial=0)))
        return _tiles(row, len(rollout.response))


class _Read(NamedTuple):
    """The outputs for one response. Arrays are as long as the longest response of its batch needs."""

    reward: np.float32
    step_rewards: Floats
    valid: NDArray[np.bool_]
    token_rewards: Floats
    step_values: Floats
    reference_logps: Floats | None = None


class _Remembered(Reference):
    """Keeps the log-probs of the last batch, which two outputs need, so that the source computes them once."""

    def __init__(self, source: Reference) -> None:
        self.source = source
        self._last: tuple[Batch, Tensor] | None = None

    def logps(self, batch: Batch) -> Tensor:
        if self._last is None or self._last[0] is not batch:
            self._last = batch, self.source.logps(batch)
        return self._last[1]

    def identity(self) -> dict[str, Any]:
        return self.source.identity()


def _rewards_tokens(reward_model: RewardModel) -> bool:
    """True if every token of a response has a reward; False if only the last one has."""
    return bool(reward_model.step_rewards(torch.zeros((1, 2)), torch.tensor([[0, 1]]))[1].all())


def _scoring_reference(reward_model: RewardModel) -> Reference | None:
    """The reference whose log-probs are written beside the rewards; None without a reference model."""
    scoring = reward_model.references()[-1:]
    return next((r for r in scoring if not isinstance(r.source if isinstance(r, _Remembered) else r, Uniform)), None)


def _rewards(spans: Sequence[Span], row: Encoded, read: _Read, detail: Detail) -> Rewards:
    valid, n = read.valid, len(row) - row.prompt_length
    with_tokens = detail == "tokens"
    return Rewards(
        reward=shortest(np.asarray([read.reward]))[0],
        step_spans=tuple(spans),
        step_rewards=_where(valid, read.step_rewards, len(spans)),
        step_values=_where(valid, read.step_values, len(spans)),
        tokens=n,
        truncated=row.truncated,
        reference_logps=None if read.reference_logps is None else _where(valid, read.reference_logps, len(spans)),
        token_spans=tuple((a, b) for a, b in row.spans.tolist()) if with_tokens else (),
        token_rewards=tuple(shortest(read.token_rewards[:n])) if with_tokens else (),
    )


def _where(valid: NDArray[np.bool_], numbers: Floats, count: int) -> tuple[float | None, ...]:
    """One number for each of ``count`` steps, None for an invalid one. The batch may have more or fewer steps."""
    known = [x if ok else None for x, ok in zip(shortest(numbers), valid.tolist(), strict=True)][:count]
    return (*known, *[None] * (count - len(known)))


def shortest(numbers: Floats) -> list[float | None]:
    """Floats of the shortest decimals that round to the same float32, so that files hold no meaningless digits.

    None for nan and infinities.
    """
    floats = map(float, numbers.astype(np.float32).astype(str))
    return [number if math.isfinite(number) else None for number in floats]


def _each_token(step: Tensor) -> Tensor:
    """Step indices that make every response token a step of its own; [B, T] -> [B, T]."""
    inside = step >= 0
    return (inside.cumsum(1) - 1).where(inside, -1)


def _tiles(row: Encoded, length: int) -> list[Span]:
    """Spans that cut the text where tokens begin. What truncation left out is the last span."""
    starts = np.maximum.accumulate(row.spans[:, 0]).tolist()
    ends = [*starts[1:], int(row.spans[-1, 1]) if row.truncated else length] if starts else [0]
    edges = [0, *ends, *([length] if row.truncated or not starts else [])]
    return list(pairwise(edges))
