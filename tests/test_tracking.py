"""One MLflow run per folder, true status, nothing lost, and one clear error when the store is missing."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from lightning import LightningModule, Trainer
from requests.adapters import HTTPAdapter
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from lit_prm.commands.main import main as command
from lit_prm.storage import mlflow_upload
from lit_prm.storage.atomic import write_text
from lit_prm.storage.mlflow_logger import MLflow, entity_name
from lit_prm.storage.run_files import flatten
from tests.mlflow_store import fresh_store, tracker


class Regression(LightningModule):
    """One weight; at batch 1 of fit or test it may do something else."""

    def __init__(self, act: Any = None, stage: str = "fit") -> None:
        super().__init__()
        self.layer = nn.Linear(1, 1)
        self.act, self.stage = act, stage

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        self._maybe_act("fit", batch_idx)
        loss = self.layer(batch[0]).square().mean()
        self.log("train/loss", loss)
        return loss  # type: ignore[no-any-return]

    def test_step(self, batch: list[Tensor], batch_idx: int) -> None:
        self._maybe_act("test", batch_idx)
        self.log("bon/test/acc@16", 0.25)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)

    def _maybe_act(self, stage: str, batch_idx: int) -> None:
        if self.act and stage == self.stage and batch_idx == 1:
            self.act()


def data() -> DataLoader[Any]:
    return DataLoader(TensorDataset(torch.ones(4, 1)), batch_size=2)


def trainer(logger: MLflow, folder: Path) -> Trainer:
    return Trainer(
        max_epochs=1, accelerator="cpu", logger=logger, log_every_n_steps=1, enable_progress_bar=False,
        enable_checkpointing=False, enable_model_summary=False, default_root_dir=folder, num_sanity_val_steps=0,
    )  # fmt: skip


def stored(logger: MLflow) -> Any:
    return logger.experiment.get_run(logger.run_id)


@pytest.fixture
def uri(tmp_path: Path) -> str:
    return fresh_store(tmp_path)


pytestmark = pytest.mark.filterwarnings(
    "ignore:.*LeafSpec:FutureWarning",  # Lightning 2.6 with torch 2.13
    "ignore:.*does not have many workers",  # nothing to load in parallel
)


# --- status ---------------------------------------------------------------------------------------


def test_fit_and_test_end_finished_in_one_run(tmp_path: Path, uri: str) -> None:
    logger = tracker(tmp_path, uri)
    model, runner = Regression(), trainer(logger, tmp_path)
    runner.fit(model, data())
    first = stored(logger).info
    assert first.status == "FINISHED"
    runner.test(model, data(), verbose=False)
    after = stored(logger)
    assert (after.info.status, after.info.run_id) == ("FINISHED", first.run_id)
    assert after.data.metrics["bon/test/acc_at_16"] == 0.25
    assert [m.step for m in logger.experiment.get_metric_history(first.run_id, "train/loss")] == [0, 1]


def _fail() -> None:
    raise ZeroDivisionError


def _interrupt() -> None:
    raise KeyboardInterrupt


def _terminate() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.parametrize("stage", ["fit", "test"])
@pytest.mark.parametrize(
    ("act", "status", "raised"),
    [(_fail, "FAILED", ZeroDivisionError), (_interrupt, "KILLED", SystemExit)],
)
def test_status_tells_failure_from_interruption(
    tmp_path: Path, uri: str, act: Any, status: str, raised: type[BaseException], stage: str
) -> None:
    logger = tracker(tmp_path, uri)
    runner, model = trainer(logger, tmp_path), Regression(act, stage)
    handler = signal.getsignal(signal.SIGINT)
    try:
        with pytest.raises(raised):
            runner.fit(model, data()) if stage == "fit" else runner.test(model, data(), verbose=False)
    finally:
        signal.signal(signal.SIGINT, handler)  # Lightning leaves Ctrl-C ignored: its process is about to end
    assert stored(logger).info.status == status


def test_sigterm_is_killed(tmp_path: Path, uri: str) -> None:
    logger = tracker(tmp_path, uri)
    runner = trainer(logger, tmp_path)
    loader = DataLoader(TensorDataset(torch.ones(8, 1)), batch_size=2)
    with pytest.raises(SystemExit):
        runner.fit(Regression(_terminate), loader)
    assert runner.global_step < 4
    assert stored(logger).info.status == "KILLED"


def test_a_run_taken_up_again_is_running(tmp_path: Path, uri: str) -> None:
    first = tracker(tmp_path, uri)
    assert stored(first).info.status == "RUNNING"
    first.finalize("failed")
    assert stored(first).info.status == "FAILED"
    second = tracker(tmp_path, uri)
    second.go_on()
    assert stored(second).info.status == "RUNNING"


# --- going on -------------------------------------------------------------------------------------


def test_a_folder_goes_on_in_its_run(tmp_path: Path, uri: str) -> None:
    first = tracker(tmp_path, uri)
    first.log_metrics({"train/loss": 0.7}, step=1)
    second = tracker(tmp_path, uri)
    second.log_metrics({"train/loss": 0.6}, step=2)
    assert second.run_id == first.run_id
    assert [m.step for m in second.experiment.get_metric_history(first.run_id, "train/loss")] == [1, 2]
    assert stored(second).info.run_name == "ce-1resp"
    assert (tmp_path / "run" / "mlflow-run-id").read_text() == f"{first.run_id}\n"
    other = MLflow(folder=str(tmp_path / "other"), run_name="ce-1resp", tracking_uri=uri)
    assert other.run_id != first.run_id


@pytest.mark.parametrize("gone", ["deleted", "another store"])
def test_a_run_that_no_longer_exists_is_replaced(tmp_path: Path, uri: str, gone: str) -> None:
    first = tracker(tmp_path, uri)
    run_id = first.run_id
    if gone == "deleted":
        first.experiment.delete_run(run_id)
    else:
        (tmp_path / "elsewhere").mkdir()
        uri = fresh_store(tmp_path / "elsewhere")
    second = tracker(tmp_path, uri)
    assert second.run_id != run_id
    assert tracker(tmp_path, uri).run_id == second.run_id


def test_params_are_whole_and_logged_once(tmp_path: Path, uri: str) -> None:
    params: dict[str, Any] = {
        "model": {"beta": 0.05, "loss": {"class_path": "CE"}},
        "long": "x" * 5000,
        "longer": "y" * 7000,
    }
    params |= {f"p{i}": i for i in range(250)}  # more than MLflow takes in one request
    tracker(tmp_path, uri).log_hyperparams(params)
    again = tracker(tmp_path, uri)
    again.log_hyperparams({**params, "ckpt_path": "last.ckpt", "model": {"beta": 9.0}})
    found = stored(again).data.params
    assert len(found) == 4 + 250 + 1
    assert found["model.beta"] == "0.05"
    assert found["model.loss.class_path"] == "CE"
    assert found["long"] == "x" * 5000
    assert found["longer"] == "y" * 6000
    assert found["ckpt_path"] == "last.ckpt"


# --- what is stored -------------------------------------------------------------------------------


def test_more_metrics_than_one_request_takes_all_arrive(tmp_path: Path, uri: str) -> None:
    logger = tracker(tmp_path, uri)
    metrics = {f"bon/test/subject-Counting & Probability/acc@{n}": n / 2048 for n in range(2048)}
    logger.log_metrics(metrics, step=3)
    found = stored(logger).data.metrics
    assert len(found) == 2048
    assert found["bon/test/subject-Counting - Probability/acc_at_7"] == 7 / 2048


def test_data_tags_and_files_are_kept(tmp_path: Path, uri: str) -> None:
    logger = tracker(tmp_path, uri)
    digests = {"train": "a" * 64, "test": "b" * 64}
    for _ in range(2):  # a resumed run tells the same again
        logger.log_data(digests)
    logger.log_tags({"scale": "tiny", "seed": 3, "command": "c" * 9000})
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures" / "test.png").write_bytes(b"figure")
    (tmp_path / "config.yaml").write_text("a: 1\n")
    for name in ("figures", "config.yaml", "absent"):
        logger.log_files(tmp_path / name)
    run = stored(logger)
    inputs = {i.dataset.name: (i.dataset.digest, i.tags[0].value) for i in run.inputs.dataset_inputs}
    assert inputs == {"train": ("a" * 36, "training"), "test": ("b" * 36, "evaluation")}
    assert run.data.tags["data.test"] == "b" * 64
    assert (run.data.tags["seed"], len(run.data.tags["command"])) == ("3", 8000)
    kept = tmp_path / "mlartifacts" / logger.run_id / "artifacts"  # type: ignore[operator]
    assert sorted(p.relative_to(kept).as_posix() for p in kept.rglob("*.*")) == ["config.yaml", "figures/test.png"]


@settings(deadline=None)
@given(st.text(min_size=1, max_size=300))
@example("/")
@example("a" * 249 + "/b")
@example("a" * 248 + "/.b")
def test_every_name_is_one_that_mlflow_takes(key: str) -> None:
    from mlflow.utils.validation import _validate_length_limit, _validate_metric_name

    name = entity_name(key)
    _validate_metric_name(name)
    _validate_length_limit("Metric name", 250, name)
    assert entity_name(name) == name


def test_flatten_keeps_lists_and_joins_names() -> None:
    assert flatten({"a": {"b": {"c": 1}, "d": [{"e": 2}]}, "f": None}) == {"a.b.c": 1, "a.d": [{"e": 2}], "f": None}


def test_write_whole_replaces_and_leaves_nothing_else(tmp_path: Path) -> None:
    for text in ("old", "new"):
        write_text(tmp_path / "file", text)
    assert {p.name: p.read_text() for p in tmp_path.iterdir()} == {"file": "new"}


# --- where it is stored ---------------------------------------------------------------------------


def test_store_is_the_argument_then_the_environment_then_a_database_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://from-environment")
    assert MLflow("run", "name", tracking_uri="http://argument")._tracking_uri == "http://argument"
    assert MLflow("run", "name")._tracking_uri == "http://from-environment"
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    fresh_store(tmp_path)
    logger = MLflow("run", "name")
    logger.log_metrics({"a": 1.0})
    experiment = logger.experiment.get_experiment(logger.experiment_id)
    assert logger._tracking_uri == f"sqlite:///{tmp_path}/mlflow.db"
    assert experiment.name == "lit_prm"
    assert experiment.artifact_location == (tmp_path / "mlartifacts").as_uri()


def test_constructing_touches_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    MLflow("run", "name", tracking_uri="http://127.0.0.1:9").finalize("success")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_importing_leaves_mlflow_out() -> None:
    code = "import sys, lit_prm.storage.mlflow_logger as t; t.MLflow('run', 'name'); sys.exit('mlflow' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("silent", [False, True])
def test_a_missing_server_is_one_error_within_seconds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, silent: bool
) -> None:
    for name, value in {"MAX_RETRIES": None, "TIMEOUT": "1" if silent else None, "BACKOFF_FACTOR": None}.items():
        monkeypatch.setenv(f"MLFLOW_HTTP_REQUEST_{name}", "")  # so that monkeypatch cleans up
        monkeypatch.delenv(f"MLFLOW_HTTP_REQUEST_{name}")
        if value:
            monkeypatch.setenv(f"MLFLOW_HTTP_REQUEST_{name}", value)
    asked: list[tuple[float, int]] = []
    send = HTTPAdapter.send

    def noted(self: Any, request: Any, **options: Any) -> Any:
        asked.append((options["timeout"], self.max_retries.total))
        return send(self, request, **options)

    monkeypatch.setattr(HTTPAdapter, "send", noted)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        if silent:
            taken.listen()  # accepts, never answers
        uri = f"http://127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(RuntimeError, match=f"{uri}.*MLFLOW_TRACKING_URI.*trainer.logger false"):
            trainer(tracker(tmp_path, uri), tmp_path).fit(Regression(_fail), data())
    assert asked == [(1 if silent else 10, 1)]  # one question of so many seconds, repeated once


def test_a_file_store_is_refused_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match=r"unset it to record in \./mlflow\.db"):
        _ = tracker(tmp_path, f"{(tmp_path / 'mlruns').as_uri()}").run_id


START = """
import sys
from lit_prm.storage.mlflow_logger import MLflow
logger = MLflow(sys.argv[1], "run")
logger.log_metrics({"a": 1.0})
print(logger.run_id)
"""


@pytest.mark.slow
def test_processes_may_make_a_store_together(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path.cwd())}
    environment.pop("MLFLOW_TRACKING_URI", None)
    started = [
        subprocess.Popen([sys.executable, "-c", START, f"run-{i}"], cwd=tmp_path, env=environment,
                         stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for i in range(3)
    ]  # fmt: skip
    ended = [process.communicate() for process in started]
    assert [process.returncode for process in started] == [0, 0, 0], ended
    assert len({out for out, _ in ended}) == 3
    assert all("INFO" not in err and "alembic" not in err for _, err in ended), ended


@pytest.mark.slow
def test_processes_may_write_a_store_together(tmp_path: Path, uri: str) -> None:
    """Two runs at once, every point of both."""
    code = START + "for i in range(300): logger.log_metrics({'loss': 1 / (i + 1), 'b': i}, i)\n"
    environment = {**os.environ, "PYTHONPATH": str(Path.cwd()), "MLFLOW_TRACKING_URI": uri}
    started = [
        subprocess.Popen([sys.executable, "-c", code, f"run-{i}"], cwd=tmp_path, env=environment,
                         stdout=subprocess.PIPE, text=True)
        for i in range(2)
    ]  # fmt: skip
    runs = [process.communicate()[0].strip() for process in started]
    assert [process.returncode for process in started] == [0, 0]
    assert list(tmp_path.glob("run-*/mlflow-missed.jsonl")) == []
    client = tracker(tmp_path, uri).experiment
    for run in runs:
        assert [m.step for m in client.get_metric_history(run, "loss")] == list(range(300))
        assert {m.step: m.value for m in client.get_metric_history(run, "b")} == {i: float(i) for i in range(300)}


# --- when it goes away ----------------------------------------------------------------------------


def points(logger: MLflow) -> list[int]:
    return [m.step for m in logger.experiment.get_metric_history(logger.run_id, "train/loss")]


@pytest.mark.parametrize("again", ["next start", "command"])
def test_a_store_that_goes_away_costs_no_work_and_no_point(
    tmp_path: Path, uri: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], again: str
) -> None:
    from mlflow.exceptions import MlflowException

    def away(*_: Any, **__: Any) -> None:
        raise MlflowException("API request failed: Connection refused")

    def goes_away() -> None:
        for write in ("log_batch", "set_terminated", "update_run", "log_artifact"):
            monkeypatch.setattr(logger.experiment, write, away)

    logger = tracker(tmp_path, uri)
    runner = trainer(logger, tmp_path)
    runner.fit(Regression(goes_away), DataLoader(TensorDataset(torch.ones(8, 1)), batch_size=2))
    assert runner.global_step == 4
    told = capsys.readouterr().err
    assert told.count("Training continues without the MLflow store") == 1
    assert f"python -m lit_prm mlflow-upload {tmp_path / 'run'}" in told
    second = MLflow(folder=str(tmp_path / "elsewhere"), run_name="reader", tracking_uri=uri)
    run = second.experiment.get_run(logger.run_id)
    assert run.info.status == "RUNNING"
    if again == "command":
        command(["mlflow-upload", str(tmp_path / "run"), "--tracking-uri", uri])
        assert "entries of" in capsys.readouterr().out
        command(["mlflow-upload", str(tmp_path / "run"), "--tracking-uri", uri])
        assert "The store has all entries" in capsys.readouterr().out
    after = tracker(tmp_path, uri)
    assert points(after) == [0, 1, 2, 3]
    assert stored(after).info.status == "FINISHED"
    assert not (tmp_path / "run" / "mlflow-missed.jsonl").exists()


@pytest.mark.parametrize(
    ("status", "outage"), [(None, True), (503, True), (408, True), (429, True), (413, False), (403, False)]
)
def test_a_request_is_an_outage_only_where_repeating_it_may_help(status: int | None, outage: bool) -> None:
    from requests import HTTPError, Response

    from lit_prm.storage.mlflow_send import is_outage

    error = HTTPError("told")
    if status is not None:
        error.response = Response()
        error.response.status_code = status
    assert is_outage(error) is outage


def test_an_artifact_that_cannot_be_stored_ends_no_run(
    tmp_path: Path, uri: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    logger = tracker(tmp_path, uri)
    (file := tmp_path / "summary.json").write_text("{}")
    monkeypatch.setattr(logger.experiment, "log_artifact", full)
    logger.log_files(file)
    logger.log_metrics({"train/loss": 1.0}, 0)
    assert points(logger) == [0]
    assert "summary.json: [Errno 28] No space left on device" in capsys.readouterr().err


def test_what_the_store_refuses_is_an_error(tmp_path: Path, uri: str) -> None:
    from mlflow.exceptions import MlflowException

    logger = tracker(tmp_path, uri)
    _ = logger.run_id
    logger.experiment.delete_run(logger.run_id)
    with pytest.raises(MlflowException, match="must be in the 'active' state"):
        logger.log_metrics({"a": 1.0})


def test_uploading_to_a_store_without_the_run_is_refused(tmp_path: Path, uri: str) -> None:
    (tmp_path / "run").mkdir()
    with pytest.raises(ValueError, match="mlflow-run-id does not exist"):
        mlflow_upload.main([str(tmp_path / "run")])
    (tmp_path / "run" / "mlflow-run-id").write_text("0" * 32)
    (tmp_path / "run" / "mlflow-missed.jsonl").write_text('{"tags": {"a": "b"}}\n')
    with pytest.raises(RuntimeError, match=f"{'0' * 32}.*--tracking-uri.*is kept"):
        mlflow_upload.main([str(tmp_path / "run"), "--tracking-uri", uri])
    assert (tmp_path / "run" / "mlflow-missed.jsonl").exists()


def test_lines_that_are_no_entries_are_told_and_not_counted_as_sent(
    tmp_path: Path, uri: str, capsys: pytest.CaptureFixture[str]
) -> None:
    logger = tracker(tmp_path, uri)
    _ = logger.run_id
    missed = tmp_path / "run" / "mlflow-missed.jsonl"
    missed.write_text('not json\n{"nope": 1}\n{}\n{"params": 5}\n{"tags": {"a": "b"}}\n{"tags": {"c"')
    command(["mlflow-upload", str(tmp_path / "run"), "--tracking-uri", uri])
    told = capsys.readouterr()
    assert "1 entries of" in told.out
    assert "5 refused lines set aside" in told.out
    assert "mlflow-missed.jsonl.damaged" in told.err
    assert stored(logger).data.tags["a"] == "b"
    assert not missed.exists()


def test_entries_of_a_deleted_run_are_kept(tmp_path: Path, uri: str) -> None:
    logger = tracker(tmp_path, uri)
    logger.experiment.delete_run(logger.run_id)
    missed = tmp_path / "run" / "mlflow-missed.jsonl"
    missed.write_text('{"tags": {"a": "b"}}\n')
    with pytest.raises(ValueError, match="was deleted in"):
        mlflow_upload.main([str(tmp_path / "run"), "--tracking-uri", uri])
    assert missed.read_text() == '{"tags": {"a": "b"}}\n'


# --- a real server --------------------------------------------------------------------------------


class Server:
    """`mlflow server` on an empty store, that may be killed and started again."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.uri, self.folder, self.store = f"http://127.0.0.1:{self.port}", folder, fresh_store(folder)
        self.start()

    def start(self) -> None:
        command = ["-m", "mlflow", "server", "--port", str(self.port), "--workers", "1",
                   "--backend-store-uri", self.store]  # fmt: skip
        with (self.folder / "server.log").open("a") as log:
            self.process = subprocess.Popen(
                [sys.executable, *command], cwd=self.folder, stdout=log, stderr=log, start_new_session=True
            )
        _wait_for(f"{self.uri}/health")

    def stop(self, how: int = signal.SIGTERM) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, how)  # the server's workers are in its session
            self.process.wait(30)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    made = Server(tmp_path_factory.mktemp("server") / "store")
    yield made
    made.stop()


