"""Numbers of `bon` against brute force over subsets; its measures, pairs, files and printed tables."""

from __future__ import annotations

import gzip
import json
import math
import os
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lit_prm.answers import undecided
from lit_prm.data.formats import read_groups, write_groups
from lit_prm.data.records import Group, Problem, Rollout
from lit_prm.evaluation.candidates import answer_clusters, split
from lit_prm.evaluation.intervals import bootstrap_interval, bootstrap_ratio, mcnemar
from lit_prm.evaluation.selection import any_of_n, best_of_n
from lit_prm.evaluation.vote_weights import Rank, Sigmoid, Softmax, Unchanged
from lit_prm.evaluation.votes import majority, sampled_votes
from lit_prm.reports.best_of_n.command import main, vote_weight
from lit_prm.reports.best_of_n.findings import Findings, Settings, as_json, find
from lit_prm.reports.best_of_n.measures import compared, length_bias, overoptimisation, within, wrong_process
from lit_prm.reports.best_of_n.pool import CandidatePool, Opinion, lengths, read_pool
from lit_prm.reports.best_of_n.show import show_findings
from tests import brute_force as slow
from tests.bon_files import IDENTITY, rewarded, write_scored
from tests.candidate_sets import groups

DATA = os.environ.get("LIT_PRM_DATA", "")
REAL = ["math500_candidates_n10", "gsm8k_responses_heldout"]
real_data = pytest.mark.skipif(not DATA, reason="LIT_PRM_DATA names no folder with the real data")


def pool_of(these: list[Group], *seeds: int) -> CandidatePool:
    opinions = [Opinion(f"s{seed}", IDENTITY, tuple(map(tuple, rewarded(these, seed)))) for seed in seeds]
    return CandidatePool("pool", ("pool",), tuple(these), tuple(opinions))


# --- brute force ----------------------------------------------------------------------------------


@real_data
@pytest.mark.parametrize("name", REAL)
def test_real_candidates_give_what_all_subsets_give(name: str) -> None:
    equals_brute_force(list(read_groups(f"{DATA}/{name}.jsonl.gz").groups)[::70])


@real_data
@pytest.mark.slow
@pytest.mark.parametrize("name", REAL)
def test_all_real_candidates_give_what_all_subsets_give(name: str) -> None:
    equals_brute_force(list(read_groups(f"{DATA}/{name}.jsonl.gz").groups))


def test_made_up_candidates_give_what_all_subsets_give() -> None:
    equals_brute_force(groups(sizes=(8, 8, 5, 2, 1)), counts=(1, 2, 3, 4, 5, 6, 7, 8))


def equals_brute_force(these: list[Group], counts: tuple[int, ...] = tuple(range(1, 9))) -> None:
    (found,) = find(pool := pool_of(these, 3), Settings(Sigmoid(), counts=counts)).each
    clusters = split(these, answer_clusters("again", these))
    for p, (group, rewards) in enumerate(zip(these, pool.opinions[0].rewards, strict=True)):
        right = [bool(r.correct) for r in group.rollouts]
        lowest = [min(x for x in r.step_rewards if x is not None) for r in rewards]
        for c, n in enumerate(counts):
            for rule, wanted in (
                ("bon/random", slow.random(right, n)),
                ("any", slow.any_of(right, n)),
                ("majority", slow.majority(clusters[p].tolist(), right, n)),
                ("bon/min", slow.best(lowest, right, n)),
                ("bon/shortest", slow.best([-r.tokens for r in rewards], right, n)),
            ):
                assert found.judgement.curves[rule][p, c] == pytest.approx(wanted, abs=1e-12), (group.problem.id, rule)


@real_data
def test_the_known_rates_of_the_data_file_come_back(tmp_path: Path) -> None:
    """docs/facts.md: mean .255, any-of-10 .684 of all responses.

    Without the 215 doubtful ones, as they are read, the mean over problems is .273 (over responses .267), and no
    problem loses its only right one.
    """
    every = read_groups(str(without_doubts(tmp_path))).groups
    assert round(float(np.mean([g.accuracy for g in every])), 3) == 0.255
    assert round(float(np.mean([any_of_n(_right(g), 10) for g in every])), 3) == 0.684
    kept = read_groups(f"{DATA}/{REAL[0]}.jsonl.gz").groups
    assert sum(len(g.rollouts) for g in kept) == 5000 - 215
    assert round(float(np.mean([g.accuracy for g in kept])), 4) == 0.2727
    assert round(float(np.mean([any_of_n(_right(g), 10) for g in kept])), 3) == 0.684


