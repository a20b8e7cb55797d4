"""`sample`: a killed job ends with the bytes of an unbroken one, and what has arrived is not asked for again."""

from __future__ import annotations

import gzip
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from lit_prm.answers import is_correct
from lit_prm.commands.main import main
from lit_prm.generation.files import SamplingJob as FileJob
from lit_prm.generation.local_sampler import DecodingJob, LocalSampler
from lit_prm.generation.samples import Journal, Sample
from lit_prm.generation.server_source import NEUTRAL
from lit_prm.models.language_model import load_tokenizer
from lit_prm.storage.atomic import alone
from tests.fake_server import TROUBLES, FakeServer

ROWS = [{"problem": f"What is {i} + {i * i}?", "answer": str(i + i * i), "level": 1 + i % 5} for i in range(10)]


@pytest.fixture
def problems(tmp_path: Path) -> Path:
    return written(tmp_path / "problems.jsonl", ROWS)


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with FakeServer() as fake:
        yield fake


def written(path: Path, rows: Sequence[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def rows_of(path: Path) -> list[dict[str, Any]]:
    data = path.read_bytes()
    return [json.loads(line) for line in (gzip.decompress(data) if path.suffix == ".gz" else data).splitlines()]


def sample(server: FakeServer, file: Path, out: Path, *more: str) -> list[dict[str, Any]]:
    """What the command writes; the server's log afterwards is of this call alone."""
    server.answered.clear()
    main(["sample", "fake", str(file), "--server", server.url, "--out", str(out), "--n", "3", *more])
    assert not out.with_name(f"{out.name}.parts").exists()
    return rows_of(out)


def refused(capsys: pytest.CaptureFixture[str], args: Sequence[str]) -> str:
    with pytest.raises(SystemExit, match="2"):
        main(["sample", *args])
    return capsys.readouterr().err


# --- laws -----------------------------------------------------------------------------------------


def test_every_problem_has_n_graded_responses_that_name_how_they_were_drawn(
    server: FakeServer, problems: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = sample(server, problems, tmp_path / "r.jsonl", "--temperature", "0.7", "--top-p", "0.9")
    assert [row["prompt"] for row in rows] == [row["problem"] for row in ROWS]
    labels = []
    for row in rows:
        assert {len(row[c]) for c in ("completions", "correctness", "answers", "finish_reasons", "seeds")} == {3}
        assert row["correctness"] == [is_correct(text, row["reference"]) for text in row["completions"]]
        assert row["generators"] == ["fake"] * 3
        assert row["sampling"] == {
            "model": "fake", "api": "chat", "template": "{prompt}", "temperature": 0.7, "top_p": 0.9,
            "max_tokens": 2048, "stop": None, "seed": 0, "per_request": 1, "extra": NEUTRAL,
        }  # fmt: skip
        labels += row["correctness"]
    assert {True, False} == set(labels)
    assert {reason for row in rows for reason in row["finish_reasons"]} == {"stop", "length"}
    assert sorted(body["seed"] for body in server.answered) == sorted(seed for row in rows for seed in row["seeds"])
    cut = sum(row["finish_reasons"].count("length") for row in rows)
    told = f"10 problems, 30 responses, {sum(labels) / 30:.1%} of 30 graded ones right, {cut} cut at --max-tokens"
    assert told in capsys.readouterr().out.replace("\n", "")


def test_the_file_does_not_depend_on_the_server_s_troubles(server: FakeServer, problems: Path, tmp_path: Path) -> None:
    sample(server, problems, tmp_path / "calm.jsonl.gz")
    with FakeServer(troubles=[t for t in TROUBLES if t != "timeout"]) as rough:
        sample(rough, problems, tmp_path / "rough.jsonl.gz", "--concurrency", "30")
    assert (tmp_path / "rough.jsonl.gz").read_bytes() == (tmp_path / "calm.jsonl.gz").read_bytes()


def test_a_finished_file_is_asked_for_nothing_and_stays(server: FakeServer, problems: Path, tmp_path: Path) -> None:
    sample(server, problems, tmp_path / "r.jsonl.gz")
    before = (tmp_path / "r.jsonl.gz").read_bytes()
    sample(server, problems, tmp_path / "r.jsonl.gz")
    assert (server.answered, (tmp_path / "r.jsonl.gz").read_bytes()) == ([], before)


def test_more_samples_and_more_problems_add_to_a_file(server: FakeServer, problems: Path, tmp_path: Path) -> None:
    sample(server, problems, tmp_path / "whole.jsonl", "--n", "5")
    sample(server, problems, tmp_path / "r.jsonl", "--limit", "4")
    sample(server, problems, tmp_path / "r.jsonl", "--n", "5")
    assert len(server.answered) == 10 * 5 - 4 * 3
    assert (tmp_path / "r.jsonl").read_bytes() == (tmp_path / "whole.jsonl").read_bytes()


def test_a_corrected_answer_changes_labels_and_no_response(server: FakeServer, problems: Path, tmp_path: Path) -> None:
    first = sample(server, problems, tmp_path / "r.jsonl")
    other = written(tmp_path / "other.jsonl", [{**row, "answer": "-1"} for row in ROWS])
    second = sample(server, other, tmp_path / "r.jsonl")
    assert server.answered == []
    assert [row["completions"] for row in first] == [row["completions"] for row in second]
    assert not any(label for row in second for label in row["correctness"])


def test_problems_of_the_same_words_share_their_samples(server: FakeServer, tmp_path: Path) -> None:
    twice = written(tmp_path / "twice.jsonl", [*ROWS[:2], {**ROWS[0], "id": "again"}])
    rows = sample(server, twice, tmp_path / "r.jsonl")
    assert len(server.answered) == 2 * 3
    assert rows[0]["completions"] == rows[2]["completions"]
    assert len({row["unique_id"] for row in rows}) == 3


def test_problems_without_answers_are_sampled_and_stay_unlabelled(
    server: FakeServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = written(tmp_path / "samples.jsonl", [{"prompt": row["problem"], "completions": ["?"]} for row in ROWS])
    rows = sample(server, file, tmp_path / "r.jsonl")
    assert all(row["correctness"] == [None] * 3 and "?" not in row["completions"] for row in rows)
    assert "no answers to grade against" in capsys.readouterr().out.replace("\n", " ")


def long_and_short(path: Path) -> Path:
    """Every third problem is longer than what the server reads."""
    return written(
        path, [{**r, "problem": f"{'Well, ' * 99}{r['problem']}"} if i % 3 == 0 else r for i, r in enumerate(ROWS)]
    )


SHORT: dict[str, Any] = {"longest": 400, "words": "maximum context length"}


def test_a_problem_that_the_server_refuses_ends_the_job_and_says_the_way_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = long_and_short(tmp_path / "p.jsonl")
    with FakeServer(**SHORT) as server:
        told = refused(capsys, ["fake", str(file), "--server", server.url, "--out", str(tmp_path / "r.jsonl")])
    assert "answered 400: maximum context length" in told
    assert "Give --skip-refused to leave out such problems" in told


def test_refused_problems_can_be_left_out_and_asked_of_another_server(
    server: FakeServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, out = long_and_short(tmp_path / "p.jsonl"), tmp_path / "r.jsonl.gz"
    whole = sample(server, file, tmp_path / "whole.jsonl")
    with FakeServer(**SHORT) as short:
        rows = sample(short, file, out, "--skip-refused")
        told = capsys.readouterr().out.replace("\n", "")
        again = sample(short, file, out, "--skip-refused")
        assert short.answered == []
    assert rows == again == [row for i, row in enumerate(whole) if i % 3]
    left = rows_of(tmp_path / "r.refused.jsonl")
    assert [row["unique_id"] for row in left] == [row["unique_id"] for row in whole[::3]]
    assert all("maximum context length" in row["refused"] for row in left)
    assert "4 problems were refused. They are in" in told
    assert f": {', '.join(row['unique_id'] for row in left)}. The first reason: " in told
    assert sample(server, tmp_path / "r.refused.jsonl", tmp_path / "rest.jsonl") == whole[::3]
    assert sample(server, file, out, "--skip-refused") == whole
    assert not (tmp_path / "r.refused.jsonl").exists()


def test_skipping_does_not_hide_a_wrong_setting_nor_lose_samples(
    server: FakeServer, problems: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, out = long_and_short(tmp_path / "p.jsonl"), tmp_path / "r.jsonl"
    with FakeServer(longest=9) as deaf:
        args = [str(file), "--out", str(out), "--skip-refused", "--server"]
        assert "The server refuses every problem" in refused(capsys, ["fake", *args, deaf.url])
    sample(server, file, out)
    with FakeServer(**SHORT) as short:
        assert "The server answered this prompt before" in refused(capsys, ["fake", *args, short.url, "--n", "4"])
    assert len(rows_of(out)) == 10


def test_empty_responses_are_counted_aloud(
    problems: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    empty = {"message": {"content": ""}, "finish_reason": "stop"}
    monkeypatch.setattr("tests.fake_server.answer", lambda *_: {"choices": [empty]})
    with FakeServer() as server:
        sample(server, problems, tmp_path / "r.jsonl")
    assert "Warning: 30 responses are empty" in capsys.readouterr().out


def test_a_system_prompt_and_more_fields_are_sent_recorded_and_part_of_the_address(
    server: FakeServer, problems: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bare = sample(server, problems, tmp_path / "bare.jsonl")
    more = ["--system", "Be brief.", "--extra", '{"top_k": 20, "chat_template_kwargs": {"enable_thinking": false}}']
    rows = sample(server, problems, tmp_path / "r.jsonl", *more)
    for body in server.answered:
        assert body["messages"][0] == {"role": "system", "content": "Be brief."}
        assert (body["top_k"], body["chat_template_kwargs"]) == (20, {"enable_thinking": False})
    extra = {**NEUTRAL, "top_k": 20, "chat_template_kwargs": {"enable_thinking": False}}
    told = {"system": "Be brief.", "extra": extra}
    assert all(row["sampling"] == bare[0]["sampling"] | told for row in rows)
    assert not {s for row in rows for s in row["seeds"]} & {s for row in bare for s in row["seeds"]}
    sample(server, problems, tmp_path / "less.jsonl", "--extra", '{"top_k": null, "min_p": 0.1}')  # null: left to it
    assert "top_k" not in server.answered[-1]
    assert server.answered[-1]["min_p"] == 0.1
    args = ["fake", str(problems), "--server", server.url, "--out", str(tmp_path / "r.jsonl"), "--n", "3"]
    assert "another extra." in refused(capsys, [*args, *more[:2], "--extra", '{"top_k": 21}'])


# --- what is there already ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--temperature", "0.5", "--seed", "1"], "another seed, temperature"),
        (["--n", "2"], "holds 10 samples that this command would drop"),
        (["--limit", "9"], "holds 3 samples that this command would drop"),
    ],
)
def test_samples_are_never_thrown_away_unasked(
    more: list[str],
    message: str,
    server: FakeServer,
    problems: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "r.jsonl"
    sample(server, problems, out)
    before = out.read_bytes()
    args = ["fake", str(problems), "--server", server.url, "--out", str(out), "--n", "3", *more]
    assert message in refused(capsys, args)
    assert out.read_bytes() == before


def test_a_file_of_somebody_else_is_left_alone(
    server: FakeServer, problems: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = written(tmp_path / "r.jsonl", [{"prompt": "1", "completions": ["2"]}])
    args = ["fake", str(problems), "--server", server.url, "--out", str(out)]
    assert "`sample` did not write this row" in refused(capsys, args)


def test_an_unfinished_job_of_other_settings_and_a_running_one_are_told(
    server: FakeServer, problems: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "r.jsonl"
    args = ["fake", str(problems), "--server", server.url, "--out", str(out)]
    with alone(tmp_path / "r.jsonl.parts"):
        assert "Another process is writing r.jsonl" in refused(capsys, args)
        journal = Journal(tmp_path / "r.jsonl.parts" / "0123.jsonl", {})
        journal.add("0", Sample("", "stop", 0))
        journal.close()
    assert "0123.jsonl holds samples of an unfinished job with other settings" in refused(capsys, args)


def test_a_job_that_failed_before_anything_arrived_can_be_corrected(
    server: FakeServer, problems: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "r.jsonl"
    args = [str(problems), "--server", server.url, "--out", str(out)]
    assert "serves fake, not fkae" in refused(capsys, ["fkae", *args])
    assert len(sample(server, problems, out)) == 10


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--out", "r.parquet"], "groups are written as .jsonl or .jsonl.gz"),
        (["--temperature", "0"], "would be identical. Give --n 1"),
        (["--temperature", "nan"], "--temperature nan is not a number from 0"),
        (["--top-p", "0"], "--top-p 0.0 is not in (0, 1]"),
        (["--timeout", "0"], "--timeout 0.0 is not a positive number of seconds"),
        (["--n", "0"], "0 is not at least 1"),
        (["--concurrency", "0"], "0 is not at least 1"),
        (["--prompt-template", "Solve"], "lacks the placeholder {prompt}"),
        (["--dtype", "bfloat16", "--workers", "2"], "--dtype, --workers would have no effect with --server"),
        (["--extra", "top_k=20"], "'top_k=20' is not JSON"),
        (["--extra", "20"], "is not a JSON object"),
        (["--extra", '{"n": 4, "temperature": 0}'], "--extra holds n, temperature, which `sample` sets itself"),
        (["--plain", "--system", "Be brief."], "Put the text into --prompt-template"),
        (["--server", "here"], "--server 'here' is not a URL such as http://localhost:8000"),
    ],
)
def test_wrong_options_are_told_in_a_line(
    more: list[str], message: str, problems: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    assert message in refused(capsys, ["fake", str(problems), "--server", "http://127.0.0.1:9", *more])


def test_options_of_servers_are_refused_without_one(problems: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "--top-p, --plain would have no effect without --server" in refused(
        capsys, ["m", str(problems), "--plain", "--top-p", ".9"]
    )
    assert "--skip-refused would have no effect" in refused(capsys, ["m", str(problems), "--skip-refused"])


def test_asking_a_server_loads_no_model_library() -> None:
    modules = "lit_prm.generation.command, lit_prm.generation.files, lit_prm.generation.server_source"
    code = f"import sys, {modules}; print(*sys.modules)"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"torch", "transformers", "datasets"} & set(shown.stdout.split())


def test_the_key_is_on_no_disk(
    server: FakeServer, problems: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setenv("LIT_PRM_API_KEY", "sk-secret")
    sample(server, problems, tmp_path / "r.jsonl")
    assert server.keys == {"Bearer sk-secret"}
    assert not any(b"sk-secret" in path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert "sk-secret" not in "".join(capfd.readouterr())


# --- in this process --------------------------------------------------------------------------------


def local(model: Path, file: Path, out: Path, *more: str) -> list[dict[str, Any]]:
    main(["sample", str(model), str(file), "--out", str(out), "--n", "3", "--max-tokens", "6", *more])
    return rows_of(out)


def test_a_model_folder_answers_without_a_server(policy_folder: Path, problems: Path, tmp_path: Path) -> None:
    rows = local(policy_folder, problems, tmp_path / "r.jsonl")
    tokenizer = load_tokenizer(str(policy_folder))
    for row in rows:
        assert row["generators"] == [policy_folder.name] * 3
        for text, reason in zip(row["completions"], row["finish_reasons"], strict=True):
            assert reason == ("length" if len(tokenizer(text)["input_ids"]) >= 6 else "stop") or "\ufffd" in text
    assert {"length"} <= {reason for row in rows for reason in row["finish_reasons"]}
    assert local(policy_folder, problems, tmp_path / "other.jsonl", "--seed", "1") != rows
    assert rows[0]["sampling"]["api"] == "in process"
    assert str(policy_folder.parent) not in json.dumps(rows)


def test_a_killed_job_in_this_process_ends_like_an_unbroken_one(
    policy_folder: Path, problems: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lit_prm.generation.local_sampler.ROWS", 9)  # jobs of three prompts
    whole = local(policy_folder, problems, tmp_path / "whole.jsonl")
    with monkeypatch.context() as patch:
        interrupt_after(13, patch)  # in the midst of the second job
        with pytest.raises(SystemExit, match="130"):
            local(policy_folder, problems, tmp_path / "r.jsonl")
    jobs, draw = list[int](), LocalSampler.draw

    def counted(self: LocalSampler, todo: list[DecodingJob]) -> Any:
        jobs.append(len(todo))
        return draw(self, todo)

    monkeypatch.setattr(LocalSampler, "draw", counted)
    assert local(policy_folder, problems, tmp_path / "r.jsonl") == whole
    assert jobs == [4 - 1]
    more = local(policy_folder, problems, tmp_path / "r.jsonl", "--n", "4")
    assert [row["completions"][:3] for row in more] == [row["completions"] for row in whole]


def test_writing_a_row_costs_the_same_however_many_problems_there_are(
    server: FakeServer, problems: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    count: Any = FileJob.samples.fget  # type: ignore[attr-defined]
    asked = list[int]()

    def samples(self: FileJob) -> int:
        asked.append(1)
        return int(count(self))

    monkeypatch.setattr(FileJob, "samples", property(samples))
    seen = []
    for limit in ("2", "8"):
        sample(server, problems, tmp_path / f"{limit}.jsonl", "--limit", limit)
        seen.append(len(asked))
        asked.clear()
    assert seen[0] == seen[1]


# --- kills ----------------------------------------------------------------------------------------


def interrupt_after(samples: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """As ctrl-c would, once so many are kept."""
    add, added = Journal.add, list[str]()

    def stopping(self: Journal, name: str, kept: Sample) -> bool:
        if len(added) == samples:
            raise KeyboardInterrupt
        added.append(name)
        return add(self, name, kept)

    monkeypatch.setattr(Journal, "add", stopping)


def test_an_interrupted_job_asks_for_what_is_left(
    server: FakeServer, problems: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sample(server, problems, tmp_path / "whole.jsonl")
    interrupt_after(11, monkeypatch)
    with pytest.raises(SystemExit, match="130"):
        sample(server, problems, tmp_path / "r.jsonl", "--concurrency", "1")
    assert not (tmp_path / "r.jsonl").exists()
    monkeypatch.undo()
    sample(server, problems, tmp_path / "r.jsonl", "--concurrency", "5")
    assert 30 - 11 <= len(server.answered) <= 30 - 11 + 1  # what was under way may be answered to nobody
    assert (tmp_path / "r.jsonl").read_bytes() == (tmp_path / "whole.jsonl").read_bytes()


@pytest.mark.parametrize("arrived", range(1, 10))
def test_samples_that_come_together_are_asked_for_together_again(
    arrived: int, server: FakeServer, problems: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    several = ["--per-request", "4", "--n", "6", "--limit", "2", "--concurrency", "1"]
    sample(server, problems, tmp_path / "whole.jsonl", *several)
    interrupt_after(arrived, monkeypatch)
    with pytest.raises(SystemExit, match="130"):
        sample(server, problems, tmp_path / "r.jsonl", *several)
    monkeypatch.undo()
    sample(server, problems, tmp_path / "r.jsonl", *several)
    assert (tmp_path / "r.jsonl").read_bytes() == (tmp_path / "whole.jsonl").read_bytes()


@pytest.mark.parametrize(
    "garbage", [b"\0\0\0", b'{"a": 1}', b'["0", "text", "stop"]', b'["0", null, "stop", 1]', b"\xff"]
)
def test_a_garbage_line_is_named_with_its_remedy(garbage: bytes, tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"
    path.write_bytes(b'["0", "a", null, 1]\n' + garbage + b"\n")
    with pytest.raises(ValueError, match=r"j.jsonl, line 2: b.* is not a sample. Remove the line"):
        Journal(path, {})


def test_the_folder_goes_when_nothing_in_it_is_open(
    server: FakeServer, problems: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """NFS keeps what is removed until it is closed, and so its folder."""
    rmdir, still_open = Path.rmdir, list[list[str]]()

    def of_nfs(self: Path) -> None:
        opened = [os.path.realpath(file) for file in Path("/proc/self/fd").iterdir()]
        still_open.append([file for file in opened if file.startswith(str(self))])
        rmdir(self)

    monkeypatch.setattr(Path, "rmdir", of_nfs)
    sample(server, problems, tmp_path / "r.jsonl")
    assert still_open == [[]]


def test_a_cut_line_is_the_only_loss(tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"
    journal = Journal(path, {})
    kept = [Sample("a\n\u2028b\r", "stop", 1), Sample("ü", None, 2)]
    assert [journal.add(str(i), s) for i, s in enumerate(kept)] == [True, True]
    assert not journal.add("0", Sample("other", None, 3))
    journal.close()
    path.write_bytes(path.read_bytes()[:-3])
    again = Journal(path, {"old": Sample("", "stop", 0)})
    assert ("0" in again, "1" in again, "old" in again, again["0"]) == (True, False, True, kept[0])
    again.add("1", kept[1])
    again.close()
    last = Journal(path, {})
    assert [last["0"], last["1"]] == kept
    last.close()


def started(args: Sequence[str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "lit_prm", "sample", *args], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )


@pytest.mark.slow  # twelve starts of the command
def test_kills_at_any_moment_change_no_byte_and_cost_no_sample(tmp_path: Path) -> None:
    rows = [{"problem": f"What is {i} + {i * 7}?", "answer": str(8 * i)} for i in range(40)]
    file, rng = written(tmp_path / "p.jsonl", rows), random.Random(0)
    with FakeServer() as calm:
        whole = tmp_path / "whole.jsonl.gz"
        main(["sample", "fake", str(file), "--server", calm.url, "--out", str(whole), "--n", "5"])
    out, journals = tmp_path / "r.jsonl.gz", list[int]()
    with FakeServer(troubles=("drop", "500", "cut json"), pause=0.15) as server:
        args = ["fake", str(file), "--server", server.url, "--out", str(out), "--n", "5", "--concurrency", "4"]
        for kind in [signal.SIGKILL, signal.SIGTERM] * 5:
            process, before = started(args), len(server.answered)
            while len(server.answered) == before and process.poll() is None:
                time.sleep(0.01)
            time.sleep(rng.uniform(0, 0.8))
            process.send_signal(kind)
            process.communicate()
            arrived = [path.read_bytes().count(b"\n") for path in (tmp_path / "r.jsonl.gz.parts").glob("*.jsonl")]
            journals += arrived
            assert not out.exists()
        server.pause = 0
        process = started(args)
        _, complaints = process.communicate(timeout=120)
        assert process.returncode == 0, complaints
        distinct = {(body["messages"][0]["content"], body["seed"]) for body in server.answered}
    assert out.read_bytes() == whole.read_bytes()
    assert journals == sorted(journals)
    assert 0 < journals[0] < journals[-1] < 200
    assert len(distinct) == 200
    # what was under way when a kill came, and no more, was asked for twice
    assert len(server.answered) - 200 <= 10 * 4


# --- whoever reads it ------------------------------------------------------------------------------


@pytest.fixture
def rollouts(server: FakeServer, problems: Path, tmp_path: Path) -> Path:
    sample(server, problems, tmp_path / "rollouts.jsonl.gz", "--n", "4")
    return tmp_path / "rollouts.jsonl.gz"


def test_bon_and_score_take_the_file_as_it_is(
    rollouts: Path, policy_folder: Path, reference_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["bon", str(rollouts)])
    assert "majority vote" in capsys.readouterr().out
    out = tmp_path / "scored.jsonl"
    main(["score", str(policy_folder), str(rollouts), "--reference", str(reference_folder), "--out", str(out)])
    assert [len(row["step_rewards"]) for row in rows_of(out)] == [4] * 10
