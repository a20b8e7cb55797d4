from __future__ import annotations

import json
from collections import Counter
from itertools import chain
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from lit_prm.data.batch import Batch
from lit_prm.data.formats import read_groups, write_groups
from lit_prm.data.records import Group, Problem, Rollout
from lit_prm.data.steps import StepRule
from lit_prm.training.datamodule import RolloutDataModule
from lit_prm.training.trainable import with_labels
from lit_prm.training.worlds.tinymath import TinyMath
from tests.conftest import MICRO

FILES: dict[str, Any] = {
    "train": "rollouts/train.jsonl", "validation": {"validation": "candidates/validation.jsonl"},
    "test": {"test": "candidates/test.jsonl"},
}  # fmt: skip


def module(root: Path, tokenizer: Path | None = None, **settings: Any) -> RolloutDataModule:
    given = {"tokenizer": str(tokenizer or root / "models" / "base"), "root": str(root), "steps": None, **FILES}
    return RolloutDataModule(**{**given, "batch_size": 24, **settings})


def write(path: Path, *problems: tuple[str, list[bool | None]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_groups(path, [
        Group(problem=Problem(prompt=text, id=text),
              rollouts=tuple(Rollout(response=f"{i} is it", correct=c) for i, c in enumerate(labels)))
        for text, labels in problems
    ])  # fmt: skip


def texts(data: RolloutDataModule, batches: Any) -> Counter[str]:
    """The whole text of every row of the batches."""
    decode = data.encoder().tokenizer.decode
    return Counter(
        str(decode(ids[:n])) for batch in batches for ids, n in zip(batch.ids, batch.length.tolist(), strict=True)
    )


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Three problems to train on, two to validate on, one to test on, in words any tokenizer has."""
    write(tmp_path / "train.jsonl", ("one?", [True, False]), ("two?", [False] * 3), ("three?", [True]))
    write(tmp_path / "v.jsonl", ("four?", [True, False]), ("five?", [True, True]))
    write(tmp_path / "t.jsonl", ("six?", [False]))
    return tmp_path


def small(root: Path, tokenizer: Path, **settings: Any) -> RolloutDataModule:
    files = {"train": "train.jsonl", "validation": {"v": "v.jsonl"}, "test": {"t": "t.jsonl"}}
    return module(root, tokenizer, **{**files, "batch_size": 3, **settings})


# --- laws -----------------------------------------------------------------------------------------


def test_an_epoch_sees_every_training_response_once(micro_world: Path) -> None:
    data = module(micro_world)
    data.setup("fit")
    seen = texts(data, data.train_dataloader())
    wanted = read_groups(str(micro_world / FILES["train"])).groups
    assert sum(seen.values()) == sum(len(g.rollouts) for g in wanted) == 192
    whole = [f"<ask>{g.problem.text}<say>{r.response}<eos>" for g in wanted for r in g.rollouts]
    words = data.encoder().tokenizer  # untrained models join pieces that it reads otherwise
    assert seen == Counter(str(words.decode(words(text)["input_ids"])) for text in whole)


def test_evaluation_sees_every_distinct_candidate_once(micro_world: Path) -> None:
    data = module(micro_world, eval_tokens=600)
    for stage in ("validate", "test"):
        data.setup(stage)
    for stage, loaders in (("validate", data.val_dataloader()), ("test", data.test_dataloader())):
        (candidates,), (loader,) = data.candidates(stage), loaders
        batches = list(loader)
        assert len(batches) > 1
        assert max(b.ids.numel() for b in batches) <= 600
        assert sorted(r for b in batches for r in b.row.tolist()) == list(range(len(candidates.encoded)))


def test_every_loader_covers_training_and_what_was_set_up(micro_world: Path) -> None:
    data = module(micro_world)
    data.setup("fit")
    every = texts(data, chain.from_iterable(data.every_loader()))
    assert every == texts(data, data.train_dataloader()) + texts(data, data.val_dataloader()[0])


def test_fewer_problems_and_responses_lie_inside_more(micro_world: Path) -> None:
    def chosen(**regime: Any) -> Counter[str]:
        data = module(micro_world, **regime)
        data.setup("fit")
        return texts(data, data.train_dataloader())

    whole = chosen()
    half, one, both = chosen(fraction=0.5), chosen(responses=1), chosen(fraction=0.5, responses=1, batch_size=8)
    assert [sum(c.values()) for c in (whole, half, one, both)] == [192, 96, 24, 12]
    assert both <= half <= whole
    assert both <= one <= whole
    assert chosen(responses=1, seed=1) != one


def test_the_same_seed_gives_the_same_batches(micro_world: Path) -> None:
    def batches(seed: int) -> list[Batch]:
        data = module(micro_world, seed=seed)
        data.setup("fit")
        return list(data.train_dataloader())

    assert all(torch.equal(a.ids, b.ids) for a, b in zip(batches(0), batches(0), strict=True))
    assert [b.row.tolist() for b in batches(0)] != [b.row.tolist() for b in batches(1)]


def test_an_error_of_rank_zero_frees_the_ranks_that_wait(micro_world: Path) -> None:
    waits = list[str]()
    strategy = SimpleNamespace(barrier=lambda: waits.append("barrier"), root_device="cpu")
    trainer: Any = SimpleNamespace(is_global_zero=True, strategy=strategy)
    broken: Any = SimpleNamespace(label=lambda groups, encoder, device: {}[device])
    with pytest.raises(KeyError, match="cpu"):
        with_labels([], broken, module(micro_world).encoder(), trainer)
    assert waits == ["barrier"]


@pytest.mark.parametrize("late", [False, True])
def test_a_resumed_epoch_goes_on_behind_the_batches_that_are_done(micro_world: Path, late: bool) -> None:
    """DeepSpeed loads the state after the loader is built: ``late``."""
    data = module(micro_world)
    data.setup("fit")
    rows = [b.row.tolist() for b in data.train_dataloader()]
    progress = SimpleNamespace(is_last_batch=False, current=SimpleNamespace(processed=3))
    loops = SimpleNamespace(epoch_loop=SimpleNamespace(batch_progress=progress))
    data.trainer = SimpleNamespace(fit_loop=loops, accumulate_grad_batches=1, global_rank=0, world_size=1)  # type: ignore[assignment]
    state = data.state_dict()
    resumed = module(micro_world)
    resumed.setup("fit")
    loader = resumed.train_dataloader() if late else None
    resumed.load_state_dict(state)
    loader = loader or resumed.train_dataloader()
    assert [b.row.tolist() for b in loader] == rows[3:]
    assert len(list(loader)) == len(rows)
    progress.is_last_batch = True
    assert data.state_dict() == {"skip": 0}


# --- stages ---------------------------------------------------------------------------------------


def test_no_loader_draws_from_the_generator_of_dropout(root: Path, policy_folder: Path) -> None:
    """A resumed run makes other loaders than one never stopped."""
    data = small(root, policy_folder)
    data.setup("fit")
    before = torch.get_rng_state()
    for loader in (data.train_dataloader(), *data.val_dataloader()):
        assert list(loader)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_world_is_built_where_the_files_are_looked_for(tmp_path: Path) -> None:
    class World:
        def build(self, root: Path) -> None:
            write(root / "train.jsonl", ("one?", [True]))

    data = module(tmp_path / "new", world=World(), train="train.jsonl", validation={}, test={})
    data.prepare_data()
    assert (tmp_path / "new" / "train.jsonl").exists()


def test_the_micro_world_is_there_at_once(micro_world: Path) -> None:
    before = (micro_world / FILES["train"]).stat().st_mtime_ns
    module(micro_world, world=TinyMath(**MICRO)).prepare_data()
    assert (micro_world / FILES["train"]).stat().st_mtime_ns == before


def test_fit_encodes_what_it_trains_and_validates_on_and_test_what_it_tests_on(root: Path, policy_folder: Path) -> None:
    data = small(root, policy_folder)
    data.setup("test")
    assert [c.name for c in data.candidates("test")] == ["t"]
    assert data.report is None
    fit = small(root, policy_folder)
    fit.setup("fit")
    assert [c.name for c in fit.candidates("validate")] == ["v"]
    assert fit.report is not None
    assert (fit.report.problems, fit.report.responses, fit.report.all_wrong) == (3, 6, 1)


def test_digests_change_with_the_file_they_are_of(root: Path, policy_folder: Path) -> None:
    def digests() -> dict[str, str]:
        data = small(root, policy_folder)
        data.setup("fit")
        return data.digests()

    before = digests()
    assert set(before) == {"train", "v", "t"}
    write(root / "v.jsonl", ("four?", [True, False]))
    assert {role for role, digest in digests().items() if digest != before[role]} == {"v"}


def test_candidates_are_limited_by_problem_and_problems_without_responses_left_out(
    root: Path, policy_folder: Path
) -> None:
    write(root / "v.jsonl", ("none?", []), ("four?", [True, False]), ("five?", [True]))
    data = small(root, policy_folder, limit_candidates=1)
    data.setup("validate")
    assert [g.problem.text for g in data.candidates("validate")[0].groups] == ["four?"]


def test_unlabelled_responses_are_not_trained_on(root: Path, policy_folder: Path) -> None:
    write(root / "train.jsonl", ("one?", [True, False]), ("two?", [None, True]), ("three?", [None]))
    data = small(root, policy_folder, batch_size=3)
    data.setup("fit")
    assert data.report is not None
    assert (data.report.problems, data.report.responses, data.report.unlabelled) == (2, 3, 2)
    assert sum(texts(data, data.train_dataloader()).values()) == 3
    write(root / "train.jsonl", ("two?", [None]))
    with pytest.raises(ValueError, match=r"train\.jsonl has no labelled responses to train on"):
        small(root, policy_folder).setup("fit")


def test_the_report_is_shown_before_training(
    root: Path, policy_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small(root, policy_folder).setup("fit")
    said = capsys.readouterr().out
    assert "3: 1 all right, 1 all wrong, 1 mixed" in said
    assert "BlankLine" in said
    assert "6 of 6 responses are a single step" in " ".join(said.split())


def test_every_candidate_set_is_told_in_a_line(
    root: Path, policy_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(root / "v.jsonl", ("none?", []), ("four?", [True, False]), ("five?", [True]))
    data = small(root, policy_folder, test={"v": "v.jsonl", "t": "t.jsonl"})
    for stage in ("validate", "test"):
        data.setup(stage)
    assert capsys.readouterr().out.splitlines() == [
        "v: 2 problems, 1-2 candidates each, 1 problems without responses left out",
        "t: 1 problems, 1 candidates each",
    ]


def test_unlabelled_candidates_are_scored_by_predict_and_refused_by_test(root: Path, policy_folder: Path) -> None:
    write(root / "t.jsonl", ("six?", [None, None]), ("seven?", [True]))
    data = small(root, policy_folder)
    data.setup("predict")
    (loader,) = data.predict_dataloader()
    assert sum(len(batch.row) for batch in loader) == 3
    with pytest.raises(ValueError, match=r"'t': 1 problems have no labelled responses, the first is 'six\?'.*predict"):
        data.setup("test")


def test_dots_in_a_hub_name_are_no_file_ending(
    root: Path, policy_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def read(source: str, on_bad: Any) -> Any:
        asked.append(source)
        return SimpleNamespace(groups=())

    monkeypatch.setattr("lit_prm.training.sources.read_groups", read)
    monkeypatch.setenv("HOME", str(root))
    data = small(root / "elsewhere", policy_folder)
    for name in ("someone/data-v1.5", "missing.jsonl", "~/v.jsonl", "missing.jsonl.gz"):
        data.sources.read(name, name)
    folder = str(root / "elsewhere")
    assert asked == ["someone/data-v1.5", f"{folder}/missing.jsonl", f"{root}/v.jsonl", f"{folder}/missing.jsonl.gz"]


# --- refusals -------------------------------------------------------------------------------------


@pytest.mark.parametrize("file", ["v.jsonl", "t.jsonl"])
def test_a_problem_shared_with_evaluation_is_refused_dropped_or_allowed(
    root: Path, policy_folder: Path, file: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write(root / file, ("One?", [True]), ("seven?", [True]))
    with pytest.raises(ValueError, match="training shares problems with evaluation sets: 1 with"):
        small(root, policy_folder).setup("fit")
    for how, problems in (("drop", 2), ("allow", 3)):
        data = small(root, policy_folder, shared_problems=how)
        data.setup("fit")
        assert data.report is not None
        assert data.report.problems == problems
        assert data.report.shared == {"v": int(file == "v.jsonl"), "t": int(file == "t.jsonl")}
    assert f"1 with {file[0]}" in capsys.readouterr().out


@pytest.mark.parametrize("sets", [{"validation": {"a": "v.jsonl"}, "test": {"a": "t.jsonl"}},
                                  {"validation": {"train": "v.jsonl"}}, {"test": {"train": "t.jsonl"}}])  # fmt: skip
def test_a_name_that_stands_for_two_files_is_refused(root: Path, policy_folder: Path, sets: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"is the name of two files.*Give one of them another name"):
        small(root, policy_folder, **sets)


@pytest.mark.parametrize("name", ["a/b", "gsm 8k", "math@4", "", "é"])
def test_a_name_that_no_metric_or_file_can_have_is_refused(root: Path, policy_folder: Path, name: str) -> None:
    with pytest.raises(ValueError, match=r"may hold only letters A-Z, digits, _ \. and -\. Call the set"):
        small(root, policy_folder, test={name: "t.jsonl"})
    small(root, policy_folder, test={"math-500_v1.5": "t.jsonl"})


def test_one_file_may_be_validated_and_tested_on_by_one_name(root: Path, policy_folder: Path) -> None:
    data = small(root, policy_folder, validation={"a": "v.jsonl"}, test={"a": "v.jsonl"})
    data.setup("fit")
    data.setup("test")
    assert data.candidates("validate")[0] is data.candidates("test")[0]


def test_bad_rows_are_refused_or_counted(root: Path, policy_folder: Path) -> None:
    with (root / "train.jsonl").open("a") as file:
        file.write(json.dumps({"prompt": 3}) + "\n")
    with pytest.raises(ValueError, match=r"train\.jsonl:4"):
        small(root, policy_folder).setup("fit")
    data = small(root, policy_folder, bad_rows="skip")
    data.setup("fit")
    assert data.report is not None
    assert data.report.refused == 1


def test_problems_with_too_long_prompts_are_all_named_or_left_out_and_counted(
    root: Path, policy_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(
        root / "train.jsonl", ("one?", [True, False]), ("two?" * 50, [True]), ("three?", [True]), ("4?" * 90, [False])
    )
    write(root / "v.jsonl", ("four?", [True, False]), ("five?" * 50, [True, True]))
    with pytest.raises(ValueError, match=r"problem two.* tokens; problem 4.* the 2 of 4 problems"):
        small(root, policy_folder, max_length=90, validation={}).setup("fit")
    data = small(root, policy_folder, max_length=90, bad_rows="skip")
    data.setup("fit")
    assert data.report is not None
    assert (data.report.too_long, data.report.problems, data.report.responses) == (2, 2, 3)
    assert [g.problem.id for g in data.candidates("validate")[0].groups] == ["four?"]
    shown = capsys.readouterr().out
    assert "2 problems whose prompt fills max_length, left out" in shown
    assert "v: 1 problems, 2 candidates each, 1 with prompts that fill max_length" in shown


def test_a_step_rule_that_is_defined_again_cuts_the_candidates_again(root: Path, policy_folder: Path) -> None:
    def steps_with(marks: str) -> set[int]:
        class Mine(StepRule):
            def starts(self, text: str) -> list[int]:
                return [i + 1 for i, character in enumerate(text[:-1]) if character in marks]

        data = small(root, policy_folder, steps=Mine())
        data.setup("test")
        (candidates,) = data.candidates("test")
        return {int(encoded.step.max()) + 1 for encoded in candidates.encoded}

    assert (steps_with(" "), steps_with("")) == ({3}, {1})  # as an edited cell of a notebook does