@real_data
@pytest.mark.slow
def test_the_known_majority_comes_back_where_ties_go_to_the_answer_seen_first(tmp_path: Path) -> None:
    """docs/facts.md: .380. Ours is one problem higher, by how answers are compared; with ties shared it is .399."""
    every = read_groups(str(without_doubts(tmp_path))).groups
    first, shared = list[bool](), list[float]()
    for group, answers in zip(every, split(every, answer_clusters("all", every)), strict=True):
        votes = Counter(answers[answers >= 0].tolist())
        winner = votes.most_common(1)[0][0] if votes else None
        first.append(winner is not None and bool(group.rollouts[answers.tolist().index(winner)].correct))
        shared.append(majority(answers, _right(group), 10))
    assert float(np.mean(first)) == pytest.approx(0.380, abs=0.0021)
    assert float(np.mean(shared)) == pytest.approx(0.399, abs=0.002)


def _right(group: Group) -> list[float]:
    return [float(bool(r.correct)) for r in group.rollouts]


def without_doubts(folder: Path) -> Path:
    """The file without its column ``ambiguous``, so that no response is left out."""
    with gzip.open(f"{DATA}/{REAL[0]}.jsonl.gz", "rt") as file:
        rows = [json.loads(line) for line in file]
    path = folder / "all.jsonl"
    path.write_text("".join(json.dumps({k: v for k, v in r.items() if k != "ambiguous"}) + "\n" for r in rows))
    return path


# --- measures -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def findings() -> Findings:
    return find(pool_of(groups(sizes=(6, 5, 6, 3)), 0, 1), Settings(Sigmoid()))


def test_the_chosen_score_is_the_mean_highest_of_all_subsets_and_the_fall_is_from_the_peak(findings: Findings) -> None:
    for found in findings.each:
        measure, curve = found.overoptimisation, found.judgement.curves["bon/min"]
        assert measure is not None
        for c, n in enumerate(findings.counts):
            parts = split(findings.pool.groups, found.judgement.scores["min"])
            tops = [np.mean([s[list(i)].max() for i in combinations(range(len(s)), min(n, len(s)))]) for s in parts]
            assert measure.score[c] == pytest.approx(np.mean(tops))
        assert list(measure.score) == sorted(measure.score)
        assert measure.accuracy == pytest.approx(curve.mean(0))
        assert measure.fall.mean == pytest.approx(max(measure.accuracy) - measure.accuracy[-1])
        assert measure.fall.mean >= 0
        assert measure.accuracy[findings.counts.index(measure.peak)] == max(measure.accuracy)


def test_a_score_that_knows_is_never_over_optimised_and_one_that_errs_peaks_at_one() -> None:
    these = groups(sizes=(6, 6))
    knows = np.concatenate([_right(g) for g in these])
    for score, peak in ((knows, 6), (-knows, 1)):
        curves = np.array([[best_of_n(s, _right(g), n) for n in (1, 2, 6)]
                           for s, g in zip(split(these, score), these, strict=True)])  # fmt: skip
        every = np.array([[any_of_n(_right(g), n) for n in (1, 2, 6)] for g in these])
        measure = overoptimisation(these, score, (1, 2, 6), curves, every)
        assert measure.peak == peak
        assert (measure.accuracy == pytest.approx(measure.possible)) == (peak == 6)


def test_undecided_comparisons_of_answers_are_counted_in_every_output(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*args: Any) -> Any:
        undecided.add(3)
        return answer_clusters(*args)

    monkeypatch.setattr("lit_prm.reports.best_of_n.findings.answer_clusters", interrupted)
    told = "3 comparisons of answers ended without a verdict and count as unequal."
    for expected in (3, 0):
        found = find(pool_of(groups(), 0), Settings(Sigmoid()))
        assert as_json(found)["undecided_comparisons"] == expected
        show_findings(found)
        assert (told in capsys.readouterr().out) == bool(expected)
        monkeypatch.undo()


