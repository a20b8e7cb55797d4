"""From per-token log-probs to log-ratios, values and step rewards: pure functions on tensors.

Letters: B responses, T tokens, S steps. Everything is float32 from the first line on: log-probs of
nearby models differ in digits that bfloat16 does not have.
"""

from __future__ import annotations

import torch
from torch import Tensor


def log_ratios(policy_logps: Tensor, reference_logps: Tensor) -> Tensor:
    """Log pi(y_t) - log pi_ref(y_t) per token, formed before any sum; [B, T], 0 outside responses.

    Subtracting token by token keeps what two sums of about -1e3 would cancel away.
    """
    return policy_logps.float() - reference_logps.float()


def prefix_values(token_rewards: Tensor) -> Tensor:
    """Value q_t of every response prefix: the running sum of token rewards (eq. 2); [B, T] -> [B, T].

    Summed in float64, so that differences of distant prefixes are right to float32 accuracy.
    """
    return token_rewards.double().cumsum(dim=1).float()


def response_rewards(values: Tensor, length: Tensor) -> Tensor:
    """The value at each response's last token, r(y) = q_T; [B, T], [B] -> [B]."""
    return values.gather(1, (length - 1).unsqueeze(1)).squeeze(1)


def step_ends(step: Tensor) -> tuple[Tensor, Tensor]:
    """Column of the last token of every step, and which steps have one; [B, T] -> [B, S], [B, S].

    ``step`` holds the step index of each token, -1 outside the response. A step that owns no token
    (one token can cover several short steps) is not valid.
    """
    columns = torch.arange(step.shape[1], device=step.device).expand_as(step)
    ends = columns.new_full((step.shape[0], max(int(step.max()) + 1, 1)), -1)
    ends.scatter_reduce_(1, step.clamp(min=0), columns.where(step >= 0, -1), "amax")
    return ends, ends >= 0


def step_values(values: Tensor, step: Tensor) -> tuple[Tensor, Tensor]:
    """The value at every step's last token, 0 where not valid, and the mask; [B, T] -> [B, S], [B, S]."""
    ends, valid = step_ends(step)
    return values.gather(1, ends.clamp(min=0)).where(valid, 0.0), valid


def step_rewards(values: Tensor, step: Tensor) -> tuple[Tensor, Tensor]:
    """Step rewards r_t = q_t - q_{t-1} at step ends (eq. 3), and their mask; [B, T] -> [B, S], [B, S].

    They telescope: over the valid steps of a response they sum to its reward. Invalid entries are 0.
    """
    at_end, valid = step_values(values, step)
    carried = _forward_fill(at_end, valid)
    previous = torch.cat([torch.zeros_like(carried[:, :1]), carried[:, :-1]], dim=1)
    return (at_end - previous).where(valid, 0.0), valid


def last_step(valid: Tensor) -> Tensor:
    """Mask of each response's last valid step; [B, S] -> [B, S]."""
    columns = torch.arange(1, valid.shape[1] + 1, device=valid.device).expand_as(valid)
    numbered = columns.where(valid, 0)
    return valid & (numbered == numbered.max(dim=1, keepdim=True).values)


def _forward_fill(values: Tensor, valid: Tensor) -> Tensor:
    """Each invalid entry takes the nearest valid one to its left, 0 if there is none; [B, S]."""
    columns = torch.arange(values.shape[1], device=values.device).expand_as(values)
    latest = columns.where(valid, -1).cummax(dim=1).values
    return values.gather(1, latest.clamp(min=0)).where(latest >= 0, 0.0)
