"""What a scorer says equals what training calls rewards, whatever company a response is in."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from doctest import DocTestFinder, DocTestRunner
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import PreTrainedTokenizerFast

import lit_prm
from lit_prm.data.batch import Batch, collate
from lit_prm.data.encoding import Encoder
from lit_prm.data.records import Group, Problem, Rollout
from lit_prm.data.steps import BlankLine, EachToken, StepRule
from lit_prm.models.reference import Frozen, Reference, Stored
from lit_prm.models.reward_model import ImplicitReward, OutcomeHead, RewardModel, StepHead, ValueHead
from lit_prm.scoring import loading
from lit_prm.scoring.building import build
from lit_prm.scoring.model_scorer import ModelScorer, shortest
from lit_prm.scoring.run_spec import spec_of_run
from lit_prm.scoring.sources import Options, spec_of
from lit_prm.scoring.spec import RewardSpec, named
from lit_prm.storage.class_paths import class_path_of
from tests import reference as slow
from tests.rounding import float32_bound

RESPONSES = (
    "Step 1: Add.\n\nStep 2: Double it.\n\nThe answer is 14.",
    "14",
    "最后 除以 2\n\n= 7",
    "14",
    "",
    " \n\n \n",
)
GROUPS = [
    Group(
        problem=Problem(prompt=prompt, id=str(i)),
        rollouts=tuple(Rollout(response=response) for response in RESPONSES[i:]),
    )
    for i, prompt in enumerate(("What is 2 * (3 + 4)?", "Find the sum of the first five odd numbers.", "7?"))
] + [
    Group(
        problem=Problem(prompt="7?", id="own steps"),
        rollouts=(Rollout(response="Add. Double.", steps=("Add. ", "Double.")), Rollout(response="Add. Double.")),
    )
]


@pytest.fixture(scope="module")
def folders(policy_folder: Path, reference_folder: Path) -> tuple[str, str]:
    return str(policy_folder), str(reference_folder)


def scorer_of(model: RewardModel, tokenizer: PreTrainedTokenizerFast, **options: Any) -> ModelScorer:
    steps: StepRule = options.pop("steps", BlankLine())
    encoder = Encoder(tokenizer, steps, max_length=options.pop("max_length", 2048), spans=True)
    model.configure_model()
    return ModelScorer(model, encoder, identity={"dtype": "float32"}, **options)


def implicit(folders: tuple[str, str]) -> ImplicitReward:
    return ImplicitReward(folders[0], Frozen(folders[1]), beta=0.5)


def close(ours: Sequence[float | None], theirs: Sequence[float | None]) -> None:
    assert [x is None for x in ours] == [x is None for x in theirs]
    known = [(a, b) for a, b in zip(ours, theirs, strict=True) if a is not None and b is not None]
    assert [a for a, _ in known] == pytest.approx([b for _, b in known], abs=2e-4)


@pytest.mark.parametrize("whole_rows", [None, "asked"])
def test_rewards_are_those_of_one_softmax_per_token(
    folders: tuple[str, str], tokenizer: PreTrainedTokenizerFast, whole_rows: str | None
) -> None:
    """The slow restatement: every token's log-ratio by itself, summed step by step."""
    scorer = scorer_of(implicit(folders), tokenizer, whole_rows=whole_rows, budget=64)
    policy, ref = (Frozen(name).network(torch.device("cpu")) for name in folders)
    encoded = iter(scorer.encoder.encode(GROUPS))
    for rewards in (r for of_group in scorer.score(GROUPS) for r in of_group):
        row = next(encoded)
        ids = row.ids.tolist()
        ours, theirs = (slow.token_logps(m, ids, row.prompt_length) for m in (policy, ref))
        ratios = [0.5 * (a - b) for a, b in zip(ours, theirs, strict=True)]
        close(rewards.token_rewards, ratios)
        assert rewards.reward == pytest.approx(sum(ratios), abs=2e-4)
        by_step = [[x for x, s in zip(ratios, row.step, strict=True) if s == k] for k in range(len(rewards.step_spans))]
        close(rewards.step_rewards, [sum(x) if x else None for x in by_step])
        logps = [[x for x, s in zip(theirs, row.step, strict=True) if s == k] for k in range(len(rewards.step_spans))]
        close(rewards.reference_logps or (), [sum(x) if x else None for x in logps])


