"""Two checkouts give the same numbers, bit for bit: what a refactoring must show, on one machine.

python benchmarks/before_after.py OLD_CHECKOUT NEW_CHECKOUT --folder WORK [--old FOLDER] [--python PATH]

OLD makes a micro world, two runs, an export, a lone checkpoint, their scores, and a run that is stopped half-way. They
stay in FOLDER (WORK/old) for later calls; they name absolute paths, so it must not move. NEW builds the world again, in
a fresh folder of WORK, repeats the runs, scores what OLD made and resumes its stopped run. Each comparison gets a line,
with the first difference. The last line is JSON; the exit status is 1 if anything differs.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

Found = tuple[str, str, int]  # what was compared, its first difference ("" for none), the number of values
RUNS = {name: Path("runs") / "tiny" / name / "seed-0" for name in ("ce-1resp", "dpo-8resp")}
LAST = RUNS["dpo-8resp"]  # the one to score with, and to stop half-way
SOURCES = {"run": LAST, "export": Path("export"), "checkpoint": Path("alone/checkpoints/last.ckpt")}
LEFT_OUT = ("scorer.policy", "scorer.reference", "scorer.steps.class_path")  # name files and classes; hashes stay
MICRO = ("--data.world=null", "--data.batch_size=8", "--threads=1", "--trainer.accumulate_grad_batches=1",
         "--trainer.val_check_interval=0.5", "--trainer.enable_progress_bar=false")  # fmt: skip
QUIET = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "DS_ACCELERATOR": "cpu", "CUDA_VISIBLE_DEVICES": ""}

# An editable install gives the modules that a checkout lacks from its own: one that was moved would seem to be there.
GUARD = """
import atexit, os, sys
home = os.environ["CHECKOUT"] + os.sep
sys.meta_path[:] = [f for f in sys.meta_path if not str(getattr(f, "__module__", "")).startswith("__editable__")]
def check():
    ours = [m for n, m in list(sys.modules.items()) if n.partition(".")[0] in ("lit_prm", "callbacks", "tests")]
    if foreign := [m.__file__ for m in ours if not (getattr(m, "__file__", None) or home).startswith(home)]:
        os._exit(print("modules of another checkout:", *foreign[:3], file=sys.stderr, flush=True) or 97)
atexit.register(check)
"""
WHERE = "import lit_prm, torch as t; print(lit_prm.__file__, t.__version__, t.backends.cpu.get_cpu_capability())"
OLD_WORLD = """
import json, pathlib, shutil, tests.conftest as tests
tests.TinyMath(**tests.MICRO).build(pathlib.Path("built"))
tests.make_half_right(shutil.copytree("built", pathlib.Path("world"), symlinks=True))
pathlib.Path("micro.json").write_text(json.dumps(tests.MICRO))
"""
NEW_WORLD = "import json, pathlib, {} as at; at.TinyMath(**json.load(open({!r}))).build(pathlib.Path('built'))"
STOP = """
import signal, sys
from lit_prm import cli, module
step = module.LitPRM.training_step
def and_stop(self, batch, batch_idx):
    self.trainer.global_step == 15 and signal.raise_signal(signal.SIGTERM)
    return step(self, batch, batch_idx)
