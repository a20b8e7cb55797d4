"""The resolver `${fast_precision:...}` of config files: bfloat16 where the device is fast at it."""

from __future__ import annotations

import torch


def fast_precision(accelerator: str = "auto") -> str:
    """The trainer's precision: bf16-mixed if the device computes bfloat16 at least as fast as float32, else 32-true."""
    if accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available():
        fast = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        fast = accelerator in ("auto", "cpu") and cpu_has_bf16()
    return "bf16-mixed" if fast else "32-true"


def cpu_has_bf16() -> bool:
    """True if this CPU has bfloat16 instructions (AVX512_BF16 or AMX)."""
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
