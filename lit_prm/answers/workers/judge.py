"""The judge: compares two answers with math-verify, in a process with few rights."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import signal
import sys
from functools import lru_cache
from itertools import accumulate
from typing import IO, Any, NoReturn

from lit_prm.answers.workers.verdict import Verdict

MEMORY_BYTES = 2 * 2**30  # 10^10^10 must not fill the memory
QUESTIONS = 2000  # comparisons of one judge; then a new one replaces it, since sympy's caches grow
HARMFUL = ("os.", "shutil.", "subprocess.", "socket.", "ctypes.", "pty.", "webbrowser.", "urllib.", "sqlite3.")


def judge_all(questions: IO[bytes], answer: int) -> NoReturn:
    """Compare pairs until the pipe closes. A kernel timer kills the process at the limit, even without a supervisor."""
    _harmless()
    for line, _ in zip(questions, range(QUESTIONS), strict=False):
        a, b, timeout = json.loads(line)
        signal.setitimer(signal.ITIMER_PROF, timeout)  # processor seconds
        verdict = Verdict.EQUAL if same(a, b) else Verdict.UNEQUAL
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


def same(a: str, b: str) -> bool:
    """Whether math-verify calls the answers equal; in either order, which matters for relations and sets."""
    from math_verify import verify
    from sympy import Expr

    first, second = parsed(a), parsed(b)
    if not first or not second:
        return False
    orders = ((first, second), (second, first))
    plain = isinstance(first[0], Expr) and isinstance(second[0], Expr)
    return any(verify(x, y, timeout_seconds=None) for x, y in orders[: 1 if plain else 2])


@lru_cache(maxsize=4096)
def parsed(answer: str) -> list[Any]:
    """Sympy expressions of a LaTeX answer; empty if it cannot be parsed.

    Only the LaTeX grammar parses model output: math-verify's parser of plain expressions ends in sympy's
    ``parse_expr``, which evaluates Python. math-verify's timers are off, since they use SIGALRM; the kernel's timer
    kills instead. A closing brace without an opening one would end the box around the answer: ``1} and 2`` must not be
    parsed as 1.
    """
    if _closes_too_much(answer):
        return []
    from math_verify import LatexExtractionConfig, parse

    logging.getLogger("math_verify").setLevel(logging.ERROR)
    readers = [LatexExtractionConfig(boxed_match_priority=0)]
    expressions = parse(f"\\boxed{{{answer}}}", readers, fallback_mode="no_fallback", parsing_timeout=None)
    return list(expressions)


def _closes_too_much(answer: str) -> bool:
    braces = re.findall(r"\\.|[{}]", answer, re.DOTALL)
    return min(accumulate((brace == "{") - (brace == "}") for brace in braces), default=0) < 0