def test_a_response_without_a_score_leaves_its_problem_out_of_the_mean_score_alone() -> None:
    these = groups(sizes=(2, 2))
    score = np.array([-math.inf, 1.0, 2.0, 4.0])
    measure = overoptimisation(these, score, (1, 2), np.zeros((2, 2)), np.zeros((2, 2)))
    assert (measure.score, measure.left_out) == ((3.0, 4.0), 1)


def test_length_bias_is_that_of_the_chosen_over_all_subsets(findings: Findings) -> None:
    for found in findings.each:
        score, length = found.judgement.scores["min"], lengths(findings.pool.groups, findings.pool.opinions[0]).values
        assert found.length is not None
        parts = list(zip(split(findings.pool.groups, score), split(findings.pool.groups, length), strict=True))
        for c, n in enumerate(findings.counts):
            wanted = np.mean([slow.best(s.tolist(), x.tolist(), n) - x.mean() for s, x in parts])
            assert found.length.excess[c].mean == pytest.approx(wanted)
        assert found.length.unit == "tokens"
        a = np.concatenate([s - s.mean() for s, _ in parts])
        b = np.concatenate([x - x.mean() for _, x in parts])
        assert found.length.score == pytest.approx(np.corrcoef(a, b)[0, 1])


def test_a_score_that_is_the_length_has_correlation_one_whatever_the_problems_levels() -> None:
    these = groups(sizes=(5, 4))
    length = np.arange(9.0)
    shifted = length - np.repeat([0.0, 500.0], [5, 4])  # between problems they are opposed
    measure = length_bias(these, shifted, length, "tokens", (1, 4))
    assert measure.score == pytest.approx(1)
    assert measure.excess[0].mean == pytest.approx(0)
    assert measure.excess[1].mean > 0
    assert math.isnan(within(these, np.repeat([1.0, 2.0], [5, 4]), length))


def test_wrong_process_is_the_share_of_wrong_steps_among_chosen_right_answers() -> None:
    these = checked((True, -1), (True, 1), (False, 0), (True, None)) + checked((True, 0), (True, -1), (False, -1))
    score = np.array([0.0, 1.0, 5.0, 0.5, 2.0, 1.0, 0.0])
    measure = wrong_process(these, score, (1, 2, 4))
    assert measure is not None
    assert measure.checked == 4
    known = [[1, 1, 0, 0], [1, 1, 0]]
    wrong = [[0, 1, 0, 0], [1, 0, 0]]
    for c, n in enumerate((1, 2, 4)):
        parts = [s.tolist() for s in split(these, score)]
        over = sum(slow.best(s, w, n) for s, w in zip(parts, wrong, strict=True))
        under = sum(slow.best(s, k, n) for s, k in zip(parts, known, strict=True))
        assert measure.chosen[c].mean == pytest.approx(over / under)
        drawn = (1 / 4 + 1 / 3) / (2 / 4 + 2 / 3)  # over problems, whatever N
        assert measure.random[c].mean == pytest.approx(drawn)
    assert measure.chosen[2].mean == 1
    assert wrong_process(checked((True, None), (False, 0)), np.zeros(2), (1, 2)) is None


def checked(*responses: tuple[bool, int | None]) -> list[Group]:
    steps = ("a\n\n", "b")
    made = tuple(Rollout(response="a\n\nb", steps=steps, correct=c, first_error=e) for c, e in responses)
    return [Group(problem=Problem(prompt="?", id=str(len(made))), rollouts=made)]


# --- pairs and intervals --------------------------------------------------------------------------


def test_mcnemar_is_two_sided_and_exact() -> None:
    assert mcnemar(1, 5) == mcnemar(5, 1) == pytest.approx(2 * (1 + 6) / 64)
    assert mcnemar(0, 0) == mcnemar(3, 3) == 1
    assert mcnemar(0, 10) == pytest.approx(2 / 1024)
    by_hand = 2 * sum(math.comb(900, i) for i in range(401)) / 2**900
    assert mcnemar(400, 500) == pytest.approx(by_hand, rel=1e-12)


