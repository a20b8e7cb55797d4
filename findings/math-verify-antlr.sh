#!/usr/bin/env bash
# math-verify 0.9.0, latex2sympy2_extended 1.11.0, pip 23.2.1: which LaTeX is read depends on the antlr4 runtime that
# happens to be there, and the extra that should choose it does not.
#
# Expected: math-verify[antlr4-9-3] installs antlr4 4.9.3 (omegaconf 2.3 and hydra ask for it), and answers are graded
#           alike with each runtime that the packages allow.
# Seen:     the extra is called antlr4_9_3 in one package's requirement and antlr4-9-3 in the other's offer, so pip warns
#           and takes the newest runtime, 4.13.2. With 4.9.3 installed by hand, 5\% is not read as a number any more
#           (AttributeError inside latex2sympy), parse() says nothing, and the right answer 5\% is not equal to 0.05.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cat > "$folder/show.py" <<'PY'
import logging
from importlib.metadata import version

from latex2sympy2_extended import latex2sympy
from math_verify import LatexExtractionConfig, parse, verify

logging.disable(logging.CRITICAL)
try:
    read = str(latex2sympy(r"5\%"))
except AttributeError as error:
    read = type(error).__name__
gold, answer = (parse(text, [LatexExtractionConfig()]) for text in ("$0.05$", r"$5\%$"))
print(version("antlr4-python3-runtime"), read, verify(gold, answer))
PY
python3 -m venv "$folder/venv"
pip() { "$folder/venv/bin/python" -m pip --disable-pip-version-check install --quiet "$@" 2> "$folder/warnings"; }
pip pip==23.2.1
pip "math-verify[antlr4-9-3]==0.9.0" latex2sympy2_extended==1.11.0 sympy==1.14.0
grep -c "does not provide the extra" "$folder/warnings"
"$folder/venv/bin/python" -W ignore "$folder/show.py" | tee "$folder/asked"
pip antlr4-python3-runtime==4.9.3
"$folder/venv/bin/python" -W ignore "$folder/show.py" | tee "$folder/by-hand"
grep -q "^4.13.2 5\*(1/100) True" "$folder/asked"
grep -q "^4.9.3 AttributeError False" "$folder/by-hand"