def test_step_and_token_rewards_telescope(folders: tuple[str, str], tokenizer: PreTrainedTokenizerFast) -> None:
    for rewards in (r for rows in scorer_of(implicit(folders), tokenizer).score(GROUPS) for r in rows):
        of_tokens = [x for x in rewards.token_rewards if x is not None]
        rounding = float32_bound(len(rewards.token_rewards) + 2, sum(map(abs, of_tokens)))
        assert sum(x for x in rewards.step_rewards if x is not None) == pytest.approx(rewards.reward, abs=rounding)
        assert sum(of_tokens) == pytest.approx(rewards.reward, abs=rounding)
        assert [x for x in rewards.step_values if x is not None][-1] == rewards.reward


@pytest.mark.parametrize(("model", "judges_tokens"), [(OutcomeHead, False), (StepHead, True)])
def test_heads_score_as_in_training(
    model: type[ValueHead], judges_tokens: bool, folders: tuple[str, str], tokenizer: PreTrainedTokenizerFast
) -> None:
    scorer = scorer_of(model(folders[0]), tokenizer)
    torch.nn.init.normal_(scorer.reward_model.head.weight)  # type: ignore[union-attr, arg-type]
    rows = scorer.encoder.encode(GROUPS)
    batch = collate(rows)
    with torch.no_grad():
        values = scorer.reward_model(batch)
    steps, valid = scorer.reward_model.step_rewards(values, batch.step)
    for i, rewards in enumerate(r for of_group in scorer.score(GROUPS) for r in of_group):
        expected = [float(x) if ok else None for x, ok in zip(steps[i], valid[i], strict=True)]
        count = len(rewards.step_spans)
        close(rewards.step_rewards, (expected + [None] * count)[:count])
        assert rewards.reward == pytest.approx(float(values[i, len(rows[i]) - 1]), abs=2e-4)
        assert rewards.reference_logps is None
        tokens = values[i, rows[i].prompt_length : len(rows[i])].tolist() if judges_tokens else []
        close(rewards.token_rewards, tokens)  # an outcome head judges no single token


def test_company_and_order_change_nothing(folders: tuple[str, str], tokenizer: PreTrainedTokenizerFast) -> None:
    scorer = scorer_of(implicit(folders), tokenizer, budget=100)
    together = scorer.score(GROUPS)
    for i, group in enumerate(GROUPS):
        (alone,) = scorer.score([group])
        backwards = scorer.score([group.keep(range(len(group.rollouts))[::-1]), *GROUPS])[0][::-1]
        for a, b, c in zip(together[i], alone, backwards, strict=True):
            close(a.token_rewards, b.token_rewards)
            close(a.token_rewards, c.token_rewards)
    assert scorer.score(GROUPS) == together  # the same call, the same bits


def test_equal_responses_are_scored_once(
    folders: tuple[str, str], tokenizer: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch
) -> None:
    scorer = scorer_of(implicit(folders), tokenizer)
    seen: list[int] = []
    scorer.reward_model.register_forward_pre_hook(lambda _model, args: seen.append(len(args[0].ids)))
    rewards = scorer.score([GROUPS[0]])[0]
    assert sum(seen) == 5  # of six
    assert rewards[1] == rewards[3]


def test_equal_tokens_in_other_steps_are_told_apart(
    folders: tuple[str, str], tokenizer: PreTrainedTokenizerFast
) -> None:
    two, one = scorer_of(implicit(folders), tokenizer).score([GROUPS[3]])[0]
    assert (two.step_spans, one.step_spans) == (((0, 5), (5, 12)), ((0, 12),))
    assert two.reward == pytest.approx(one.reward, abs=1e-4)


