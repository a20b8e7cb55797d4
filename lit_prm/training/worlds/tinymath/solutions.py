"""Step-by-step solutions of one calculation in many styles.

If every solution had the same wording, the base model's log-likelihood would select right responses almost perfectly.
Here most of a response's log-probability is style: leads, labels, words or symbols, order of operands, merged steps,
filler lines and how talkative the writer is.
"""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from pathlib import Path

from lit_prm.training.worlds.tinymath.misconceptions import EXPERT, Author, written_by
from lit_prm.training.worlds.tinymath.problems import Equation, TinyProblem, equations

LEADS = (
    "", "First ", "Next ", "Then ", "Now ", "So ", "We get ", "This gives ", "Here ", "Again ", "Well ", "Clearly ",
)  # fmt: skip
LEAD_WEIGHTS = [1 / (i + 1) for i in range(len(LEADS))]
TAILS = ("", "", "", " as needed", " of course", " so far", " by the rule", " which is fine")
FILLERS = (
    "Let us think.", "We go on.", "That was easy.", "One more thing to do.", "Keep the order in mind.",
    "No trick here.", "We are careful.", "Nothing is lost.",
)  # fmt: skip
OPENINGS = ("We work step by step.", "Read the text again.", "This is a chain of steps.", "Let us begin.")
FINALS = (
    "The answer is \\boxed{{{}}}", "So the answer is \\boxed{{{}}}", "Final answer \\boxed{{{}}}",
    "We find \\boxed{{{}}}", "Thus the result is \\boxed{{{}}}",
)  # fmt: skip
WORDS = {"+": "plus", "-": "minus", "*": "times", "mod": "modulo"}
LETTERS = "abcdefghkmnpqrst"


def write_solution(problem: TinyProblem, rng: random.Random, author: Author = EXPERT) -> str:
    """What ``author`` writes as the solution of ``problem``; an expert's is right. Lines are joined by line breaks."""
    talk = 0.5 * rng.random()
    in_words = rng.random() < 0.25
    lines = [rng.choice(OPENINGS)] if rng.random() < 0.5 * talk else []
    due = equations(problem.start, written_by(author, problem))
    answer = due[-1][3] if due else problem.start
    while due:
        merged = 2 if len(due) > 1 and rng.random() < 0.15 else 1
        shown = [_equation(eq, in_words, rng) for eq in due[:merged]]
        del due[:merged]
        lead = rng.choices(LEADS, LEAD_WEIGHTS)[0] if rng.random() < 0.3 + 0.7 * talk else ""
        label = f"{rng.choice(LETTERS)}: " if rng.random() < 0.5 * talk else ""
        tail = rng.choice(TAILS) if rng.random() < talk else ""
        lines.append(lead + label + " so ".join(shown) + tail)
        if rng.random() < 0.35 * talk:
            lines.append(rng.choice(FILLERS))
    lines.append(rng.choice(FINALS).format(answer))
    return "\n".join(lines)


def write_problems(path: Path, split: str, problems: Sequence[TinyProblem], rng: random.Random) -> None:
    """Write a JSONL file with MATH's columns; the solution is right and in a random style."""
    rows = (
        {
            "problem": p.text, "solution": write_solution(p, rng), "answer": p.answer, "subject": p.subject,
            "level": p.level, "unique_id": f"{split}/{i}",
        }
        for i, p in enumerate(problems)
    )  # fmt: skip
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def _equation(equation: Equation, in_words: bool, rng: random.Random) -> str:
    left, sign, right, result = equation
    if sign in "+*" and rng.random() < 0.3:
        left, right = right, left
    return f"{left} {WORDS[sign]} {right} is {result}" if in_words else f"{left} {sign} {right} = {result}"
