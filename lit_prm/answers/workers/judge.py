"""The judge: compares two answers with math-verify, in a process with few rights."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import signal
import sys
from collections.abc import Callable
from functools import lru_cache
from itertools import accumulate
from typing import IO, Any, NoReturn

from lit_prm.answers.workers.verdict import Verdict

MEMORY_BYTES = 2 * 2**30  # 10^10^10 must not fill the memory
QUESTIONS = 2000  # comparisons of one judge; then a new one replaces it, since sympy's caches grow
HARMFUL = ("os.", "shutil.", "subprocess.", "socket.", "ctypes.", "pty.", "webbrowser.", "urllib.", "sqlite3.")


def judge_all(same: Callable[[str, str], bool], questions: IO[bytes], answer: int) -> NoReturn:
    """Compare pairs until the pipe closes. A kernel timer kills the process at the limit, even without a supervisor."""
    _harmless()
    for line, _ in zip(questions, range(QUESTIONS), strict=False):
        gold, candidate, timeout, _ = json.loads(line)
        signal.setitimer(signal.ITIMER_PROF, timeout)  # processor seconds
        verdict = Verdict.EQUAL if same(gold, candidate) else Verdict.UNEQUAL
        signal.setitimer(signal.ITIMER_PROF, 0)
        os.write(answer, verdict.value + b"\n")
    os._exit(0)


def _harmless() -> None:
    """Limit this process: bounded memory, no writing of files, no new processes, no execution of text from answers."""
    import resource

    limits = {resource.RLIMIT_AS: MEMORY_BYTES, resource.RLIMIT_FSIZE: 0, resource.RLIMIT_CORE: 0}
    for kind, limit in limits.items():
        with contextlib.suppress(ValueError, OSError):  # a lower limit already holds, or none exists here
            resource.setrlimit(kind, (limit, limit))
    sys.addaudithook(refuse_harm)


def refuse_harm(event: str, arguments: tuple[Any, ...]) -> None:
    """Audit hook: raise PermissionError for actions that no comparison needs. The LaTeX grammar alone allows none."""
    reading = {"os.listdir", "os.scandir"}  # a late import looks for its module
    if event.startswith(HARMFUL) and event not in reading:
        raise PermissionError(f"{event} while comparing answers")
    if event == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
        raise PermissionError(f"open of {arguments[0]!r} for writing while comparing answers")
    if event == "compile" and arguments[1] == "<string>" and not SYMPYS_OWN.fullmatch(_text(arguments[0])):
        raise PermissionError("compile of a text while comparing answers")


# sympy reads a numeral or a name by compiling "Integer (8 )" after an import; it writes functions for polynomials and
# formulas such as "sqrt (Integer (196 ))/50" when it guesses a closed form. None has an attribute or an acting name.
SYMPYS_OWN = re.compile(
    r"from sympy import \*|def monomial_[a-z]+\(.*"
    r"|(?:(?!(?:import|from|lambda|exec|eval|compile|open|input|breakpoint|exit|quit|getattr|setattr|vars|globals)\b)"
    r"[A-Za-z]\w*+|'[\w.+-]*+'|\d++(?:\.\d*+)?+(?:e[+-]?\d++)?+|[ +*/(),-])*+",
    re.DOTALL,
)


def _text(source: Any) -> str:
    return source.decode(errors="replace") if isinstance(source, bytes) else str(source)


def same(gold: str, candidate: str) -> bool:
    r"""Whether math-verify calls the candidate equal to the gold answer. The order matters.

    Of a candidate's equation the right side counts if the gold answer is none. A candidate's relation equals a gold set
    only if it is solved: ``x \ge 2`` for ``[2, \infty)``, but not the problem's own ``x^2 - 5x - 4 \le 10``.
    """
    from math_verify import verify

    logging.getLogger("math_verify").setLevel(logging.ERROR)
    wanted, given = parsed(gold), parsed(candidate)
    if wanted is None or given is None or (_is_curve(wanted) and not _is_relation(given)):
        return False
    equal = verify(wanted, given, allow_set_relation_comp=_is_solved(given), timeout_seconds=None)
    return equal and not _differ(wanted, given)


@lru_cache(maxsize=4096)
def parsed(answer: str) -> Any:
    """Sympy expression of a LaTeX answer; None if it cannot be parsed.

    Only the LaTeX grammar parses model output: math-verify's parser of plain expressions ends in sympy's
    ``parse_expr``, which evaluates Python. math-verify's cutting of units is off, since it reads ``4t`` as 4, and so is
    its lower case, since R/r is not 1. A chain of equations that the grammar cannot read counts by its last side.
    """
    from latex2sympy2_extended import NormalizationConfig, latex2sympy, normalize_latex
    from latex2sympy2_extended.latex2sympy2 import ConversionConfig
    from math_verify.grader import should_treat_as_complex
    from math_verify.parser import get_last_eq

    if _closes_too_much(answer):
        return None
    letters = ConversionConfig(lowercase_symbols=False)
    text = normalize_latex(answer, NormalizationConfig(malformed_operators=True, boxed="none"))
    for part in dict.fromkeys((text, get_last_eq(text))):
        real = not should_treat_as_complex(part)
        with contextlib.suppress(Exception):  # whatever the grammar and sympy raise
            return latex2sympy(part, is_real=real, normalization_config=None, conversion_config=letters)
    return None


def _is_relation(expression: Any) -> bool:
    from latex2sympy2_extended.logic import And
    from sympy.core.relational import Relational

    return isinstance(expression, Relational | And)


def _is_curve(expression: Any) -> bool:
    """Whether it is an equation of a sum, such as ``x + y = 0``, which does not name the value 0."""
    from sympy import Eq

    return isinstance(expression, Eq) and bool(expression.lhs.is_Add)


def _is_solved(relation: Any) -> bool:
    """Whether every relation has a symbol alone on one side and a number on the other."""
    from latex2sympy2_extended.logic import And
    from sympy.core.relational import Relational

    if isinstance(relation, And):
        return all(map(_is_solved, relation.args))
    sides = (relation.lhs, relation.rhs) if isinstance(relation, Relational) else ()
    return sorted((side.is_Symbol, bool(side.free_symbols)) for side in sides) == [(False, False), (True, True)]


def _differ(wanted: Any, given: Any) -> bool:
    """Whether two numbers differ in proportion to their size: math-verify takes 2^{-98} and its negative for 0."""
    from sympy import Expr, Float

    if not all(isinstance(x, Expr) and not x.free_symbols for x in (wanted, given)):
        return False
    tolerance = 1e-4 if wanted.has(Float) or given.has(Float) else 1e-10
    with contextlib.suppress(TypeError, ValueError):  # no number after all
        size = max(abs(wanted.evalf(30)), abs(given.evalf(30)))
        return bool(size > 1e-60 and abs((wanted - given).evalf(30)) > tolerance * size)
    return False


def _closes_too_much(answer: str) -> bool:
    braces = re.findall(r"\\.|[{}]", answer, re.DOTALL)
    return min(accumulate((brace == "{") - (brace == "}") for brace in braces), default=0) < 0