def test_the_reference_is_asked_once_a_batch(
    folders: tuple[str, str], tokenizer: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Batch] = []
    inner = Frozen.logps

    def counted(self: Frozen, batch: Batch) -> torch.Tensor:
        asked.append(batch)
        return inner(self, batch)

    monkeypatch.setattr(Frozen, "logps", counted)
    scorer_of(implicit(folders), tokenizer).score(GROUPS[:1])
    assert len(asked) == 1


def test_a_cut_off_response_tiles_its_text_all_the_same(
    folders: tuple[str, str], tokenizer: PreTrainedTokenizerFast
) -> None:
    prompt = scorer_of(implicit(folders), tokenizer).encoder.encode(GROUPS[:1])[0].prompt_length
    for steps in (BlankLine(), EachToken()):
        scorer = scorer_of(implicit(folders), tokenizer, steps=steps, max_length=prompt + 5)
        first = scorer.score(GROUPS[:1])[0][0]
        assert first.truncated
        assert first.tokens == 5
        assert "".join(RESPONSES[0][a:b] for a, b in first.step_spans) == RESPONSES[0]
        assert first.step_rewards[0] is not None
        assert first.step_rewards[-1] is None


def test_each_token_may_be_a_step(folders: tuple[str, str], tokenizer: PreTrainedTokenizerFast) -> None:
    scorer = scorer_of(implicit(folders), tokenizer, steps=EachToken())
    for group, rewards in zip(GROUPS, scorer.score(GROUPS), strict=True):
        for rollout, r in zip(group.rollouts, rewards, strict=True):
            assert r.step_rewards == r.token_rewards
            assert "".join(rollout.response[a:b] for a, b in r.step_spans) == rollout.response