module.LitPRM.training_step = and_stop
cli.main(sys.argv[1:])
"""
TENSORS = """
import json, sys, torch
found = torch.load(sys.argv[1], weights_only=False, map_location="cpu")
kept = {name: found[name] for name in ("global_step", "state_dict", "optimizer_states")}
print(json.dumps(kept, default=lambda tensor: [str(tensor.dtype), tensor.tolist()]))
"""


class Side(NamedTuple):
    """A checkout, the folder it works in, and the Python for its commands."""

    checkout: Path
    folder: Path
    python: Path

    def run(self, where: str, *args: str, status: int = 0) -> str:
        """What a command prints that runs in a folder of this side. A log there keeps all that it says."""
        here, command = self.folder / where, [str(self.python), *args]
        done = subprocess.run(command, cwd=here, env=self._prepare(here), capture_output=True, text=True, check=False)
        with (here / "log.txt").open("a") as log:
            log.write(f"$ {' '.join(command)}\n{done.stdout}{done.stderr}exit status {done.returncode}\n")
        if done.returncode != status:
            said = done.stderr.strip().rpartition("\n")[2][:300]
            raise RuntimeError(f"exit status {done.returncode}, not {status}, see {here / 'log.txt'}: {said}")
        return done.stdout

    def _prepare(self, here: Path) -> dict[str, str]:
        """Experiments and modules are this checkout's, in a copied folder too. Nothing is recorded elsewhere."""
        here.mkdir(parents=True, exist_ok=True)
        (here / "experiments").unlink(missing_ok=True)
        (here / "experiments").symlink_to(self.checkout / "experiments")
        (here / "sitecustomize.py").write_text(GUARD)  # Python imports it at its start
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW_", "LIT_PRM_"))}
        return {**kept, **QUIET, "PYTHONPATH": f"{here}{os.pathsep}{self.checkout}", "CHECKOUT": str(self.checkout)}

    def identity(self) -> str:
        """Its commit, torch and instruction set. A checkout whose `lit_prm` comes from elsewhere is refused."""
        file, _, torch = self.run("", "-c", WHERE).strip().partition(" ")
        print(f"{self.checkout}: lit_prm is {file}, torch {torch}", flush=True)
        if Path(file) != self.checkout / "lit_prm" / "__init__.py":
            raise SystemExit(f"lit_prm of {self.checkout} was asked for; find out what puts {file} before it")
        git = ["git", "-C", str(self.checkout), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
        return f"{subprocess.run(git, capture_output=True, text=True, check=True).stdout.strip()} {torch}"


def experiment(name: str, old: Side) -> tuple[str, ...]:
    """The same words on both sides, since a run goes on only with its own configuration."""
    return ("exp", name, f"--data.root={old.folder / 'world'}", *MICRO)


def score(side: Side, name: str, old: Side) -> None:
    """What OLD made scores OLD's candidates."""
    source, file = old.folder / "done" / SOURCES[name], old.folder / "world" / "candidates" / "test.jsonl"
    side.run("scored", "-m", "lit_prm", "score", str(source), str(file), "--threads=1", f"--out={name}.jsonl")


def made(old: Side, facts: str) -> None:
    """OLD's part is there. Numbers of another commit or machine would prove nothing, so they are refused."""
    record = old.folder / "complete.txt"
    if not (old.folder / "built").exists():
        make(old)
        record.write_text(facts)
    if not record.exists() or record.read_text() != facts:
        raise SystemExit(f"{old.folder} is unfinished, or another's than {facts}; remove it, or give another --old")


def make(old: Side) -> None:
    """World, runs, export and checkpoint, their scores, and a run that is stopped after 16 of 24 updates."""
    old.run("", "-c", OLD_WORLD)
    for name in RUNS:
        old.run("done", "-m", "lit_prm", *experiment(name, old))
    old.run("done", "-m", "lit_prm", "export", str(LAST), "export")
    done, keep = old.folder / "done", {"config.yaml", "checkpoints", "last.ckpt"}
    shutil.copytree(done / LAST, done / "alone", ignore=lambda _, names: {*names} - keep)
    for name in SOURCES:
        score(old, name, old)
    old.run("stopped", "-c", STOP, *experiment(LAST.parent.name, old), status=143)


def comparisons(old: Side, new: Side) -> Iterator[Found]:
    """All of them. A stage that fails is a difference, and the others still say theirs."""
    stages = {"world": world(old, new), **{name: repeated(name, old, new) for name in RUNS}}
    stages |= {f"score of the old {name}": scored(name, old, new) for name in SOURCES}
    for name, stage in {**stages, "resumed": resumed(old, new)}.items():
        try:
            yield from stage
        except (RuntimeError, OSError, LookupError, ValueError, sqlite3.Error) as error:
            yield name, f"{type(error).__name__}: {error}", 0


def world(old: Side, new: Side) -> Iterator[Found]:
    names = ("lit_prm.training.worlds.tinymath", "lit_prm.tinymath")
    known = next(name for name in names if (new.checkout / name.replace(".", "/")).is_dir())
    new.run("", "-c", NEW_WORLD.format(known, str(old.folder / "micro.json")))
    yield alike("world, bytes of its files", digests(old.folder / "built"), digests(new.folder / "built"))


def repeated(name: str, old: Side, new: Side) -> Iterator[Found]:
    new.run("done", "-m", "lit_prm", *experiment(name, old))
    yield from same_run(name, new, *(side.folder / "done" / RUNS[name] for side in (old, new)))


def scored(name: str, old: Side, new: Side) -> Iterator[Found]:
    score(new, name, old)
    texts = [(side.folder / "scored" / f"{name}.jsonl").read_text("utf-8") for side in (old, new)]
    rows = [[json.loads(line) for line in text.strip().split("\n")] for text in texts]
    yield alike(f"score of the old {name}", *(flat({"row": found}) for found in rows))


def resumed(old: Side, new: Side) -> Iterator[Found]:
    """A copy of the stopped run goes on. A new start would give the same numbers: it must say that it goes on."""
    before, after = old.folder / "stopped", new.folder / "resumed"
    move_store(shutil.copytree(before, after, symlinks=True) / "mlflow.db", before, after)
    told = new.run("resumed", "-m", "lit_prm", *experiment(LAST.parent.name, old))
    yield "resumed, goes on", "" if "continuing" in told else "it does not say that it is continuing", 1
    yield from same_run("resumed", new, old.folder / "done" / LAST, after / LAST)
    yield alike("resumed, MLflow's run", *({"id": (f / LAST / "mlflow-run-id").read_text()} for f in (before, after)))


def move_store(store: Path, before: Path, after: Path) -> None:
    """MLflow knows absolute paths. What the copy records goes to the copy, and OLD's folder stays as it is."""
    database = sqlite3.connect(store, isolation_level=None)
    for table, column in (("experiments", "artifact_location"), ("runs", "artifact_uri")):
        database.execute(f"UPDATE {table} SET {column} = replace({column}, ?, ?)", (str(before), str(after)))
    database.close()


def same_run(title: str, reader: Side, before: Path, after: Path) -> Iterator[Found]:
    """Weights, the optimizer's state, metrics. The new code reads the old checkpoint too, as it must."""
    files = [str(run / "checkpoints" / "last.ckpt") for run in (before, after)]
    yield alike(f"{title}, weights", *(flat(json.loads(reader.run("", "-c", TENSORS, file))) for file in files))
    summaries = [json.loads((run / "summary.json").read_text()) for run in (before, after)]
    yield alike(f"{title}, metrics", *({"status": said["status"], **said["metrics"]} for said in summaries))


def alike(name: str, before: dict[str, Any], after: dict[str, Any]) -> Found:
    """Exactly: numbers by the shortest decimals that give them back, and no key more or less."""
    for key in [*before, *sorted(after.keys() - before.keys())]:
        told = [repr(side[key]) if key in side else "nothing" for side in (before, after)]
        if told[0] != told[1]:
            return name, f"{key}: {told[0][:100]} -> {told[1][:100]}", len(before)
    return name, "" if before else "there is nothing to compare", len(before)


def digests(root: Path) -> dict[str, str]:
    """What a world's files hold. They are reached by links: the folders' own names change with the code."""
    files = [file for link in sorted(root.iterdir()) if link.is_symlink() for file in sorted(link.rglob("*"))]
    return {str(f.relative_to(root)): hashlib.sha256(f.read_bytes()).hexdigest() for f in files if f.is_file()}


def flat(part: Any, at: str = "") -> dict[str, Any]:
    """Nested values by their dotted names, but what is left out."""
    items = part.items() if isinstance(part, dict) else enumerate(part) if isinstance(part, list) else None
    if not part or items is None:
        return {} if at.endswith(LEFT_OUT) else {at: part}
    return {key: v for name, inner in items for key, v in flat(inner, f"{at}.{name}".lstrip(".")).items()}


def main() -> None:
    asked, began = parsed(), time.monotonic()
    old_folder, python = (asked.old or asked.folder / "old").resolve(), Path(asked.python).absolute()
    fresh = asked.folder.resolve() / time.strftime("new-%Y%m%d-%H%M%S")  # NEW starts from nothing
    old, new = Side(asked.before.resolve(), old_folder, python), Side(asked.after.resolve(), fresh, python)
    facts: dict[str, Any] = {"old": old.identity(), "new": new.identity(), "folder": str(fresh)}
    made(old, f"{facts['old']} in {old_folder}")
    different: dict[str, str] = {}
    for name, difference, values in comparisons(old, new):
        print(f"DIFFERENT  {name}: {difference}" if difference else f"same       {name} ({values} values)", flush=True)
        different |= {name: difference} if difference else {}
    facts |= {"different": different, "left_out": LEFT_OUT, "seconds": round(time.monotonic() - began)}
    print(json.dumps(facts))
    sys.exit(bool(different))


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before", type=Path, metavar="OLD_CHECKOUT")
    parser.add_argument("after", type=Path, metavar="NEW_CHECKOUT")
    parser.add_argument("--folder", type=Path, required=True, help="to work in")
    parser.add_argument("--old", type=Path, help="where OLD's part lies, or is to lie (default: FOLDER/old)")
    parser.add_argument("--python", default=sys.executable, help="with the packages of both (default: this one)")
    return parser.parse_args()


if __name__ == "__main__":
    main()
