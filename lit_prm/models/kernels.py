"""Options that make the same policy faster: torch.compile, and the fused kernels of Liger."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, cast

import torch
from transformers import PreTrainedModel

from lit_prm.models.zero_weights import is_cut


class Kernels(ABC):
    """Changes how a loaded policy computes. Its weights, their names and its log-probs do not change."""

    @abstractmethod
    def __call__(self, policy: PreTrainedModel) -> None: ...


class Compiled(Kernels):
    """Applies torch.compile to all layers below the language-model head, for any lengths. The first batches are slower.

    ``backend`` is one of torch.compile's. ``inductor`` needs a C++ compiler on a CPU, Triton on a GPU.
    """

    def __init__(self, backend: str = "inductor") -> None:
        known = torch.compiler.list_backends(exclude_tags=())
        if backend not in known:
            raise ValueError(f"torch.compile has no backend {backend}. Give one of {', '.join(known)}.")
        self.backend = backend

    def __call__(self, policy: PreTrainedModel) -> None:
        if any(map(is_cut, policy.parameters())):
            raise ValueError(
                "ZeRO-3 gathers weights between layers, which torch.compile cannot trace. Leave out Compiled, or use "
                "stage 2."
            )
        policy.base_model.compile(backend=self.backend, dynamic=True)


class Liger(Kernels):
    """Fused Triton kernels for norms, rotary positions and MLPs (Hsu et al. 2024, Liger Kernel); CUDA only.

    Liger's own loss is not used: ours reads response positions alone. Rotary positions are replaced for every model of
    the architecture in this process.
    """

    def __call__(self, policy: PreTrainedModel) -> None:
        if not torch.cuda.is_available():
            raise ValueError(
                "Liger's kernels need a CUDA device, and torch sees none. Leave out lit_prm.models.kernels.Liger."
            )
        try:
            from liger_kernel.transformers import monkey_patch
        except ImportError as error:
            raise ValueError(f"Liger's kernels are not installed ({error}). Run pip install liger-kernel.") from error
        change = cast(Any, monkey_patch.MODEL_TYPE_TO_APPLY_LIGER_FN).get(policy.config.model_type)
        if change is None:
            raise ValueError(
                f"Liger has no kernels for {policy.config.model_type}. Leave out lit_prm.models.kernels.Liger."
            )
        change(model=policy, cross_entropy=False, fused_linear_cross_entropy=False)
