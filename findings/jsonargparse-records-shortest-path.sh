#!/usr/bin/env bash
# jsonargparse 4.53.0: the dumped class_path of a bare class name is the shortest import path, so a re-export changes recorded configurations.
#
# Expected: a class given by its bare name is dumped with the path of the module that defines the class, as pickle does.
# Seen:     as soon as the parent package imports the class in its __init__.py, the dump names the package instead. Two
#           configurations of the same options, recorded before and after a re-export was added, differ in text, and
#           a check "is this the same configuration?" that compares them must resolve the classes first.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet "jsonargparse[signatures]==4.53.0" PyYAML==6.0.3
mkdir "$folder/shapes"
cat > "$folder/shapes/base.py" <<'PY'
class Shape:
    pass
PY
cat > "$folder/shapes/round.py" <<'PY'
from shapes.base import Shape


class Circle(Shape):
    def __init__(self, radius: float = 1.0) -> None:
        self.radius = radius
PY
cat > "$folder/dump.py" <<'PY'
from jsonargparse import ArgumentParser

import shapes.round  # noqa: F401
from shapes.base import Shape

parser = ArgumentParser()
parser.add_argument("--shape", type=Shape)
print(parser.dump(parser.parse_args(["--shape=Circle"])).strip().splitlines()[1].strip())
PY
dump() { (cd "$folder" && PYTHONDONTWRITEBYTECODE=1 PYTHONPATH="$folder" venv/bin/python dump.py); }
: > "$folder/shapes/__init__.py"
before=$(dump)
echo "from shapes.round import Circle" > "$folder/shapes/__init__.py"
after=$(dump)
echo "without the re-export: $before"
echo "with the re-export:    $after"
[ "$before" = "class_path: shapes.round.Circle" ]
[ "$after" = "class_path: shapes.Circle" ]
echo "as found: the same option, the same class, another text"
