"""Options that run the same policy in fewer or faster kernels: torch.compile, and those of Liger."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, cast

import torch
from transformers import PreTrainedModel

from lit_prm.models.zero_weights import is_cut


class Kernels(ABC):
    """Changes how a policy that is loaded computes; its weights, their names and its log-probs stay."""

    @abstractmethod
    def __call__(self, policy: PreTrainedModel) -> None: ...


class Compiled(Kernels):
    """torch.compile of all below the head of words, for any lengths; the first batches take longer.

    ``backend`` is one of torch.compile's. ``inductor`` wants a C++ compiler on a CPU, Triton on a GPU.
    """

    def __init__(self, backend: str = "inductor") -> None:
        known = torch.compiler.list_backends(exclude_tags=())
        if backend not in known:
            raise ValueError(f"torch.compile has no backend {backend}; give one of {', '.join(known)}")
        self.backend = backend

    def __call__(self, policy: PreTrainedModel) -> None:
        if any(map(is_cut, policy.parameters())):
            raise ValueError(
                "ZeRO-3 gathers weights between layers, which torch.compile cannot see; leave out Compiled, or take "
                "stage 2"
            )
        policy.base_model.compile(backend=self.backend, dynamic=True)


class Liger(Kernels):
    """Fused Triton kernels for norms, rotary positions and MLPs (Hsu et al. 2024, Liger Kernel); CUDA only.

    Its own loss is left out: ours reads response positions alone. Rotary positions are exchanged for every model of
    the architecture in this process.
    """

    def __call__(self, policy: PreTrainedModel) -> None:
        if not torch.cuda.is_available():
            raise ValueError(
                "Liger's kernels run on CUDA devices and there is none; leave out lit_prm.models.kernels.Liger"
            )
        try:
            from liger_kernel.transformers import monkey_patch
        except ImportError as error:
            raise ValueError(f"Liger's kernels are not installed ({error}): pip install liger-kernel") from error
        change = cast(Any, monkey_patch.MODEL_TYPE_TO_APPLY_LIGER_FN).get(policy.config.model_type)
        if change is None:
            raise ValueError(
                f"Liger has no kernels for {policy.config.model_type}; leave out lit_prm.models.kernels.Liger"
            )
        change(model=policy, cross_entropy=False, fused_linear_cross_entropy=False)