def test_pairs_count_what_one_rule_alone_solves_and_leave_shared_ties_out() -> None:
    ours, theirs = (
        np.array([[0.4, 1], [0.5, 1], [0.2, 0], [0.3, 0.5]]),
        np.array([[0.1, 0], [0.5, 1], [0.4, 1], [0, 1]]),
    )
    pair = compared("a", "b", ours, theirs)
    assert (pair.first_only, pair.second_only, pair.undecided, pair.p) == (1, 1, 1, 1)
    assert pair.differences[0].mean == pytest.approx((0.3 + 0 - 0.2 + 0.3) / 4)
    assert tuple(pair.differences[1])[1:] == bootstrap_interval((ours - theirs)[:, 1])
    back = compared("b", "a", theirs, ours)
    assert (back.first_only, back.second_only, back.undecided) == (1, 1, 1)
    assert [d.mean for d in back.differences] == pytest.approx([-d.mean for d in pair.differences])


def test_two_scorers_are_compared_by_their_primary_rules_and_every_rule_only_when_asked(findings: Findings) -> None:
    assert [(p.first, p.second) for p in findings.pairs] == [
        ("s0: bon/min", "s1: bon/min"), ("s0: vote/min", "s1: vote/min"),
    ]  # fmt: skip
    alone = pool_of(groups(), 0)
    assert find(alone, Settings(Sigmoid())).pairs == ()
    every = find(alone, Settings(Sigmoid(), pairs=True)).pairs
    assert ("bon/min", "majority") in [(p.first, p.second) for p in every]
    assert len(every) == math.comb(len({p.first for p in every} | {"majority"}), 2)
    both = {(p.first, p.second) for p in find(findings.pool, Settings(Sigmoid(), pairs=True)).pairs}
    assert {("s0: bon/min", "s0: bon/sum"), ("s0: bon/sum", "s1: bon/sum"), ("s1: bon/min", "majority")} < both
    assert ("s0: bon/min", "s1: bon/sum") not in both  # differs in two things


@given(st.lists(st.floats(-5, 5), min_size=2, max_size=20))
def test_a_ratio_to_one_is_the_mean_and_a_constant_ratio_has_no_spread(values: list[float]) -> None:
    assert bootstrap_ratio(values, np.ones(len(values))) == pytest.approx(bootstrap_interval(values))
    weights = np.abs(values) + 1
    assert bootstrap_ratio(2 * weights, weights) == pytest.approx((2, 2))


# --- votes ----------------------------------------------------------------------------------------


def test_the_sampling_error_of_votes_is_their_spread_over_seeds_and_none_where_exact() -> None:
    rng = np.random.default_rng(0)
    answers = [rng.integers(0, 4, 16) for _ in range(6)]
    right = [(a == 0).astype(float) for a in answers]
    weights = [rng.exponential(size=16) ** 2 for _ in range(6)]
    runs = [sampled_votes(weights, answers, right, (2, 8, 16), seed) for seed in range(60)]
    spread = np.std([run.values.mean(0) for run in runs], 0)
    assert runs[0].errors[0] == runs[0].errors[2] == 0
    assert runs[0].errors[1] == pytest.approx(spread[1], rel=0.3)
    assert (sampled_votes([np.ones(16)] * 6, answers, right, (8,)).errors == 0).all()


def test_scores_are_weights_only_where_none_is_negative() -> None:
    np.testing.assert_array_equal(Unchanged()(np.array([0.5, 0.0, 2.0, -math.inf])), [0.5, 0, 2, 0])
    with pytest.raises(ValueError, match=r"The lowest score is -1, .*Weigh by sigmoid, softmax or rank"):
        Unchanged()(np.array([0.5, -1.0]))


def test_the_sum_of_scores_votes_with_probabilities_but_not_with_minima() -> None:
    found = find(pool_of(groups(), 0), Settings(Unchanged(), "product")).each[0].judgement.curves
    assert [name for name in found if name.startswith("vote/")] == ["vote/product", "vote/mean-probability"]
    with pytest.raises(ValueError, match="The lowest score is"):
        find(pool_of(groups(), 0), Settings(Unchanged(), "min"))


def test_weights_are_read_from_their_names() -> None:
    read = [vote_weight(text) for text in ("sigmoid", "sigmoid:0.5", "softmax:2", "rank", "sum")]
    assert read == [Sigmoid(), Sigmoid(0.5), Softmax(2.0), Rank(), Unchanged()]
    for text in ("median", "softmax:0", "softmax:x", "rank:2", "sigmoid:-1", "softmax:nan"):
        with pytest.raises(ValueError, match=r"is none of sigmoid\[:scale\], softmax"):
            vote_weight(text)


