"""Law 9: an export scores like the checkpoint it came from, says what its scores hang on, and is whole or not there."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar, cast

import pytest
import torch
import yaml
from safetensors import safe_open
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast

from lit_prm.commands.main import main
from lit_prm.data.batch import collate
from lit_prm.data.encoding import Encoder
from lit_prm.data.records import Group, Problem, Rollout
from lit_prm.data.steps import BlankLine, Marked, StepRule
from lit_prm.models.adapters import LoRAReward
from lit_prm.models.language_model import load_tokenizer
from lit_prm.models.reference import Frozen, Stored
from lit_prm.models.reward_model import ImplicitReward, OutcomeHead, RewardModel, StepHead
from lit_prm.models.weights import tokenizer_hash, weights_hash
from lit_prm.scoring.building import build
from lit_prm.scoring.check_samples import SAMPLES, CheckSample, verify, verify_folder
from lit_prm.scoring.export import folder as writing
from lit_prm.scoring.export.command import export
from lit_prm.scoring.loading import load
from lit_prm.scoring.rewards import Rewards
from lit_prm.scoring.sources import released_reference, spec_of
from lit_prm.scoring.spec import RewardSpec, named, read_spec
from lit_prm.storage import atomic
from lit_prm.storage.class_paths import class_path_of
from tests.conftest import TEMPLATE
from tests.rounding import reward_bound

GROUPS = [
    Group(
        problem=Problem(prompt="What is 2 * (3 + 4)?", id="p"),
        rollouts=tuple(
            Rollout(response=r) for r in ("14", "Step 1: Add.\n\nStep 2: Double it: 7 * 2 = 14.", "最后 除以 2", "")
        ),
    ),
    Group(problem=Problem(prompt="1+1?", id="q"), rollouts=(Rollout(response="It is\n\n2.\n\nDone."),)),
]
ROUNDING = reward_bound(64, 0.5)  # that of the longest; beta 0.4 instead of 0.5 is hundreds of times as far
HEADS: dict[str, type[OutcomeHead] | type[StepHead]] = {"OutcomeHead": OutcomeHead, "StepHead": StepHead}


@pytest.fixture(params=["ImplicitReward", *HEADS])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def trained(kind: str, policy: Path, reference: Path) -> RewardModel:
    """A reward model whose weights are those of no folder."""
    model = HEADS[kind](str(policy)) if kind in HEADS else ImplicitReward(str(policy), Frozen(str(reference)), beta=0.5)
    model.configure_model()
    torch.manual_seed(7)
    with torch.no_grad():
        for weights in model.parameters():
            weights.add_(0.02 * torch.randn_like(weights))
    return model.eval()


def run_folder(folder: Path, kind: str, policy: Path, reference: Path, model: RewardModel) -> Path:
    """What a run leaves, written by hand: config, record, checkpoint."""
    (folder / "checkpoints").mkdir(parents=True)
    arguments = {"policy": str(policy), **({} if kind in HEADS else {"beta": 0.5})}
    stored = {"model": str(reference), "path": str(folder / "store.sqlite"), "from_policy": False}
    config = {
        "model": {
            "reward_model": {"class_path": f"lit_prm.models.reward_model.{kind}", "init_args": arguments},
            "reference": {"class_path": "lit_prm.models.reference.Stored", "init_args": stored},
            "loss": {"class_path": "lit_prm.losses.ce.CE"},
        },
        "data": {"tokenizer": str(policy), "steps": {"class_path": "lit_prm.data.steps.BlankLine"}, "max_length": 400},
        "trainer": {"max_epochs": 1},
    }
    metrics = {f"{rule}/test/acc@{n}{end}": 0.25 * n
               for rule in ("bon", "majority", "any") for n in (1, 2) for end in ("", "/low", "/high")}  # fmt: skip
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    (folder / "summary.json").write_text(json.dumps({"name": "ce-8resp", "commit": "abc", "metrics": metrics}))
    (folder / "data.json").write_text(json.dumps({"digests": {"train": "5eed"}}))
    weights = {f"reward_model.{name}": w for name, w in model.state_dict().items()}
    torch.save({"state_dict": weights}, folder / "checkpoints" / "last.ckpt")
    return folder


@pytest.fixture(scope="module")
def exports(
    policy_folder: Path, reference_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Path]:
    """Run and export of a kind, made once; `run` and `export` lie in the folder."""
    made: dict[str, Path] = {}

    def of(kind: str) -> Path:
        if kind not in made:
            made[kind] = tmp_path_factory.mktemp(kind)
            model = trained(kind, policy_folder, reference_folder)
            run = run_folder(made[kind] / "run", kind, policy_folder, reference_folder, model)
            main(["export", str(run), str(made[kind] / "export")])
        return made[kind]

    return of


def by_training(
    model: RewardModel, tokenizer: PreTrainedTokenizerFast, steps: StepRule | None = None
) -> list[tuple[float, list[float]]]:
    """Reward and step rewards of every response, one at a time, through the model that was trained."""
    found = []
    for row in Encoder(tokenizer, steps or BlankLine(), max_length=400).encode(GROUPS):
        batch = collate([row])
        with torch.no_grad():
            values = model(batch)
            each, valid = model.step_rewards(values, batch.step)
        found.append((float(values[0, len(row) - 1]), each[valid].tolist()))
    return found


def told(found: list[list[Rewards]]) -> list[tuple[float, list[float]]]:
    return [(r.reward or 0.0, [x for x in r.step_rewards if x is not None]) for group in found for r in group]


def assert_same(found: list[tuple[float, list[float]]], wanted: list[tuple[float, list[float]]]) -> None:
    for (reward, steps), (other, others) in zip(found, wanted, strict=True):
        assert reward == pytest.approx(other, abs=ROUNDING)
        assert steps == pytest.approx(others, abs=ROUNDING)


def test_an_export_scores_as_training_and_as_the_checkpoint(
    kind: str, exports: Callable[[str], Path], policy_folder: Path, reference_folder: Path
) -> None:
    folder = exports(kind)
    found = told(load(str(folder / "export")).score(GROUPS))
    model = trained(kind, policy_folder, reference_folder)
    assert_same(found, by_training(model, load_tokenizer(str(policy_folder))))  # type: ignore[arg-type]
    assert_same(found, told(load(str(folder / "run")).score(GROUPS)))


def test_plain_transformers_load_it(kind: str, exports: Callable[[str], Path], policy_folder: Path) -> None:
    folder = exports(kind) / "export"
    model, report = cast(Any, AutoModelForCausalLM).from_pretrained(folder, output_loading_info=True)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    assert tokenizer.chat_template == load_tokenizer(str(policy_folder)).chat_template
    assert model(torch.tensor([tokenizer("1+1")["input_ids"]])).logits.isfinite().all()


def test_reward_json_names_all_that_scores_hang_on(exports: Callable[[str], Path], reference_folder: Path) -> None:
    folder = exports("ImplicitReward") / "export"
    found = json.loads((folder / "reward.json").read_text())
    assert found["reference"] == {
        "class_path": "lit_prm.models.reference.Frozen",
        "init_args": {"model": str(reference_folder)},
    }
    assert found["reward_model"]["init_args"] == {"policy": ".", "beta": 0.5, "dtype": "float32"}
    assert (found["tokenizer"], found["loss"], found["aggregate"], found["max_length"]) == (".", "CE", "min", 400)
    assert found["identity"] == {
        "base": weights_hash(str(folder)),
        "reference": weights_hash(str(reference_folder)),
        "tokenizer": tokenizer_hash(str(folder)),
    }
    assert read_spec(folder / "reward.json").tokenizer == str(folder / ".")


@pytest.mark.parametrize("what", ["template", "tokens", "reference", "beta"])
def test_a_scorer_of_something_else_fails_the_check(
    what: str, exports: Callable[[str], Path], policy_folder: Path, tmp_path: Path
) -> None:
    """Another tokenizer or template makes other tokens, another reference or beta other rewards."""
    folder = copied(exports("ImplicitReward") / "export", tmp_path / "export")
    wrong = json.loads((folder / "reward.json").read_text()) | {"identity": {}}
    if what == "template":
        (folder / "chat_template.jinja").write_text(TEMPLATE.replace("}}\n", "}}:\n").replace("nt\n", "nt:\n"))
    elif what == "tokens":
        wrong["prompt_template"] = "Solve: {prompt}"
    elif what == "reference":
        wrong["reference"]["init_args"]["model"] = str(policy_folder)
    else:
        wrong["reward_model"]["init_args"]["beta"] = 0.4
    (folder / "reward.json").write_text(json.dumps(wrong))
    scorer = build(read_spec(folder / "reward.json"))
    with pytest.raises(ValueError, match="tokenizer or chat template" if what[0] == "t" else "another reference"):
        verify_folder(folder, scorer, scorer.encoder)


def copied(source: Path, target: Path) -> Path:
    target.mkdir()
    for file in source.iterdir():
        (target / file.name).write_bytes(file.read_bytes())
    return target


def test_the_card_is_valid_yaml_and_its_snippet_runs(
    kind: str, exports: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = exports(kind) / "export"
    text = (folder / "README.md").read_text()
    head = yaml.safe_load(text.split("---\n")[1])
    assert "process-reward-model" in head["tags"]
    assert ("implicit-prm" in head["tags"]) == (kind == "ImplicitReward")
    result = head["model-index"][0]["results"][0]
    assert (result["dataset"]["name"], result["metrics"][0]["value"]) == ("test", 50.0)
    assert "base_model" not in head  # a local folder is no name of the hub
    for fact in ("5eed", "abc", "| test | 2 | 50.0 [50, 50] |", "BlankLine"):
        assert fact in text
    snippet = re.search(r"```python\n(.*?)```", text, re.DOTALL)
    assert snippet
    monkeypatch.chdir(folder)
    exec(compile(snippet[1], "README.md", "exec"), {})
    assert len(capsys.readouterr().out.splitlines()) == 2


def test_an_earlier_export_is_replaced_and_anything_else_left_alone(
    exports: Callable[[str], Path], tmp_path: Path
) -> None:
    run, target = str(exports("ImplicitReward") / "run"), tmp_path / "there"
    target.mkdir()
    for name in ("reward.json", "check.json", "head.safetensors"):
        (target / name).write_text("{}")  # of an earlier export
    main(["export", run, str(target)])
    assert not (target / "head.safetensors").exists()
    assert [p.name for p in tmp_path.iterdir()] == ["there"]
    before = {file.name: file.read_bytes() for file in target.iterdir()}
    (target / "notes.txt").write_text("dear")
    file = tmp_path / "file"
    file.write_text("dear")
    others = {"photos": "a.jpg", "rewards": "reward.json", "new.parts": "mine.txt"}
    for folder, name in others.items():
        (tmp_path / folder).mkdir()
        (tmp_path / folder / name).write_text("dear")
    for place in (target, tmp_path / "photos", tmp_path / "rewards", tmp_path / "new", file):
        with pytest.raises(SystemExit):
            main(["export", run, str(place)])
    assert file.read_text() == "dear"
    assert all((tmp_path / folder / name).read_text() == "dear" for folder, name in others.items())
    assert {file.name: file.read_bytes() for file in target.iterdir()} == {**before, "notes.txt": b"dear"}
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(["file", "there", *others])


@pytest.mark.parametrize("name", ["model_notes.txt", "headlines.txt", "tokenizer_backup", "model.safetensors"])
def test_files_and_folders_that_are_named_like_those_of_an_export_are_not_removed(name: str, tmp_path: Path) -> None:
    for own in ("reward.json", "check.json"):
        (tmp_path / own).write_text("{}")
    (tmp_path / name).write_text("dear") if "." in name and "model." not in name else (tmp_path / name).mkdir()
    with pytest.raises(ValueError, match=f"holds {name}, which is no file of an export"):
        writing._refuse_others(tmp_path)


@pytest.mark.parametrize("in_one_step", [True, False])
def test_a_killed_export_leaves_nothing_for_ever(
    in_one_step: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a kill leaves is removed, or put back, by the next export to the same place."""
    target = tmp_path / "there"
    target.mkdir()
    (target / "reward.json").write_text("old")
    (target / "check.json").write_text("{}")
    monkeypatch.setattr(atomic, "_exchanged", atomic._exchanged if in_one_step else lambda *_: False)
    left = tmp_path / "there.parts" / "there"
    left.mkdir(parents=True)
    (left / "model.safetensors").write_text("half of it")
    if not in_one_step:
        target.rename(tmp_path / "there.parts" / "before")  # killed between two names
    with writing.whole_folder(target) as folder:
        assert (target / "reward.json").read_text() == "old"
        assert not any(folder.iterdir())
        (folder / "reward.json").write_text("new")
        with pytest.raises(ValueError, match="Another process is writing there"), writing.whole_folder(target):
            pass
    assert (target / "reward.json").read_text() == "new"
    assert [p.name for p in tmp_path.iterdir()] == ["there"]