@pytest.mark.slow
def test_a_tracking_server_holds_the_same_record(tmp_path: Path, server: Server) -> None:
    logger = tracker(tmp_path, server.uri)
    logger.log_hyperparams({"long": "x" * 5000})
    trainer(logger, tmp_path).fit(Regression(), data())
    logger.log_data({"train": "a" * 64})
    (tmp_path / "summary.json").write_text("{}")
    logger.log_files(tmp_path / "summary.json")
    again = tracker(tmp_path, server.uri)
    run = stored(again)
    assert (run.info.run_id, run.info.status) == (logger.run_id, "FINISHED")
    assert run.data.params["long"] == "x" * 5000
    assert [a.path for a in again.experiment.list_artifacts(again.run_id)] == ["summary.json"]


@pytest.mark.slow
@pytest.mark.parametrize("back", ["while it trains", "after its end"])
def test_a_server_killed_in_mid_run_costs_no_work_and_no_point(
    tmp_path: Path, server: Server, back: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lit_prm.storage.mlflow_queue.Outbox.SHORTEST", 0.5)

    class Watched(Regression):
        def on_train_batch_start(self, batch: list[Tensor], batch_idx: int) -> None:
            if batch_idx == 50:
                server.stop(signal.SIGKILL)
            if batch_idx == 150 and back == "while it trains":
                server.start()

        def on_train_batch_end(self, outputs: Any, batch: list[Tensor], batch_idx: int) -> None:
            if batch_idx > 150:
                time.sleep(0.05)  # a while to come back in

    logger = tracker(tmp_path, server.uri)
    runner, model = trainer(logger, tmp_path), Watched()
    runner.fit(model, DataLoader(TensorDataset(torch.ones(400, 1)), batch_size=2))
    assert runner.global_step == 200
    missed = tmp_path / "run" / "mlflow-missed.jsonl"
    assert missed.exists() == (back == "after its end")
    if back == "after its end":
        server.start()
        command(["mlflow-upload", str(tmp_path / "run"), "--tracking-uri", server.uri])
    again = tracker(tmp_path, server.uri)
    assert points(again) == list(range(200))
    assert stored(again).info.status == "FINISHED"
    assert not missed.exists()


def _wait_for(url: str, seconds: float = 90) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            with urllib.request.urlopen(url, timeout=2):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.5)
    raise TimeoutError(url)
