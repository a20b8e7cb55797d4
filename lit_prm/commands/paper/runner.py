"""`python -m lit_prm paper`: make the runs that are missing, then write the paper's tables and figures."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import wait
from pathlib import Path

import yaml
from rich.console import Console

from lit_prm.commands.experiment import EXPERIMENTS, config_files, predecessor, refuse_other_options
from lit_prm.commands.paper.methods import LABELS
from lit_prm.commands.paper.schedule import Schedule, SeededRun, with_predecessors
from lit_prm.commands.paper.view import ProgressView
from lit_prm.commands.paper.workers import RunJob, RunProcess, interruptible, tail
from lit_prm.scoring.options import CommandParser, count
from lit_prm.storage.run_files import is_finished

RUNS, DOCS = Path("runs"), Path("docs")

PAPER_OPTIONS = ("--trainer.limit_val_batches=0", "--trainer.enable_progress_bar=false")
"""Options of every run of the paper: it is judged once, at its end."""

SHARES = {
    "shepherd-8resp-soft": "shepherd-8resp-hard",
    "shepherd-8resp-hard-equaltokens": "shepherd-8resp-hard",
    "dpo-8resp-steplabels": "shepherd-8resp-hard",
}
"""Experiments that read the completions in another experiment's cache."""


def main(args: Sequence[str], run: RunJob | None = None) -> None:
    """`paper [--scale S] [--seeds N] [--names NAME ...] [--workers N] [--only runs|tables]`."""
    parser = CommandParser("paper")
    parser.add_argument("--scale", default="tiny", help="file stem in experiments/scale/")
    parser.add_argument("--seeds", type=count, default=3, help="number of seeds, at least 1; they are 0, 1, ...")
    names = "experiments to run (default: all in the tables)"
    parser.add_argument("--names", nargs="+", default=list(LABELS), help=names)
    parser.add_argument("--workers", type=count, default=2, help="runs at the same time")
    parser.add_argument("--only", choices=("runs", "tables"), help="one of the two jobs")
    options = parser.read(args)
    config_files(options.names[0], options.scale)  # ValueError for an unknown scale or a wrong folder
    failed = 0
    if options.only != "tables":
        failed = make_runs(options.names, Place(options.scale), options.seeds, options.workers, run)
    if options.only != "runs" and set(options.names) >= set(LABELS):
        write(options.scale, options.seeds)
    elif options.only != "runs":
        print("No document was written: it needs all experiments, so leave --names out.")
    if failed:
        raise SystemExit(1)


def write(scale: str, seeds: int) -> None:
    """Write `docs/paper-<scale>.md` and its figures from the finished runs."""
    from lit_prm.commands.paper.document import document
    from lit_prm.commands.paper.figures import draw_all
    from lit_prm.commands.paper.results import PaperResults
    from lit_prm.reports.paper_numbers import paper
    from lit_prm.storage.atomic import write_text

    results, at = PaperResults(RUNS / scale, seeds), Place(scale)
    finished = [SeededRun(name, seed) for name in LABELS for seed in results.experiment(name).seeds]
    if not finished:
        raise ValueError(f"There is no finished run in {RUNS / scale}. Make the runs first: make paper SCALE={scale}")
    at.refuse_changed(finished)
    drawn = draw_all(results, DOCS / "figures", scale)
    file = DOCS / f"paper-{scale}.md"
    write_text(file, document(results, paper(), scale, drawn))
    print(f"written: {file} and {len(drawn)} figures in {DOCS / 'figures'}")


def make_runs(names: Sequence[str], at: Place, seeds: int, workers: int, run: RunJob | None = None) -> int:
    """Make every run of the experiments and of their predecessors that is not finished; returns how many failed."""
    order = with_predecessors(names, lambda name: predecessor(config_files(name, at.scale)[-1]))
    jobs = [SeededRun(name, seed) for name in order for seed in range(seeds)]
    schedule = Schedule(jobs, order, SHARES, at.finished)
    at.refuse_changed(sorted(schedule.ended))
    if not schedule.outstanding:
        print(f"all {len(jobs)} runs are finished")
        return 0
    with ProgressView(len(jobs), len(schedule.ended), workers, Console()) as view:
        _work(schedule, min(workers, schedule.outstanding), run or at.run, at, view)
    return len(schedule.lost)


