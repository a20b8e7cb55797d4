"""Known released implicit PRMs: what their scores depend on and their folder or hub name does not say."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lit_prm.scoring.spec import RewardSpec, named


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """A family of policies trained as implicit rewards on ``Step k:`` responses, which their config does not mention.

    ``names`` are the beginnings of the last part of their names, in lower case; ``reference`` is the model that they
    were trained against.
    """

    names: tuple[str, ...]
    reference: str
    aggregate: str = "min"
    beta: float = 0.05

    def spec(self, policy: str, *, reference: str | None = None, dtype: str = "float32") -> RewardSpec:
        """The spec of one policy of the family. ``reference`` replaces the hub name, e.g. by a local copy."""
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
"""By family. Beta is that of training; the authors' scripts multiply log-ratios by 0.001 instead, which orders
responses in the same way. The card of EurusPRM-Stage2 uses accumulated rewards: these are the ``step_values``, whose
last one is the sum."""


def release_of(source: str) -> Release | None:
    """The release that a folder or hub model belongs to by its name, None for any other model."""
    name = Path(source).name.lower()
    return next((r for r in RELEASES.values() if name.startswith(r.names)), None)
