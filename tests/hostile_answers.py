"""Answers that a grader must survive, and answers that are almost the right one; drawn from a seed."""

from __future__ import annotations

import gzip
import json
import random
import re
from collections.abc import Callable, Iterator
from pathlib import Path

EVIL = "9^{9^{9^{9^{9}}}}+x"  # no arithmetic finishes on it

Maker = Callable[[random.Random], str]


# ---- hostile ----


def _tower(rng: random.Random) -> str:
    text = str(rng.randint(2, 9))
    for _ in range(rng.randint(2, 8)):
        text = rf"{rng.randint(2, 9)}^{{{text}}}"
    return text + rng.choice(["", "+x", "-1", "!"])


def _factorials(rng: random.Random) -> str:
    text = str(rng.randint(3, 99))
    for _ in range(rng.randint(1, 6)):
        text = f"({text})!"
    return text + rng.choice(["", "+x", "/2"])


def _unbalanced(rng: random.Random) -> str:
    parts = [
        "{",
        "}",
        r"\frac{",
        r"\sqrt{",
        r"\left(",
        r"\right)",
        "[",
        ")",
        "$",
        r"\[",
        r"\begin{pmatrix}",
        "1",
        "x",
        "&",
    ]
    return "".join(rng.choices(parts, k=rng.randint(2, 40)))


def _nested(rng: random.Random) -> str:
    depth = rng.choice([5, 20, 60, 300, 10_000])
    opening, closing = rng.choice(
        [("(", ")"), ("{", "}"), (r"\frac{1}{", "}"), (r"\sqrt{", "}"), ("x^{", "}"), ("[", "]")]
    )
    return opening * depth + "x" + closing * depth


def _matrix(rng: random.Random) -> str:
    size = rng.choice([2, 5, 9, 30, 100])
    rows = r"\\".join("&".join(str(rng.randint(-9, 9)) for _ in range(size)) for _ in range(size))
    return rf"\begin{{pmatrix}}{rows}\end{{pmatrix}}" + rng.choice(["", "^{-1}", "^{99}", "^{x}"])


TRACE = "lit-prm-was-here"  # in the folder a grader runs in, if any code below were run


def _code(rng: random.Random) -> str:
    attack = rng.choice(
        [
            f"__import__('os').system('touch {TRACE}')",
            f'exec(\'open("{TRACE}", "w")\')',
            f"open('{TRACE}','w').write('x')",
            f"eval(\"__import__('pathlib').Path('{TRACE}').touch()\")",
            f"().__class__.__base__.__subclasses__()[0]; open('{TRACE}', 'a')",
            f"__import__('subprocess').Popen(['touch','{TRACE}'])",
            "__import__('os').kill(__import__('os').getppid(), 9)",
            "lambda: (yield)",
        ]
    )
    wrap = rng.choice(
        ["{}", r"\text{{{}}}", r"\mathrm{{{}}}+1", r"x_{{{}}}", r"\operatorname{{{}}}(2)", "1+{}", r"\input{{{}}}"]
    )
    return wrap.format(attack)


def _controls(rng: random.Random) -> str:
    odd = [
        chr(c)
        for c in (
            *range(32),
            0x7F,
            0x85,
            0x200B,
            0x200E,
            0x202E,
            0x2066,
            0xFEFF,
            0xD800,
            0xDFFF,
            0x1D7D8,
            0x0663,
            0xFF11,
        )
    ]
    return "".join(rng.choices([*odd, "1", "2", "x", "+", r"\frac", "{", "}"], k=rng.randint(1, 30)))


def _giant(rng: random.Random) -> str:
    digits = rng.choice([50, 299, 301, 5000, 200_000])
    number = "".join(rng.choices("0123456789", k=digits))
    return rng.choice(["{}", "-{}", "1/{}", "{}.5", "{} 1/2", "10^{{{}}}", r"\sqrt{{{}}}", "1e{}", "{}!"]).format(
        number
    )


def _megabyte(rng: random.Random) -> str:
    unit = rng.choice(
        [
            "1",
            "x",
            "(",
            "{",
            r"\frac",
            r"\text{",
            " ",
            "1 ",
            ".",
            ",",
            "a,",
            r"\[",
            "$",
            "answer is ",
            "=",
            "1,",
            "\\",
            "é",
        ]
    )
    return (unit * (10**6 // len(unit)))[: 10**6]


def _bomb(rng: random.Random) -> str:
    unit = rng.choice(
        [
            " ",
            ". ",
            "1,",
            "a-",
            "aa ",
            r"\ ",
            "x = ",
            "1 1",
            r"{,}",
            "^",
            r"\!",
            "1_",
            "1A",
            r"\text{a}",
            "0.0.",
            "percent ",
        ]
    )
    return (unit * 2000)[: rng.choice([100, 290, 1900, 20_000])] + rng.choice(["", "!", "x", "="])


def _noise(rng: random.Random) -> str:
    symbols = r"0123456789xyz+-*/^_=<>!,.:;()[]{}|&%$# \ "
    return "".join(rng.choices(symbols, k=rng.randint(1, 80)))


def _soup(rng: random.Random) -> str:
    atoms = r"\int_0^{\infty} \sum_{k=1}^{10^9} \prod_{k=1}^{99999} \lim_{x\to0} \sin x y ^{99} ! \binom{10^6}{5}"
    atoms += r" + - 2 e^{ } \infty \cup [0,1) \le = , \log_2 \% i \pi dx \mod \det"
    return "".join(rng.choices(atoms.split(), k=rng.randint(2, 14)))


MAKERS: dict[str, Maker] = {
    "tower": _tower, "factorials": _factorials, "unbalanced": _unbalanced, "nested": _nested, "matrix": _matrix,
    "code": _code, "controls": _controls, "giant": _giant, "megabyte": _megabyte, "bomb": _bomb, "noise": _noise,
    "soup": _soup,
}  # fmt: skip


def hostile_pairs(seed: int, count: int) -> Iterator[tuple[str, str, str]]:
    """(kind, answer, answer): a hostile answer with another one of its kind, an ordinary one, or its near copy."""
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
