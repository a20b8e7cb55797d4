#!/usr/bin/env bash
# jsonargparse 4.53.0: any text is imported where a class is expected, not only the value of `class_path`.
#
# Expected: a file without `class_path` keys imports nothing, so looking for them is a guard.
# Seen:     {"reference": "payload.Source"}, or a text of JSON in place of an object, imports the module. With
#           import_path_denylist=["*"] nothing is imported except what import_path_allowlist names.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet "jsonargparse[signatures]==4.53.0" PyYAML==6.0.3
cd "$folder"
cat > payload.py <<'PY'
from base import Source as Base
import sys
sys.imported = True
class Source(Base): pass
PY
cat > base.py <<'PY'
class Source: pass
class Model:
    def __init__(self, reference: Source | None = None): pass
PY
cat > show.py <<'PY'
import sys
from jsonargparse import ArgumentParser, set_parsing_settings
from base import Model

for guarded in (False, True):
    if guarded:
        set_parsing_settings(import_path_denylist=["*"], import_path_allowlist=["base"])
    for name, text in {"name": "payload.Source", "json": '{"class_path": "payload.Source"}'}.items():
        sys.imported = False
        sys.modules.pop("payload", None)
        parser = ArgumentParser(exit_on_error=False)
        parser.add_argument("--part", type=Model)
        try:
            parser.parse_object({"part": {"class_path": "base.Model", "init_args": {"reference": text}}})
        except Exception:
            pass
        print("imported by:" if sys.imported else "refused:", name)
PY
"$folder/venv/bin/python" -W ignore show.py