# --- files ----------------------------------------------------------------------------------------


@pytest.fixture
def two_files(tmp_path: Path) -> tuple[str, str]:
    """Two scorers of the same candidates; the second file has them in another order, one response twice."""
    these = twice(groups())
    first = write_scored(tmp_path / "a.jsonl", these, rewarded(these, 0))
    rewards = rewarded(these, 1)
    turned = [g.keep(range(len(g.rollouts))[::-1]) for g in these][::-1]
    return first, write_scored(tmp_path / "b.jsonl", turned, [r[::-1] for r in rewards[::-1]])


def twice(these: list[Group]) -> list[Group]:
    return [replace(g, rollouts=(*g.rollouts, g.rollouts[0])) for g in these]


def test_files_in_any_order_are_matched_by_problem_and_response(two_files: tuple[str, str]) -> None:
    these = twice(groups())
    pool = read_pool(two_files)
    assert [o.name for o in pool.opinions] == ["a", "b"]
    for mine, wanted, group in zip(pool.opinions[1].rewards, rewarded(these, 1), these, strict=True):
        said = [r.response for r in group.rollouts]
        for response, ours, theirs in zip(said, mine, wanted, strict=True):
            assert ours == theirs or said.count(response) > 1  # of equal responses either may come first
        assert Counter(r.reward for r in mine) == Counter(r.reward for r in wanted), group.problem.id


def test_other_candidates_and_unscored_or_repeated_ones_are_refused(two_files: tuple[str, str], tmp_path: Path) -> None:
    these = groups()
    fewer = write_scored(tmp_path / "fewer.jsonl", these[1:], rewarded(these[1:], 0))
    with pytest.raises(ValueError, match=r"different problems: 1 are in one of them only, e\.g\. 'p0'.*Score the same"):
        read_pool([two_files[0], fewer])
    other = write_scored(tmp_path / "other.jsonl", these, rewarded(these, 0))
    with pytest.raises(ValueError, match=r"Problem p0 has other responses or labels in .*other\.jsonl than in"):
        read_pool([two_files[0], other])
    doubled = write_scored(tmp_path / "doubled.jsonl", these + these[:1], rewarded(these + these[:1], 0))
    with pytest.raises(ValueError, match="two rows have the same unique_id"):
        read_pool([doubled])
    write_groups(tmp_path / "bare.jsonl", these)
    with pytest.raises(ValueError, match=r"bare\.jsonl: holds no scores.*score it first"):
        read_pool([two_files[0], str(tmp_path / "bare.jsonl")])


def test_candidates_without_labels_or_responses_are_refused_with_the_remedy(tmp_path: Path) -> None:
    unlabelled = [replace(g, rollouts=tuple(replace(r, correct=None) for r in g.rollouts)) for g in groups()]
    write_groups(tmp_path / "blind.jsonl", unlabelled)
    with pytest.raises(ValueError, match="4 problems have no labelled responses, the first is 'p0'; give correctness"):
        main([str(tmp_path / "blind.jsonl")])


# --- the command ----------------------------------------------------------------------------------


