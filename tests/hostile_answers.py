"""Answers that are odd and harmless, and answers that are almost the right one; drawn from a seed.

No answer here makes outside software hang, crash or run anything: at worst a parser refuses it. What a judge might do
in spite of that is in ``stand_in_judges``.
"""

from __future__ import annotations

import gzip
import json
import random
import re
from collections.abc import Callable, Iterator
from pathlib import Path

Maker = Callable[[random.Random], str]


# ---- odd ----


def _unbalanced(rng: random.Random) -> str:
    parts = [*"{}[)$1x&", r"\frac{", r"\sqrt{", r"\left(", r"\right)", r"\[", r"\begin{pmatrix}"]
    return "".join(rng.choices(parts, k=rng.randint(2, 12)))


def _controls(rng: random.Random) -> str:
    codes = (*range(32), 0x7F, 0x85, 0x200B, 0x200E, 0x202E, 0x2066, 0xFEFF, 0xD800, 0xDFFF, 0x1D7D8, 0x0663, 0xFF11)
    return "".join(rng.choices([*map(chr, codes), "1", "2", "x", "+", r"\frac", "{", "}"], k=rng.randint(1, 30)))


def _noise(rng: random.Random) -> str:
    return "".join(rng.choices("0123456789xyz+-_=<>,.:;()[]{}|&%$# ", k=rng.randint(1, 30)))


def _long(rng: random.Random) -> str:
    unit = rng.choice(["1", "x", " ", ". ", "1,", "a-", "aa ", r"\ ", "x = ", "1 1", "{,}", "percent ", r"\text{a}"])
    return unit * rng.choice([100, 500, 3000])


MAKERS: dict[str, Maker] = {"unbalanced": _unbalanced, "controls": _controls, "noise": _noise, "long": _long}


def odd_pairs(seed: int, count: int) -> Iterator[tuple[str, str, str]]:
    """(kind, answer, answer): an odd answer with another one of its kind, an ordinary one, or its near copy."""
    rng = random.Random(seed)
    kinds = list(MAKERS)
    for i in range(count):
        kind = kinds[i % len(kinds)]
        a = MAKERS[kind](rng)
        other = rng.choice([MAKERS[kind](rng), "x+1", r"\frac{1}{2}", a + "+1", a[:-1], f"1+{a}"])
        first, second = rng.sample([a, other], 2)
        yield kind, first, second


# ---- almost right ----


def _sign(answer: str, rng: random.Random) -> str:
    return answer[1:] if answer.startswith("-") else f"-{answer}"


def _digit(answer: str, rng: random.Random) -> str:
    places = [i for i, c in enumerate(answer) if c in "0123456789"]
    if not places:
        return answer
    i = rng.choice(places)
    return answer[:i] + rng.choice([d for d in "123456789" if d != answer[i]]) + answer[i + 1 :]


def _plus_one(answer: str, rng: random.Random) -> str:
    return f"{answer}+1"


def _swapped_fraction(answer: str, rng: random.Random) -> str:
    return re.sub(r"(\\[dt]?frac)\{([^{}]*)\}\{([^{}]*)\}", r"\1{\3}{\2}", answer, count=1)


def _unit(answer: str, rng: random.Random) -> str:
    return answer + rng.choice([r"\text{ cm}", " meters", r"^\circ", r"\%", r"\text{ square units}"])


def _reordered(answer: str, rng: random.Random) -> str:
    inner = re.fullmatch(r"(\\left)?([(\[])([^,()\[\]]+),([^,()\[\]]+?)(\\right)?([)\]])", answer)
    if not inner:
        return answer
    left, opening, first, second, right, closing = inner.groups()
    return f"{left or ''}{opening}{second},{first}{right or ''}{closing}"


def _bracket(answer: str, rng: random.Random) -> str:
    return answer.translate(str.maketrans("[]()", "()[]")) if re.search(r"[(\[].*,.*[)\]]", answer) else answer


PERTURBATIONS: dict[str, Callable[[str, random.Random], str]] = {
    "sign": _sign, "digit": _digit, "plus one": _plus_one, "swapped fraction": _swapped_fraction, "unit": _unit,
    "reordered": _reordered, "bracket": _bracket,
}  # fmt: skip


def perturbed(answer: str, rng: random.Random) -> Iterator[tuple[str, str]]:
    """(kind, another answer) for every perturbation that changes this one."""
    for kind, change in PERTURBATIONS.items():
        if (other := change(answer, rng)) != answer:
            yield kind, other


def gold_answers(data: Path, name: str = "math_train") -> list[str]:
    with gzip.open(data / f"{name}.jsonl.gz", "rt", encoding="utf-8") as file:
        return [json.loads(line)["answer"] for line in file]
