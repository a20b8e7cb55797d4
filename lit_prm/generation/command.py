"""The command `sample`: problems in, graded rollouts out, by a server or by a model in this process."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lit_prm.generation.http import Endpoint
from lit_prm.generation.server_source import ServerSampler
from lit_prm.scoring.options import count

if TYPE_CHECKING:
    from lit_prm.generation.files import SamplingJob
    from lit_prm.generation.samples import SampleSource

ABOUT = """\
Responses of MODEL to every problem of FILE, graded against its answers, as training data.

With --server MODEL is a name that an OpenAI-compatible server (vLLM, SGLang, llama.cpp) serves; its key, if it wants
one, stands in the environment variable LIT_PRM_API_KEY. Without, it is a folder or a hub name, run in this process.
FILE: any layout, as JSONL, JSON, Parquet, or a hub data set. Its own responses, if any, are not looked at.
A killed job goes on where it was when it is started again. A larger --n or more problems add to a finished file."""


def _defaults(built: Callable[..., Any], *names: str) -> dict[str, Any]:
    """What a constructor takes where an option is not given."""
    parameters = signature(built).parameters
    return {name: parameters[name].default for name in names}


COMMON = _defaults(ServerSampler, "temperature", "max_tokens", "seed", "template")
SERVER = {
    **_defaults(ServerSampler, "top_p", "stop", "plain", "system", "extra", "concurrency", "per_request"),
    **_defaults(Endpoint, "timeout"),
}
LOCAL: dict[str, Any] = {"dtype": "float32", "workers": 1, "device": "auto"}


def main(args: Sequence[str]) -> None:
    """`sample MODEL FILE [--server URL] [--n 8] [--out rollouts.jsonl.gz]`."""
    asked = _parser().parse_args(list(args))
    _refuse_meaningless(asked)
    from lit_prm.data.formats import read_groups, refuse_unfit_name
    from lit_prm.generation.files import SamplingJob

    refuse_unfit_name(asked.out)
    if asked.out.resolve() == Path(asked.file).resolve():
        raise ValueError(f"--out {asked.out} is the file of the problems; give another name")
    reading = read_groups(asked.file, on_bad="skip" if asked.skip_bad_rows else "raise")
    if reading.refused:
        print(f"{len(reading.refused)} of {reading.rows} rows left out, the first: {reading.refused[0].reason}")
    problems = [group.problem for group in reading.groups][: asked.limit]
    asked.out.parent.mkdir(parents=True, exist_ok=True)
    job = SamplingJob(_source(asked), problems, asked.n, asked.out, bool(asked.skip_refused))
    _watch(job)
    _summarise(job.out)
    if job.refused.exists():
        _name_refused(job.refused)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m lit_prm sample", description=ABOUT, allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("model", metavar="MODEL", help="who answers")
    parser.add_argument("file", metavar="FILE", help="the problems")
    kinds = ".jsonl or .jsonl.gz (default: rollouts.jsonl.gz)"
    parser.add_argument("--out", type=Path, default=Path("rollouts.jsonl.gz"), help=kinds)
    parser.add_argument("--server", metavar="URL", help="where it is served, e.g. http://localhost:8000")
    parser.add_argument("--n", type=count, default=8, help="responses to each problem (default: 8)")
    parser.add_argument("--temperature", type=float, help="0 for the likeliest response (default: %(default)g)")
    parser.add_argument("--max-tokens", "--max_tokens", type=count, help="of a response (default: %(default)s)")
    parser.add_argument("--seed", type=int, help="what the seeds of the samples are made of (default: %(default)s)")
    template = 'wraps plain prompts, e.g. "{prompt} Box the answer."; what is written are the problems as they are'
    parser.add_argument("--prompt-template", "--prompt_template", dest="template", metavar="TEXT", help=template)
    parser.add_argument("--limit", type=count, help="the first problems only")
    parser.add_argument(
        "--skip-bad-rows", "--skip_bad_rows", action="store_true", help="leave out rows that fit no layout"
    )
    parser.set_defaults(**COMMON)
    of_servers = parser.add_argument_group("with --server")
    _add(of_servers.add_argument, SERVER)
    refused = "leave out, and write down, the problems that the server refuses (too long); by default the first ends it"
    of_servers.add_argument("--skip-refused", "--skip_refused", action="store_true", default=None, help=refused)
    _add(parser.add_argument_group("without").add_argument, LOCAL)
    return parser


HELP = {
    "top_p": "draw from the likeliest tokens that make up this probability",
    "stop": "a text that ends a response (may be given several times)",
    "plain": "plain completions of the prompt's text; by default a chat, by the server's template",
    "system": "a system prompt, before every problem",
    "extra": """more fields of the request, as '{"top_k": 20, "chat_template_kwargs": {"enable_thinking": false}}'""",
    "concurrency": "requests under way at a time",
    "per_request": "samples that one request asks for; the server must know `n`",
    "timeout": "seconds to wait for an answer before asking again",
    "dtype": "of the weights: float32, bfloat16 or float16",
    "workers": "processes that draw, on a CPU",
    "device": "auto, cpu, cuda, cuda:0",
}


def _add(add: Any, defaults: dict[str, Any]) -> None:
    """Options that are None when they are not given, so that one of the wrong group can be refused."""
    for name, default in defaults.items():
        options = {f"--{name.replace('_', '-')}": None, f"--{name}": None}
        told = f"{HELP[name]}{f' (default: {default})' if default else ''}"
        if isinstance(default, bool):
            add(*options, action="store_const", const=True, help=told)
        elif isinstance(default, tuple):
            add(*options, action="append", metavar="TEXT", help=told)
        else:
            add(*options, type=KINDS.get(name, type(default)), metavar=METAVARS.get(name), help=told)


def _object(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no JSON ({error})") from None
    if not isinstance(found, dict):
        raise argparse.ArgumentTypeError(f'{text!r} is no JSON object; write it as {{"top_k": 20}}')
    return found


KINDS: dict[str, Any] = {"concurrency": count, "per_request": count, "workers": count, "extra": _object}
METAVARS = {"system": "TEXT", "extra": "JSON"}


def _refuse_meaningless(asked: argparse.Namespace) -> None:
    """Options that would be ignored, and settings that no sampler has."""
    others, why = (LOCAL, "the server decides") if asked.server else ([*SERVER, "skip_refused"], "there is no --server")
    if given := [f"--{name.replace('_', '-')}" for name in others if getattr(asked, name) is not None]:
        raise ValueError(f"{', '.join(given)} would be ignored: {why}; leave it out")
    if not 0 <= asked.temperature < float("inf"):
        raise ValueError(f"--temperature {asked.temperature} is not a number from 0; give 0 for the likeliest response")
    if asked.temperature == 0 and asked.n > 1:
        raise ValueError(
            f"at --temperature 0 the {asked.n} responses would be one and the same; give --n 1, or more heat"
        )
    if asked.top_p is not None and not 0 < asked.top_p <= 1:
        raise ValueError(f"--top-p {asked.top_p} is not in (0, 1]; give 1 to draw from all tokens")
    if asked.timeout is not None and not 0 < asked.timeout < float("inf"):
        raise ValueError(f"--timeout {asked.timeout} is not a number of seconds above 0; leave it out")
    if "{prompt}" not in asked.template:
        raise ValueError(f"--prompt-template {asked.template!r} has no {{prompt}} to fill in; add it")


def _source(asked: argparse.Namespace) -> SampleSource:
    common = {name: getattr(asked, name) for name in COMMON}
    defaults = SERVER if asked.server else LOCAL
    own = {
        name: default if getattr(asked, name) is None else getattr(asked, name) for name, default in defaults.items()
    }
    if not asked.server:
        from lit_prm.generation.local_source import LocalSource
        from lit_prm.scoring.building import device_of

        return LocalSource(asked.model, **common, **own | {"device": device_of(own["device"])})
    return ServerSampler(Endpoint(asked.server, timeout=own.pop("timeout")), asked.model, **common, **own)


def _watch(job: SamplingJob) -> None:
    """Run the job behind two bars."""
    from lit_prm.scoring.progress import bar

    steps = job.run()
    done = next(steps)
    with bar("samples", job.samples, done.samples) as told:
        while not done.graded:
            done = next(steps)
            told(done.samples, job.source.trouble)
    with bar("problems graded", len(job.problems), done.graded) as told:
        for done in steps:
            told(done.graded, "")


def _summarise(out: Path) -> None:
    """What the file holds, as who reads it finds it."""
    from lit_prm.data.formats.sources import open_source

    rows: list[Any] = [row for _, row in open_source(str(out)).rows]
    labels = [label for row in rows for label in row["correctness"]]
    known = [label for label in labels if label is not None]
    cut = sum(reason == "length" for row in rows for reason in row.get("finish_reasons", []))
    right = (
        f"{sum(known) / len(known):.1%} of {len(known)} graded ones right" if known else "no answers to grade against"
    )
    print(f"{out}: {len(rows)} problems, {len(labels)} responses, {right}, {cut} cut at --max-tokens")
    if empty := sum(not text for row in rows for text in row["completions"]):
        print(f"warning: {empty} responses are empty, and graded like the others; the server's log may say why")


def _name_refused(file: Path) -> None:
    from lit_prm.data.formats.sources import open_source

    rows: list[Any] = [row for _, row in open_source(str(file)).rows]
    some = ", ".join(row["unique_id"] for row in rows[:8]) + (", ..." if len(rows) > 8 else "")
    print(
        f"{len(rows)} problems were refused and are not in it, but in {file}: {some}; the first: {rows[0]['refused']}"
    )
