"""F1 on ProcessBench that papers report, with their own models and thresholds. We measured none of these."""

from __future__ import annotations

from typing import NamedTuple


class Reported(NamedTuple):
    """F1 of a model in percent: the average and, if reported, gsm8k, math, olympiadbench, omnimath in this order."""

    model: str
    average: float
    source: str
    subsets: tuple[float, float, float, float] | None = None


QWEN = "Zhang et al. 2025, arXiv 2501.07301"
IPVRM = "IPVRM, arXiv 2604.13197"

REPORTED: tuple[Reported, ...] = (
    Reported("EurusPRM-Stage1 7B", 31.2, QWEN, (44.3, 35.6, 21.7, 23.1)),
    Reported("EurusPRM-Stage2 7B", 31.3, QWEN, (47.3, 35.7, 21.2, 20.9)),
    Reported("Math-Shepherd PRM 7B", 31.5, QWEN),
    Reported("RLHFlow PRM Mistral 8B", 28.4, QWEN),
    Reported("RLHFlow PRM DeepSeek 8B", 26.6, QWEN),
    Reported("Skywork PRM 7B", 42.1, QWEN),
    Reported("Qwen2.5-Math-7B, PRM800K", 56.5, QWEN),
    Reported("Qwen2.5-Math-PRM-7B", 73.5, QWEN),
    Reported("Qwen2.5-Math-PRM-72B", 78.3, QWEN),
    Reported("GPT-4o, as a critic", 61.9, QWEN),
    Reported("QwQ-32B-Preview, as a critic", 71.5, QWEN),
    Reported("o1-mini, as a critic", 87.9, QWEN),
    Reported("implicit PRM CE, Qwen3-0.6B, step rewards", 25.4, IPVRM),
    Reported("implicit PRM CE, Qwen3-0.6B, prefix values", 23.9, IPVRM),
    Reported("implicit PRM DPO, Qwen3-0.6B, step rewards", 27.8, IPVRM),
    Reported("IPVRM, Qwen3-0.6B, step rewards", 39.1, IPVRM),
    Reported("implicit PRM CE, Llama3.2-1B, step rewards", 27.9, IPVRM),
    Reported("IPVRM, Llama3.2-1B, step rewards", 34.0, IPVRM),
)
