"""What a scorer says of one response: rewards of tokens, steps and the whole, each with the text it stands for."""

from __future__ import annotations

from dataclasses import dataclass

Span = tuple[int, int]  # characters [start, end) of the response


@dataclass(frozen=True, slots=True, kw_only=True)
class Rewards:
    """Rewards of one response. Step spans tile its text; of T scored tokens the last may be the end of turn.

    ``step_rewards`` are what selection aggregates, None where the scorer has none for a step (no token begins in
    it, it was cut off, or only the last one is judged); ``step_values`` are the values q at the steps' ends, None in
    the same places or where a scorer has none. For an implicit reward the former telescope: they sum to ``reward``.
    ``reference_logps`` are the reference's own log-probs summed over each step, for the baselines without training.
    ``token_rewards`` are empty when only steps were asked for. ``truncated``: the response did not fit and was
    scored up to the cut.
    """

    reward: float
    step_spans: tuple[Span, ...]
    step_rewards: tuple[float | None, ...]
    step_values: tuple[float | None, ...]
    tokens: int
    truncated: bool = False
    reference_logps: tuple[float | None, ...] | None = None
    token_spans: tuple[Span, ...] = ()
    token_rewards: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        sizes = {len(self.step_spans), len(self.step_rewards), len(self.step_values)}
        sizes |= {len(self.reference_logps)} if self.reference_logps is not None else set()
        if len(sizes) != 1 or len(self.token_spans) != len(self.token_rewards):
            raise ValueError(
                f"rewards do not belong together: {len(self.step_spans)} step spans, {len(self.step_rewards)} step "
                f"rewards, {len(self.step_values)} step values, {len(self.token_spans)} token spans, "
                f"{len(self.token_rewards)} token rewards; give one of each"
            )