@pytest.fixture
def printed(two_files: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> str:
    main([*two_files, "--json", str(tmp_path / "out.json"), "--figure", str(tmp_path / "out.png")])
    return capsys.readouterr().out


def test_tables_fit_eighty_columns_and_say_what_they_hold(printed: str) -> None:
    assert max(map(len, printed.splitlines())) <= 80
    assert "…" not in printed
    titles = ("a: accuracy of the chosen answer, %", "does more choice help?", "Pairs at N=K=6", "by level and subject")
    cells = ("best of N, value-last", "peak at N=", "Length is counted in tokens", "McNemar", "a: bon/min minus b")
    for words in (*titles, *cells):
        assert words in printed, words


def test_json_holds_everything_as_numbers_and_the_figure_is_drawn(printed: str, tmp_path: Path) -> None:
    told = json.loads((tmp_path / "out.json").read_text(), parse_constant=pytest.fail)
    assert told["scorers"].keys() == {"a", "b"}
    assert told["scorers"]["a"]["identity"] == dict(IDENTITY)
    assert {"metrics", "vote_errors", "overoptimisation", "length_bias"} < told["scorers"]["a"].keys()
    curves = np.array([row["curves"]["b"]["bon/min"] for row in told["per_problem"]])
    assert told["scorers"]["b"]["metrics"]["bon/b/min/acc@4"] == pytest.approx(
        curves[:, told["counts"].index(4)].mean()
    )
    assert told["pairs"][0]["differences"][0].keys() == {"mean", "low", "high"}
    assert (tmp_path / "out.png").read_bytes()[:4] == b"\x89PNG"


def test_an_unscored_file_of_another_layout_gets_the_rules_without_scorer(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows: list[dict[str, Any]] = [
        {"prompt": f"{p}?", "completion": f"#### {a}", "label": a == 7} for p in range(3) for a in (7, 8, 7, 9)
    ]
    path = tmp_path / "unpaired.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    main([str(path), "--counts", "1,3", "--figure", str(tmp_path / "f.png")])
    out = capsys.readouterr().out
    assert "majority vote" in out
    assert "best of N" not in out
    assert "Length is counted in characters" in out
    (found,) = find(read_pool([str(path)]), Settings(Sigmoid())).each
    assert found.judgement.curves.keys() == {"bon/shortest", "bon/longest", "bon/random", "majority", "any"}


def test_figures_are_png_or_svg_and_others_are_refused_before_the_work(
    two_files: tuple[str, str], tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=r"--figure f\.pdf: figures are PNG or SVG; name it \.png or \.svg"):
        main(["nowhere.jsonl", "--figure", "f.pdf"])
    for name in ("one.svg", "two.svg"):
        main([*two_files, "--figure", str(tmp_path / name)])
    assert (tmp_path / "one.svg").read_bytes() == (tmp_path / "two.svg").read_bytes()
    assert (tmp_path / "one.svg").read_text().startswith("<?xml")


@pytest.mark.parametrize("option", [("--aggregate", "min"), ("--weight", "sigmoid")])
def test_what_only_scores_use_is_refused_where_there_are_none(tmp_path: Path, option: tuple[str, str]) -> None:
    write_groups(tmp_path / "bare.jsonl", groups())
    with pytest.raises(ValueError, match=r"bare\.jsonl holds no scores that --aggregate or --weight could use"):
        main([str(tmp_path / "bare.jsonl"), *option])


def test_undefined_ends_are_dashes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    these = [replace(g, rollouts=g.rollouts * 2) for g in checked((True, -1), (True, 0), (False, 0))]
    files = [write_scored(tmp_path / f"{name}.jsonl", these, rewarded(these, i)) for i, name in enumerate("ab")]
    main(files)
    printed = capsys.readouterr().out
    assert " - " in next(line for line in printed.splitlines() if line.strip().startswith("... low"))
    assert "nan" not in printed


def test_counts_are_checked() -> None:
    assert find(pool_of(groups()), Settings(Sigmoid(), counts=(2,))).counts == (2, 5)
    with pytest.raises(
        ValueError, match=r"--counts has 6, but problems have up to 5 candidates\. Name numbers from 1 to 5"
    ):
        find(pool_of(groups()), Settings(Sigmoid(), counts=(2, 6)))
    with pytest.raises(ValueError, match="--counts '1,x' is no list of whole numbers"):
        main(["nowhere.jsonl", "--counts", "1,x"])


def test_findings_hang_on_the_seed_only_through_sampled_votes() -> None:
    pool = pool_of(groups(sizes=(16, 16)), 0)
    one, two = (as_json(find(pool, Settings(Sigmoid(), seed=seed)))["per_problem"] for seed in (0, 1))
    both = [(a["curves"]["s0"], b["curves"]["s0"]) for a, b in zip(one, two, strict=True)]
    changed = {name for a, b in both for name in a if a[name] != b[name]}
    assert changed
    assert all(name.startswith("vote/") for name in changed)


def test_help_answers_without_loading_torch() -> None:
    load = "import sys; from lit_prm.commands.main import main"
    code = f"{load}\ntry: main(['bon', '--help'])\nfinally: print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("False\n")
    assert "--compat" in done.stdout