def test_an_export_that_breaks_leaves_the_earlier_one(
    exports: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "there"
    target.mkdir()
    for name in ("reward.json", "check.json"):
        (target / name).write_text("{}")

    def breaks(*_: Any) -> str:
        raise OSError("disk full")

    monkeypatch.setattr(writing, "card", breaks)
    with pytest.raises(SystemExit):
        main(["export", str(exports("ImplicitReward") / "run"), str(target)])
    assert [p.name for p in tmp_path.iterdir()] == ["there"]
    assert (target / "reward.json").read_text() == "{}"


def test_bfloat16_halves_the_weights_and_still_passes_its_check(exports: Callable[[str], Path], tmp_path: Path) -> None:
    run, target = exports("ImplicitReward") / "run", tmp_path / "half"
    main(["export", str(run), str(target), "--dtype=bfloat16"])
    with safe_open(target / "model.safetensors", framework="pt") as file:
        assert {file.get_tensor(name).dtype for name in file.keys()} == {torch.bfloat16}  # noqa: SIM118
    found, whole = told(load(str(target)).score(GROUPS)), told(load(str(run)).score(GROUPS))
    assert [r for r, _ in found] == pytest.approx([r for r, _ in whole], abs=1.0)


class OwnStore(Stored):
    pass


class OwnLoRA(LoRAReward):
    pass


def test_users_own_classes_are_exported_as_what_can_be_loaded_without_their_run(reference_folder: Path) -> None:
    store = named(class_path_of(OwnStore), {"model": str(reference_folder), "path": "r.sqlite", "from_policy": True})
    spec = RewardSpec(
        reward_model=named("ImplicitReward", {"policy": "p", "beta": 0.5, "gradient_checkpointing": True}),
        reference=store, tokenizer="t", steps=named("BlankLine"),
    )  # fmt: skip
    whole = writing.exported(spec, "bfloat16", has_head=False)
    assert whole.reward_model == named("ImplicitReward", {"policy": ".", "beta": 0.5, "dtype": "bfloat16"})
    assert whole.reference == named("lit_prm.models.reference.Frozen", {"model": str(reference_folder)})
    options = {"policy": "p", "rank": 4, "targets": ["q_proj"], "dropout": 0.1, "alpha": 1.0, "beta": 0.5}
    adapted = writing.exported(
        replace(spec, reward_model=named(class_path_of(OwnLoRA), options)), "float32", has_head=False
    )
    assert adapted.reward_model == named(
        "lit_prm.models.adapters.AdaptedReward", {"policy": ".", "beta": 0.5, "dtype": "float32"}
    )
    assert adapted.reference is None  # the adapter, disabled, is the reference


def test_an_incomplete_sharded_checkpoint_is_refused(
    exports: Callable[[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    (run / "checkpoints" / "last.ckpt").mkdir(parents=True)
    (run / "config.yaml").write_bytes((exports("ImplicitReward") / "run" / "config.yaml").read_bytes())
    with pytest.raises(SystemExit):
        main(["export", str(run), str(tmp_path / "export")])
    assert "last.ckpt is not a checkpoint: it has no file 'latest'" in capsys.readouterr().err
    assert not (tmp_path / "export").exists()


@pytest.mark.parametrize(
    ("name", "reference"),
    [
        ("ImplicitPRM_CE", "meta-llama/Llama-3.1-8B-Instruct"),
        ("ImplicitPRM_DPO", "meta-llama/Llama-3.1-8B-Instruct"),
        ("EurusPRM-Stage1", "Qwen/Qwen2.5-Math-7B-Instruct"),
        ("EurusPRM-Stage2", "Qwen/Qwen2.5-Math-7B-Instruct"),
    ],
)
def test_releases_are_known_by_name(
    name: str, reference: str, policy_folder: Path, reference_folder: Path, tmp_path: Path
) -> None:
    """On stand-ins: `Step k:` steps, the minimum of them, beta 0.05, and the reference that the name tells."""
    assert released_reference(str(policy_folder)) is None
    assert released_reference(f"someone/{name}") == reference
    (tmp_path / name).symlink_to(policy_folder)
    spec = spec_of(str(tmp_path / name))
    assert spec.reference
    assert spec.reference["init_args"]["model"] == reference
    scorer = load(str(tmp_path / name), reference=str(reference_folder))
    assert (scorer.identity["aggregate"], scorer.identity["beta"]) == ("min", 0.05)
    model = ImplicitReward(str(policy_folder), Frozen(str(reference_folder)), beta=0.05)
    model.configure_model()
    wanted = by_training(model.eval(), load_tokenizer(str(policy_folder)), Marked())  # type: ignore[arg-type]
    assert_same(told(scorer.score(GROUPS)), wanted)
    assert len(scorer.score(GROUPS)[0][1].step_rewards) == 2


def test_the_checkpoint_of_another_run_gets_no_card_of_this_one(
    exports: Callable[[str], Path], policy_folder: Path, reference_folder: Path, tmp_path: Path
) -> None:
    runs = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        model = trained("ImplicitReward", policy_folder, reference_folder)
        runs.append(run_folder(tmp_path / name, "ImplicitReward", policy_folder, reference_folder, model))
    with pytest.raises(ValueError, match=r"is not a checkpoint of .*, but the export would get the model card"):
        export(str(runs[0]), tmp_path / "out", str(runs[1] / "checkpoints" / "last.ckpt"))
    earlier = shutil.copy(runs[0] / "checkpoints" / "last.ckpt", runs[0] / "checkpoints" / "earlier.ckpt")
    export(str(runs[0]), tmp_path / "early", str(earlier))
    assert "model-index" not in (tmp_path / "early" / "README.md").read_text()


@pytest.mark.parametrize(
    ("apart", "logps", "same"), [(1.5e-5, 138.0, True), (1.5e-5, 1.0, False), (1e-3, 138.0, False)]
)
def test_rewards_near_zero_may_lie_as_far_apart_as_their_sums_are_rounded(
    apart: float, logps: float, same: bool, exports: Callable[[str], Path]
) -> None:
    """An implicit reward is the difference of two sums, so that a short training's is nothing but their last digits."""
    folder = exports("ImplicitReward") / "export"
    scorer = build(read_spec(folder / "reward.json"))
    rows = scorer.encoder.encode([SAMPLES])
    samples = [CheckSample(row.ids.tolist(), reward=apart, step_rewards=[apart]) for row in rows]

    class Zero:
        identity: ClassVar[dict[str, Any]] = {"beta": 1.0}

        def score(self, groups: Any) -> Any:
            made = SimpleNamespace(reward=0.0, step_rewards=(0.0,), reference_logps=[-logps])
            return [[made] * len(samples)]

    with nullcontext() if same else pytest.raises(ValueError, match=r"apart.*another reference.*Report this"):
        verify(Zero(), scorer.encoder, samples, 1e-5)  # type: ignore[arg-type]
