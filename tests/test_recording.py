from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from transformers import PreTrainedTokenizerFast

from lit_prm.evaluation.artifacts import draw_curves, write_judgement
from lit_prm.evaluation.candidates import CandidateSet
from lit_prm.evaluation.discrimination import Scored, located
from lit_prm.evaluation.evaluate import Judgement, judge
from lit_prm.evaluation.rows import read_rows, write_rows
from lit_prm.evaluation.vote_weights import Sigmoid
from tests.candidate_sets import candidate_set, scored

Made = tuple[Judgement, CandidateSet, Scored]


@pytest.fixture(scope="module")
def made(tokenizer: PreTrainedTokenizerFast) -> Made:
    candidates = candidate_set(tokenizer)
    given = scored(candidates, decimals=3)
    return judge(candidates, given, ["min", "sum"], Sigmoid()), candidates, given


@pytest.fixture(scope="module")
def folder(made: Made, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    write_judgement(folder, *made)
    return folder


def test_rows_come_back_and_equal_rows_give_equal_bytes(tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [{"a": 1, "b": None}, {"a": 0.1, "b": "é\n"}]
    write_rows(tmp_path / "new" / "one.gz", rows)
    write_rows(tmp_path / "two.gz", iter(rows))
    assert read_rows(tmp_path / "two.gz") == rows
    assert (tmp_path / "new" / "one.gz").read_bytes() == (tmp_path / "two.gz").read_bytes()


def test_a_failed_write_leaves_the_earlier_file(tmp_path: Path) -> None:
    path = tmp_path / "one.gz"
    write_rows(path, [{"a": 1}])
    with pytest.raises(TypeError):
        write_rows(path, [{"a": {1}}])
    assert read_rows(path) == [{"a": 1}]


def test_exactly_the_promised_files_are_left_and_again_the_same_bytes(folder: Path, made: Made, tmp_path: Path) -> None:
    files = sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())
    assert files == ["figures/set.png", "scores/set-problems.jsonl.gz", "scores/set.jsonl.gz"]
    write_judgement(tmp_path, *made)
    for file in files:
        assert (folder / file).read_bytes() == (tmp_path / file).read_bytes()


def test_every_candidate_has_a_row_with_its_scores(folder: Path, made: Made) -> None:
    judgement, candidates, given = made
    rows = read_rows(folder / "scores" / "set.jsonl.gz")
    rollouts = [(g.problem.id, i, r) for g in candidates.groups for i, r in enumerate(g.rollouts)]
    for at, (row, (problem, index, rollout)) in enumerate(zip(rows, rollouts, strict=True)):
        unique = candidates.source[at]
        assert (row["problem"], row["response"]) == (problem, index)
        assert (row["correct"], row["answer"], row["first_error"]) == (
            rollout.correct, rollout.answer, rollout.first_error,
        )  # fmt: skip
        assert row["cluster"] == candidates.clusters[at]
        assert row["reward"] == pytest.approx(given.reward[unique], abs=1e-5)
        assert row["scores"] == {n: pytest.approx(v[at], abs=1e-5) for n, v in judgement.scores.items()}
        assert [x is not None for x in row["step_rewards"]] == given.valid[unique].tolist()
        assert sum(x or 0 for x in row["step_rewards"]) == pytest.approx(row["reward"], abs=1e-4)


def test_curves_of_every_problem_average_to_the_metrics(folder: Path, made: Made) -> None:
    judgement, candidates, given = made
    rows = read_rows(folder / "scores" / "set-problems.jsonl.gz")
    assert [(r["problem"], r["subject"], r["level"], r["candidates"]) for r in rows] == [
        (g.problem.id, g.problem.subject, g.problem.level, len(g.rollouts)) for g in candidates.groups
    ]
    for name, column in (("bon/sum", "bon/set/sum"), ("majority", "majority/set"), ("vote/min", "vote/set/min")):
        for c, n in enumerate(rows[0]["counts"]):
            mean = np.mean([row["curves"][name][c] for row in rows])
            assert mean == pytest.approx(judgement.metrics[f"{column}/acc@{n}"], abs=1e-7)
    for rule, hits in located(candidates, given)._asdict().items():
        assert [r["first_error"][rule] for r in rows] == [None if np.isnan(h) else pytest.approx(h) for h in hits]


def test_the_figure_replaces_an_earlier_one_and_is_a_picture(tmp_path: Path, made: Made) -> None:
    path = tmp_path / "figures" / "set.png"
    path.parent.mkdir()
    path.write_text("old")
    draw_curves(path, made[0])
    assert path.read_bytes().startswith(b"\x89PNG")
    assert [p.name for p in path.parent.iterdir()] == ["set.png"]
