"""The rewards of one response: of its tokens, of its steps and of the whole, each with the text it belongs to."""

from __future__ import annotations

from dataclasses import dataclass

Span = tuple[int, int]  # characters [start, end) of the response


@dataclass(frozen=True, slots=True, kw_only=True)
class Rewards:
    """Rewards of one response. Step spans tile its text; the last of the scored tokens may be the end of turn.

    ``step_rewards`` are what selection aggregates, None for a step without one: no token begins in it, it was cut
    off, or only the last step is judged. ``step_values`` are the values q at the ends of steps, None for the same
    steps. Step rewards of an implicit reward telescope: they sum to ``reward``. ``reference_logps`` are the
    reference's own log-probs summed over each step, for the baselines without training. ``token_rewards`` are empty
    if only steps are scored. ``truncated``: the response was too long and is scored up to the cut. Where a model gives
    nan or an infinity there is no reward either: None.
    """

    reward: float | None
    step_spans: tuple[Span, ...]
    step_rewards: tuple[float | None, ...]
    step_values: tuple[float | None, ...]
    tokens: int
    truncated: bool = False
    reference_logps: tuple[float | None, ...] | None = None
    token_spans: tuple[Span, ...] = ()
    token_rewards: tuple[float | None, ...] = ()

    @property
    def lacks_numbers(self) -> bool:
        """True if the model gave nan or an infinity for the response or one of its tokens."""
        return self.reward is None or None in self.token_rewards

    def __post_init__(self) -> None:
        sizes = {len(self.step_spans), len(self.step_rewards), len(self.step_values)}
        sizes |= {len(self.reference_logps)} if self.reference_logps is not None else set()
        if len(sizes) != 1 or len(self.token_spans) != len(self.token_rewards):
            raise ValueError(
                f"Rewards do not belong together: {len(self.step_spans)} step spans, {len(self.step_rewards)} step "
                f"rewards, {len(self.step_values)} step values, {len(self.token_spans)} token spans, "
                f"{len(self.token_rewards)} token rewards. Give one of each per step and per token."
            )