@dataclass(frozen=True)
class Place:
    """The folders of the runs of a scale; makes a run and says whether it is finished.

    The runs are in `runs/<group>`, by default `runs/<scale>`. ``overrides`` are options of every run, in which
    `{folder}` and `{seed}` stand for those of the run.
    """

    scale: str
    group: str = ""
    overrides: tuple[str, ...] = ()

    def folder(self, job: SeededRun) -> Path:
        return RUNS / (self.group or self.scale) / job.experiment / f"seed-{job.seed}"

    def options(self, job: SeededRun) -> list[str]:
        """The overrides of one run."""
        return [option.format(folder=self.folder(job), seed=job.seed) for option in self.overrides]

    def refuse_changed(self, jobs: Iterable[SeededRun]) -> None:
        """Raise ValueError if a run was made with other options than it would be made with now."""
        as_seed_0 = {job: self.options(job._replace(seed=0)) for job in jobs}
        runs = ((self.folder(job), job.experiment, job.seed, *more) for job, more in as_seed_0.items())
        refuse_other_options(runs, self.scale)

    def log(self, job: SeededRun) -> Path:
        return self.folder(job) / "log.txt"

    def run(self, job: SeededRun) -> None:
        """Make the run as `make exp` does."""
        from lit_prm.commands.experiment import main as experiment

        print(f"--- {time.strftime('%F %T')} {job}", flush=True)
        experiment([job.experiment, "--scale", self.scale, "--seed", str(job.seed), *PAPER_OPTIONS, *self.options(job)])

    def finished(self, job: SeededRun) -> bool:
        """True if the run was trained to its end and judged on every test set of the scale."""
        scale = yaml.safe_load((EXPERIMENTS / "scale" / f"{self.scale}.yaml").read_text())
        return is_finished(self.folder(job), scale["data"]["test"])


def _work(schedule: Schedule, count: int, run: RunJob, at: Place, view: ProgressView) -> None:
    """Keep ``count`` processes busy until nothing is outstanding; Ctrl-C stops them and ends this with status 130."""
    workers = [RunProcess(run, at.log) for _ in range(count)]
    busy: dict[int, SeededRun] = {}
    try:
        with interruptible():
            while schedule.outstanding:
                _hand_out(schedule, workers, busy, view)
                ready = wait([workers[slot].connection for slot in busy])  # until the first job has ended
                for slot in [slot for slot in busy if workers[slot].connection in ready]:
                    well = workers[slot].outcome() and at.finished(busy[slot])
                    _note(schedule, slot, busy.pop(slot), well, at, view)
                    if workers[slot].dead:
                        workers[slot].close()
                        workers[slot] = RunProcess(run, at.log)
    except KeyboardInterrupt:
        view.say("stopping; every run writes its checkpoint")
        for worker in workers:
            worker.stop()
        raise SystemExit(130) from None
    finally:
        for worker in workers:
            worker.close()


def _hand_out(
    schedule: Schedule, workers: Sequence[RunProcess], busy: dict[int, SeededRun], view: ProgressView
) -> None:
    for slot in range(len(workers)):
        if slot not in busy and (job := schedule.start()) is not None:
            busy[slot] = job
            workers[slot].begin(job)
            view.started(slot, job)
    assert busy, f"nothing may start of {schedule.waiting}"


def _note(schedule: Schedule, slot: int, job: SeededRun, well: bool, at: Place, view: ProgressView) -> None:
    lost = schedule.end(job, well)
    view.ended(slot, job, well)
    if not well:
        view.say(f"{job} failed; the end of {at.log(job)}:\n{tail(at.log(job))}")
    for other in lost:
        view.skipped(other, f"{other} needs {job}: left out")
