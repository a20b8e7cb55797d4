"""Known released implicit PRMs: what a folder's or hub name leaves unsaid, as the scores hang on it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lit_prm.scoring.spec import RewardSpec, named


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """A family of policies trained as implicit rewards on ``Step k:`` responses, without saying so in their config.

    ``names`` are what the last part of their names begins with, in lower case; ``reference`` is what they were
    trained against.
    """

    names: tuple[str, ...]
    reference: str
    aggregate: str = "min"
    beta: float = 0.05

    def spec(self, policy: str, *, reference: str | None = None, dtype: str = "float32") -> RewardSpec:
        """How to score with one of them; ``reference`` replaces the hub's name by a local copy."""
        return RewardSpec(
            reward_model=named(
                "lit_prm.models.reward_model.ImplicitReward", {"policy": policy, "beta": self.beta, "dtype": dtype}
            ),
            reference=named("lit_prm.models.reference.Frozen", {"model": reference or self.reference, "dtype": dtype}),
            tokenizer=policy,
            steps=named("lit_prm.data.steps.Marked"),
            max_length=8192,
            aggregate=self.aggregate,
        )


RELEASES = {
    "ImplicitPRM": Release(names=("implicitprm",), reference="meta-llama/Llama-3.1-8B-Instruct"),
    "EurusPRM": Release(names=("eurusprm",), reference="Qwen/Qwen2.5-Math-7B-Instruct"),
}
"""By family. Beta is the training's; the authors' scripts multiply log-ratios by 0.001 instead, which orders responses
alike. The card of EurusPRM-Stage2 reads accumulated rewards: the ``step_values``, whose last one the sum is."""


def release_of(source: str) -> Release | None:
    """The release that a folder or hub model is by its name, None for any other."""
    called = Path(source).name.lower()
    return next((r for r in RELEASES.values() if called.startswith(r.names)), None)