def test_stored_log_probs_are_read_and_none_is_written(
    folders: tuple[str, str], tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    store = Stored(folders[1], str(tmp_path / "r.sqlite"))
    rows = Encoder(tokenizer, BlankLine()).encode(GROUPS)
    store.logps(collate(rows[:4]))
    before = Path(store.store.path).stat().st_mtime_ns
    lacking = scorer_of(ImplicitReward(folders[0], store.read_only(), beta=0.5), tokenizer).score(GROUPS)
    live = scorer_of(implicit(folders), tokenizer).score(GROUPS)
    for a, b in zip(lacking, live, strict=True):
        for ours, theirs in zip(a, b, strict=True):
            close(ours.token_rewards, theirs.token_rewards)
    assert Path(store.store.path).stat().st_mtime_ns == before
    nowhere = Stored(folders[1], str(tmp_path / "none" / "r.sqlite")).read_only()
    nowhere.logps(collate(rows[:1]))
    assert not (tmp_path / "none").exists()


def test_numbers_are_the_shortest_that_are_the_same_float32() -> None:
    numbers = np.array([0.1, -1 / 3, 1e-12, 3e8, 0.0, 123456.789], dtype=np.float32)
    found = shortest(numbers)
    assert (np.array(found, dtype=np.float32) == numbers).all()
    assert found[0] == 0.1
    assert len(repr(found[1])) == len("-0.33333334")


# ---- loading ------------------------------------------------------------------------------------


def test_the_example_of_load_runs(folders: tuple[str, str]) -> None:
    (example,) = DocTestFinder().find(
        loading.load, "load", globs=dict(zip(("policy", "reference"), folders, strict=True))
    )
    ran = DocTestRunner().run(example)
    assert (ran.failed, ran.attempted) == (0, 4)


def test_a_language_model_is_scored_by_the_papers_defaults(folders: tuple[str, str]) -> None:
    identity = lit_prm.load(folders[0], reference=folders[1]).identity
    assert (identity["beta"], identity["aggregate"]) == (0.05, "min")
    assert identity["steps"]["class_path"] == "lit_prm.data.steps.BlankLine"
    json.dumps(dict(identity))


def test_identity_changes_with_all_that_scores_hang_on(folders: tuple[str, str]) -> None:
    def identity(policy: str = folders[0], reference: str = folders[1], **options: Any) -> str:
        return json.dumps(dict(lit_prm.load(policy, reference=reference, **options).identity))

    seen = {
        identity(), identity(folders[1]), identity(reference=folders[0]), identity(reference="none"),
        identity(beta=1.0), identity(steps="Newline"), identity(max_length=100), identity(aggregate="mean"),
        identity(prompt_template="Solve: {prompt}"), identity(dtype="bfloat16"),
    }  # fmt: skip
    assert len(seen) == 10
    assert identity() in seen


def test_a_language_model_needs_its_reference(folders: tuple[str, str]) -> None:
    with pytest.raises(ValueError, match=r"relative to another one\. Give the model that it was trained from"):
        lit_prm.load(folders[0])


def test_a_pair_of_models_cuts_no_response_that_both_can_read(folders: tuple[str, str], tmp_path: Path) -> None:
    """512 positions are the models' own; a reference with fewer decides, and so does an option."""
    words = [Group(problem=Problem(prompt="1?", id="1"), rollouts=(Rollout(response="word " * 900),))]
    short = Path(shutil.copytree(folders[1], tmp_path / "short"))
    config = json.loads((short / "config.json").read_text())
    (short / "config.json").write_text(json.dumps(config | {"max_position_embeddings": 300}))
    for reference, options, limit in (
        (folders[1], {}, 512),
        (str(short), {}, 300),
        (folders[1], {"max_length": 99}, 99),
    ):
        scorer = lit_prm.load(folders[0], reference=reference, beta=1.0, **options)
        assert scorer.identity["max_length"] == limit
        ((found,),) = scorer.score(words)
        assert found.truncated


def test_without_reference_the_log_prob_is_the_reward(folders: tuple[str, str]) -> None:
    (rewards,) = lit_prm.load(folders[0], reference="none", beta=1.0).score(GROUPS[:1])
    assert all((r.reward or 0) < 0 and r.reference_logps is None for r in rewards)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": "{"}, "names no class .*property name"),
        (
            {"steps": "Lines"},
            r"Lines cannot be built as a StepRule .*Give one of BlankLine, EachToken, EurusMarked, EveryLine",
        ),
        (
            {"steps": '{"class_path": "Pattern", "init_args": {"regexp": "x"}}'},
            "Pattern cannot be built as a StepRule .*regexp",
        ),
        ({"aggregate": "worst"}, "at least one of min"),
        ({"beta": -1.0}, "not positive"),
        ({"max_length": 0}, "max_length 0 is not positive"),
        ({"separator": ""}, 'separator "" is empty'),
        ({"prompt_template": "Solve"}, r"no \{prompt\}"),
        ({"dtype": "fp8"}, "is not one of"),
    ],
)
def test_wrong_options_are_named(folders: tuple[str, str], options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        lit_prm.load(folders[0], reference=folders[1], **options)


def test_an_unknown_option_is_named_with_the_nearest_right_one(folders: tuple[str, str]) -> None:
    with pytest.raises(ValueError, match=r"load has no option 'refrence'\. Did you mean 'reference'\? The options are"):
        lit_prm.load(folders[0], refrence=folders[1])
    with pytest.raises(ValueError, match=r"load has no option 'zzz'\. The options are reference, beta, "):
        lit_prm.load(folders[0], zzz=1)
    with pytest.raises(ValueError, match=r"detail 'token' is unknown\. Give one of tokens, steps"):
        lit_prm.load(folders[0], reference=folders[1], detail="token")


class OwnReward(ImplicitReward):
    """A user's subclass. Its constructor fails, so a test sees when somebody makes one to learn its class."""

    def __init__(self, policy: str, beta: float = 0.05, reference: Reference | None = None) -> None:
        raise AssertionError("instantiated")


class OwnHead(OutcomeHead):
    pass


def own_spec(folders: tuple[str, str], kind: type[RewardModel], **arguments: Any) -> RewardSpec:
    return RewardSpec(
        reward_model=named(class_path_of(kind), {"policy": folders[0]} | arguments), tokenizer=folders[0],
        steps=named("BlankLine"),
    )  # fmt: skip


def test_options_reach_a_users_own_reward_model_without_making_one(folders: tuple[str, str], tmp_path: Path) -> None:
    frozen = named("Frozen", {"model": "other"})
    spec = own_spec(folders, OwnReward, beta=1.0, training_reference=frozen, scoring_reference=frozen)
    (tmp_path / "reward.json").write_text(json.dumps(spec.to_json()))
    found = spec_of(str(tmp_path), Options(beta=2.0, reference="none"))
    uniform = named("lit_prm.models.reference.Uniform")
    assert found.reference == uniform
    assert found.reward_model["init_args"] == {"policy": folders[0], "beta": 2.0, "reference": uniform}
    (tmp_path / "reward.json").write_text(json.dumps(own_spec(folders, OwnHead).to_json()))
    with pytest.raises(ValueError, match=r"beta 2\.0 was given, but .*OwnHead has no beta"):
        spec_of(str(tmp_path), Options(beta=2.0))
    assert spec_of(str(tmp_path), Options(reference="none")).reward_model["init_args"] == {"policy": folders[0]}


@pytest.mark.parametrize("path", ["callbacks.BestOfN", "users_own.Chooser", "lit_prm.best_of_n.BestOfN"])
def test_the_primary_aggregate_is_that_of_the_callback_with_the_option(path: str, tmp_path: Path) -> None:
    callbacks = [
        {"class_path": "callbacks.Progress"}, {"class_path": path, "init_args": {"aggregates": ["mean", "min"]}},
    ]  # fmt: skip
    config = {
        "model": {"reward_model": {"class_path": "ImplicitReward"}, "loss": "lit_prm.losses.ce.CE"},
        "data": {"tokenizer": "owner/model"}, "trainer": {"max_epochs": 0, "callbacks": callbacks},
    }  # fmt: skip
    (tmp_path / "config.yaml").write_text(json.dumps(config))
    assert spec_of_run(tmp_path).aggregate == "mean"


def test_a_reference_of_other_weights_is_refused(folders: tuple[str, str]) -> None:
    spec = RewardSpec(
        reward_model=named("ImplicitReward", {"policy": folders[0]}), tokenizer=folders[0], steps=named("BlankLine"),
        reference=named("Frozen", {"model": folders[1]}), identity={"reference": "0" * 64},
    )  # fmt: skip
    with pytest.raises(ValueError, match=r"hashes are reference 000000000000 against \w{12}\."):
        build(spec)


def test_specs_are_json_both_ways_and_know_their_keys(folders: tuple[str, str]) -> None:
    spec = spec_of(folders[0], Options(reference=folders[1], beta=2.0, steps='{"class_path": "Newline"}'))
    assert RewardSpec.from_json(json.loads(json.dumps(spec.to_json()))) == spec
    assert spec.beta == 2.0
    with pytest.raises(ValueError, match=r"description of a reward model is damaged \(bet: Unexpected"):
        RewardSpec.from_json(spec.to_json() | {"bet": 1})
    with pytest.raises(ValueError, match=r"\(reward_model: .*a class is .*\); export the model again"):
        RewardSpec.from_json({"reward_model": {}})


def test_relative_paths_are_those_of_the_specs_folder(tmp_path: Path) -> None:
    (tmp_path / "ref").mkdir()
    spec = RewardSpec(
        reward_model=named("ImplicitReward", {"policy": ".", "beta": 1.0}), tokenizer="owner/model",
        steps=named("BlankLine"), reference=named("Frozen", {"model": "ref"}),
    )  # fmt: skip
    found = spec.resolved(tmp_path)
    assert found.reward_model["init_args"] == {"policy": str(tmp_path), "beta": 1.0}
    assert found.reference == named("Frozen", {"model": str(tmp_path / "ref")})
    assert found.tokenizer == "owner/model"


def test_folders_that_are_no_runs_say_what_they_lack(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="There is no checkpoint"):
        spec_of_run(tmp_path / "checkpoints" / "last.ckpt")
    (tmp_path / "a.ckpt").touch()
    with pytest.raises(ValueError, match=r"no config\.yaml beside it"):
        spec_of_run(tmp_path / "a.ckpt")
    (tmp_path / "config.yaml").write_text("{trainer: {max_epochs: 1}}")
    with pytest.raises(ValueError, match="model: Field required"):
        spec_of_run(tmp_path)
    model = {"reward_model": named("A", {}), "loss": "CE"}
    whole = {"trainer": {"max_epochs": 1}, "model": model, "data": {"tokenizer": "t"}}
    (tmp_path / "config.yaml").write_text(json.dumps(whole))
    with pytest.raises(ValueError, match="nothing was trained yet"):
        spec_of_run(tmp_path)


# ---- the self-check -----------------------------------------------------------------------------


def test_a_scorer_that_disagrees_with_training_is_refused(
    folders: tuple[str, str], tokenizer: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch
) -> None:
    scorer = scorer_of(implicit(folders), tokenizer)
    scorer.check(GROUPS)
    monkeypatch.setattr(
        "lit_prm.models.packed_attention.with_those_behind", lambda parts, _: list(parts)
    )  # prompts are not seen
    with pytest.raises(
        ValueError, match=r"the scorer's rewards of the response and its steps are .*, training's .*, more than"
    ):
        scorer.check(GROUPS)


def test_importing_the_package_stays_cheap() -> None:
    seen = "import sys, lit_prm; print(sorted({'torch', 'transformers', 'jsonargparse', 'mlflow'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", seen], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_prompts_that_leave_no_room_are_told_together_with_the_limit_that_would_do(folders: tuple[str, str]) -> None:
    scorer = lit_prm.load(folders[0], reference=folders[1], max_length=12)
    with pytest.raises(ValueError, match=r"2 of 2 problems have a prompt that fills the 12 tokens.*--max-length \d+"):
        scorer.check([replace(g, problem=replace(g.problem, prompt="long " * 20)) for g in GROUPS[:2]])


