"""The command `sample`: makes graded rollouts of problems, with a server or a model in this process."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lit_prm.generation.http import Endpoint
from lit_prm.generation.server_source import ServerSampler
from lit_prm.scoring.options import CommandParser, count, seed_number

if TYPE_CHECKING:
    from lit_prm.generation.files import SamplingJob
    from lit_prm.generation.samples import SampleSource

ABOUT = """\
Samples responses of MODEL to every problem of FILE, grades them against the answers, and writes training data.

With --server, MODEL is a name that an OpenAI-compatible server (vLLM, SGLang, llama.cpp) offers. If the server needs a
key, put it into the environment variable LIT_PRM_API_KEY. Without --server, MODEL is a folder or a hub name, and runs
in this process. FILE holds problems in any layout, as JSONL, JSON, Parquet or a hub data set; responses in it are
ignored. Start the same command again to continue a killed job. A larger --n or more problems extend a finished file."""


def _defaults(built: Callable[..., Any], *names: str) -> dict[str, Any]:
    """Default values of the named parameters of a constructor."""
    parameters = signature(built).parameters
    return {name: parameters[name].default for name in names}


COMMON = _defaults(ServerSampler, "temperature", "max_tokens", "seed", "template")
SERVER = {
    **_defaults(ServerSampler, "top_p", "stop", "plain", "system", "extra", "concurrency", "per_request"),
    **_defaults(Endpoint, "timeout"),
    "skip_refused": False,
}
LOCAL: dict[str, Any] = {"dtype": "float32", "workers": 1, "device": "auto"}


def main(args: Sequence[str]) -> None:
    """`sample MODEL FILE [--server URL] [--n 8] [--out rollouts.jsonl.gz]`."""
    options = _parser().read(args)
    _refuse_meaningless(options)
    from lit_prm.data.formats import read_groups, refuse_unfit_name
    from lit_prm.generation.files import SamplingJob

    refuse_unfit_name(options.out)
    reading = read_groups(options.file, on_bad="skip" if options.skip_bad_rows else "raise")
    if reading.refused:
        print(f"{len(reading.refused)} of {reading.rows} rows are left out. The first: {reading.refused[0].reason}")
    problems = [group.problem for group in reading.groups][: options.limit]
    options.out.parent.mkdir(parents=True, exist_ok=True)
    job = SamplingJob(_source(options), problems, options.n, options.out, bool(options.skip_refused))
    _watch(job)
    _summarise(job.out)
    if job.refused.exists():
        _name_refused(job.refused)


def _parser() -> CommandParser:
    parser = CommandParser("sample", description=ABOUT)
    add = parser.add_argument
    add("model", metavar="MODEL", help="the model that responds")
    add("file", metavar="FILE", help="the problems")
    add("--out", type=Path, default=Path("rollouts.jsonl.gz"), help=".jsonl or .jsonl.gz (default: rollouts.jsonl.gz)")
    add("--server", metavar="URL", help="the server's URL, e.g. http://localhost:8000")
    add("--n", type=count, default=8, help="responses to each problem (default: 8)")
    add("--temperature", type=float, help="0 takes the most likely tokens (default: %(default)g)")
    add("--max-tokens", type=count, help="longest response in tokens (default: %(default)s)")
    add("--seed", type=seed_number, help="seed from which the samples' seeds follow (default: %(default)s)")
    template = 'wraps each prompt, e.g. "{prompt} Box the answer."; the output holds the problems unwrapped'
    add("--prompt-template", dest="template", metavar="TEXT", help=template)
    add("--limit", type=count, help="use only the first problems")
    add("--skip-bad-rows", action="store_true", help="leave out rows that match no layout")
    parser.set_defaults(**COMMON)
    _add(parser.add_argument_group("with --server").add_argument, SERVER)
    _add(parser.add_argument_group("without").add_argument, LOCAL)
    return parser


HELP = {
    "top_p": "draw from the most likely tokens that together have this probability",
    "stop": "a text that ends a response; may be repeated",
    "plain": "complete the prompt as plain text; by default it is a chat in the server's template",
    "system": "a system prompt, before every problem",
    "extra": """more fields of the request, as '{"top_k": 20, "chat_template_kwargs": {"enable_thinking": false}}'""",
    "concurrency": "number of requests in flight",
    "per_request": "samples of one request; the server must support `n`",
    "timeout": "seconds to wait for an answer before the request is repeated",
    "skip_refused": "write problems that the server refuses (too long) to a file; by default the first is an error",
    "dtype": "data type of the weights: float32, bfloat16 or float16",
    "workers": "processes that sample, on a CPU",
    "device": "auto, cpu, cuda, cuda:0",
}


def _add(add: Any, defaults: dict[str, Any]) -> None:
    """Add options that are None unless given, so that an option of the other group can be refused."""
    for name, default in defaults.items():
        flag = f"--{name.replace('_', '-')}"
        text = f"{HELP[name]}{f' (default: {default})' if default else ''}"
        if isinstance(default, bool):
            add(flag, action="store_const", const=True, help=text)
        elif isinstance(default, tuple):
            add(flag, action="append", metavar="TEXT", help=text)
        else:
            add(flag, type=KINDS.get(name, type(default)), metavar=METAVARS.get(name), help=text)


def _object(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not JSON ({error})") from None
    if not isinstance(value, dict):
        raise argparse.ArgumentTypeError(f'{text!r} is not a JSON object; write it as {{"top_k": 20}}')
    return value


KINDS: dict[str, Any] = {"concurrency": count, "per_request": count, "workers": count, "extra": _object}
METAVARS = {"system": "TEXT", "extra": "JSON"}


def _refuse_meaningless(options: argparse.Namespace) -> None:
    """Raise ValueError for an option that would have no effect and for a setting out of its range."""
    others, why = (LOCAL, "with --server") if options.server else (SERVER, "without --server")
    if given := [f"--{name.replace('_', '-')}" for name in others if getattr(options, name) is not None]:
        raise ValueError(f"{', '.join(given)} would have no effect {why}. Leave it out.")
    if not 0 <= options.temperature < float("inf"):
        raise ValueError(
            f"--temperature {options.temperature} is not a number from 0. Give 0 for the most likely tokens."
        )
    if options.temperature == 0 and options.n > 1:
        raise ValueError(
            f"At --temperature 0 the {options.n} responses would be identical. Give --n 1, or a higher temperature."
        )
    if options.top_p is not None and not 0 < options.top_p <= 1:
        raise ValueError(f"--top-p {options.top_p} is not in (0, 1]. Give 1 to draw from all tokens.")
    if options.timeout is not None and not 0 < options.timeout < float("inf"):
        raise ValueError(f"--timeout {options.timeout} is not a positive number of seconds. Leave it out.")
    if "{prompt}" not in options.template:
        raise ValueError(f"--prompt-template {options.template!r} lacks the placeholder {{prompt}}. Add it.")


def _source(options: argparse.Namespace) -> SampleSource:
    common = {name: getattr(options, name) for name in COMMON}
    chosen = {name: value for name, value in vars(options).items() if value is not None}
    own = {name: chosen.get(name, default) for name, default in (SERVER if options.server else LOCAL).items()}
    if not options.server:
        from lit_prm.generation.local_source import LocalSource
        from lit_prm.scoring.building import device_of

        return LocalSource(options.model, **common, **own | {"device": device_of(own["device"])})
    del own["skip_refused"]  # it is the job's
    return ServerSampler(Endpoint(options.server, timeout=own.pop("timeout")), options.model, **common, **own)


def _watch(job: SamplingJob) -> None:
    """Run the job and show its progress."""
    from lit_prm.scoring.progress import bar

    steps = job.run()
    done = next(steps)
    with bar("samples", job.samples, done.samples) as show:
        while not done.graded:
            done = next(steps)
            show(done.samples, job.source.trouble)
    with bar("problems graded", len(job.problems), done.graded) as show:
        for done in steps:
            show(done.graded, "")


def _rows(file: Path) -> list[Any]:
    from lit_prm.data.formats.sources import open_source

    return [row for _, row in open_source(str(file)).rows]


def _summarise(out: Path) -> None:
    """Print what the file holds: problems, responses, accuracy, cut and empty responses."""
    rows = _rows(out)
    labels = [label for row in rows for label in row["correctness"]]
    graded = [label for label in labels if label is not None]
    cut = sum(reason == "length" for row in rows for reason in row.get("finish_reasons", []))
    right = "no answers to grade against"
    if graded:
        right = f"{sum(graded) / len(graded):.1%} of {len(graded)} graded ones right"
    print(f"{out}: {len(rows)} problems, {len(labels)} responses, {right}, {cut} cut at --max-tokens")
    if empty := sum(not text for row in rows for text in row["completions"]):
        print(f"Warning: {empty} responses are empty. They are graded like the others. The server's log may say why.")


def _name_refused(file: Path) -> None:
    rows = _rows(file)
    some = ", ".join(row["unique_id"] for row in rows[:8]) + (", ..." if len(rows) > 8 else "")
    why = rows[0]["refused"]
    print(f"{len(rows)} problems were refused. They are in {file} instead: {some}. The first reason: {why}")