def test_one_text_is_not_taken_for_a_list_of_letters(folders: tuple[str, str]) -> None:
    with pytest.raises(ValueError, match=r"is one text '6 \* 7 = 42', not a list"):
        lit_prm.load(folders[0], reference=folders[1]).score_texts("6 * 7?", "6 * 7 = 42")


@pytest.mark.parametrize("device", ["gpu", "cuda:0"])
@pytest.mark.skipif(torch.cuda.is_available(), reason="asks for a GPU where there is none")
def test_a_device_that_is_not_there_is_refused(folders: tuple[str, str], device: str) -> None:
    with pytest.raises(ValueError, match=f"device '{device}'"):
        lit_prm.load(folders[0], reference=folders[1], device=device)


def test_a_folder_or_path_of_nothing_is_told_before_the_hub_is_asked(tmp_path: Path) -> None:
    (tmp_path / "seed-0").mkdir()
    (tmp_path / "seed-0" / "config.yaml").write_text("")
    (tmp_path / "seed-0" / "nothing").mkdir()
    with pytest.raises(ValueError, match=r"It holds runs; give .*seed-0"):
        lit_prm.load(str(tmp_path))
    with pytest.raises(ValueError, match=r"It has no config\.yaml, reward\.json"):
        lit_prm.load(str(tmp_path / "seed-0" / "nothing"))
    with pytest.raises(ValueError, match="is neither a folder nor a hub name"):
        lit_prm.load("runs/tiny/nothing/seed-9")


def test_a_head_is_told_apart_by_the_reference_beside_its_rewards(folders: tuple[str, str]) -> None:
    spec = RewardSpec(
        reward_model=named("OutcomeHead", {"policy": folders[0]}), tokenizer=folders[0], steps=named("BlankLine"),
        reference=named("Frozen", {"model": folders[1]}),
    )  # fmt: skip
    one, other = (build(s).identity for s in (spec, replace(spec, reference=named("Uniform"))))
    assert one["reference_weights"]
    assert one["reference"] != other["reference"]
