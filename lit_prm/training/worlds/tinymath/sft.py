"""Trains the small Llama of tinymath on authors' solutions, and keeps snapshots as weaker and stronger generators."""

from __future__ import annotations

import random
import warnings
from collections.abc import Iterator, Mapping
from itertools import count, islice
from pathlib import Path
from typing import Any, cast

import torch
from lightning import LightningModule, Trainer, seed_everything
from lightning.pytorch.callbacks import Callback, RichProgressBar
from lightning.pytorch.utilities.seed import isolate_rng
from torch import Tensor
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader, IterableDataset
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from transformers.utils.logging import disable_progress_bar

from lit_prm.data.batch import Batch, Encoded, collate
from lit_prm.data.encoding import Encoder
from lit_prm.data.records import Group, Problem, Rollout
from lit_prm.data.steps import Newline
from lit_prm.models.logps import token_logps
from lit_prm.storage.atomic import written_whole
from lit_prm.training.schedule import WarmupCosine
from lit_prm.training.worlds.tinymath.misconceptions import draw_author
from lit_prm.training.worlds.tinymath.problems import make_problem
from lit_prm.training.worlds.tinymath.solutions import write_solution

EXPERT_LR = 0.3  # learning rate of the updates on experts' solutions, as a share of the learning rate before


class SFT(LightningModule):
    """Next-token cross-entropy on the tokens of solutions: ``steps`` updates, then ``expert_steps`` at a lower rate."""

    def __init__(self, model: LlamaForCausalLM, lr: float, steps: int, expert_steps: int) -> None:
        super().__init__()
        self.model = model
        self.lr = lr
        self.steps = steps
        self.expert_steps = expert_steps

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        loss = -token_logps(self.model, batch).sum() / batch.in_response.sum()
        self.log("loss", loss, prog_bar=True, batch_size=len(batch.ids))
        return loss

    def configure_optimizers(self) -> Any:
        optimizer = AdamW(self.parameters(), lr=self.lr, betas=(0.9, 0.98), weight_decay=0.01)
        scheduler = LambdaLR(optimizer, self._factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def _factor(self, update: int) -> float:
        schedule = WarmupCosine(warmup=0.03, floor=0.02)
        if update < self.steps:
            return schedule.factor(update, self.steps)
        return EXPERT_LR * schedule.factor(update - self.steps, self.expert_steps)


class Solutions(IterableDataset[Batch]):
    """Endless batches of new problems with a solution each, of similar length, by authors with ``fluent_errors``.

    Iteration begins with batch number ``first``.
    """

    POOL = 32  # batches drawn at once and sorted by length, so that there is little padding

    def __init__(
        self,
        encoder: Encoder,
        batch_size: int,
        seed: str,
        held_out: frozenset[str],
        fluent_errors: float = 0.0,
        first: int = 0,
    ) -> None:
        self.encoder = encoder
        self.batch_size = batch_size
        self.seed = seed
        self.held_out = held_out
        self.fluent_errors = fluent_errors
        self.first = first

    def __iter__(self) -> Iterator[Batch]:
        for pool in count(self.first // self.POOL):
            first = self.first % self.POOL if pool == self.first // self.POOL else 0
            yield from (collate(batch) for batch in self._pool(pool)[first:])

    def _pool(self, number: int) -> list[list[Encoded]]:
        rng = random.Random(f"{self.seed}-{number}")
        groups = [self._draw(rng) for _ in range(self.POOL * self.batch_size)]
        rows = sorted(self.encoder.encode(groups), key=len)
        batches = [rows[i : i + self.batch_size] for i in range(0, len(rows), self.batch_size)]
        rng.shuffle(batches)
        return batches

    def _draw(self, rng: random.Random) -> Group:
        while (problem := make_problem(rng)).text in self.held_out:
            pass
        solution = write_solution(problem, rng, draw_author(self.fluent_errors, rng))
        return Group(problem=Problem(prompt=problem.text, id="sft"), rollouts=(Rollout(response=solution),))


class Curriculum(IterableDataset[Batch]):
    """``steps`` batches by all ``authors``, then batches by ``experts``; the first ``skip`` of all are left out."""

    def __init__(self, authors: Solutions, experts: Solutions, steps: int, skip: int = 0) -> None:
        self.authors, self.experts, self.left = authors, experts, max(steps - skip, 0)
        authors.first, experts.first = skip, max(skip - steps, 0)

    def __iter__(self) -> Iterator[Batch]:
        yield from islice(self.authors, self.left)
        yield from self.experts


class Keep(Callback):
    """Saves each snapshot after its number of updates, and a checkpoint to resume from every ``EVERY`` updates."""

    EVERY = 200

    def __init__(self, snapshots: Mapping[str, int], folder: Path, checkpoint: Path) -> None:
        self.snapshots = snapshots
        self.folder = folder
        self.checkpoint = checkpoint

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        for name, updates in self.snapshots.items():
            if trainer.global_step == updates:
                pl_module.model.save_pretrained(self.folder / name)  # type: ignore[operator, union-attr]
        if trainer.global_step % self.EVERY == 0:
            with written_whole(self.checkpoint) as partial:
                trainer.save_checkpoint(partial, weights_only=False)


def train_models(
    tokenizer: PreTrainedTokenizerFast,
    *,
    folder: Path,
    hidden: int,
    layers: int,
    steps: int,
    expert_steps: int,
    snapshots: Mapping[str, int],
    batch_size: int,
    lr: float,
    seed: int,
    held_out: frozenset[str],
    fluent_errors: float,
) -> None:
    """Train for ``steps`` updates on solutions by authors with ``fluent_errors``, then ``expert_steps`` on experts'.

    Writes ``folder/base``, the model after ``steps`` updates, ``folder/stronger``, the final model, and
    ``folder/<name>``, the model after ``snapshots[name]`` updates.
    """
    checkpoint = folder / "sft.ckpt"
    done = torch.load(checkpoint, weights_only=True)["global_step"] if checkpoint.exists() else 0
    snapshots = {**snapshots, "base": steps}
    cast(Any, disable_progress_bar)()
    with isolate_rng(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*your dataloader is not resumable")  # `Curriculum` skips finished batches
        # making a batch costs less than a worker process
        warnings.filterwarnings("ignore", ".*does not have many workers")
        seed_everything(seed, verbose=False)
        model = LlamaForCausalLM(_config(tokenizer, hidden, layers))
        encoder = Encoder(tokenizer, Newline(), max_length=256)
        authors = Solutions(encoder, batch_size, f"sft-{seed}", held_out, fluent_errors)
        experts = Solutions(encoder, batch_size, f"experts-{seed}", held_out)
        trainer = _trainer(steps + expert_steps, Keep(snapshots, folder, checkpoint))
        loader = DataLoader(Curriculum(authors, experts, steps, skip=done), batch_size=None)
        module = SFT(model, lr, steps, expert_steps)
        trainer.fit(module, loader, ckpt_path=checkpoint if done else None, weights_only=True)
        model.save_pretrained(folder / "stronger")
    for name in ("stronger", *snapshots):
        tokenizer.save_pretrained(folder / name)
    checkpoint.unlink(missing_ok=True)


def _trainer(steps: int, keep: Keep) -> Trainer:
    return Trainer(
        max_epochs=1,
        limit_train_batches=steps,
        accelerator="cpu",
        devices=1,
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        gradient_clip_val=1.0,
        callbacks=[keep, RichProgressBar(refresh_rate=20)],
    )


def _config(tokenizer: PreTrainedTokenizerFast, hidden: int, layers: int) -> LlamaConfig:
    return LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=hidden,
        intermediate_size=3 * hidden,
        num_hidden_layers=layers,
        num_attention_heads=max(hidden // 32, 1),
        max_position_embeddings=256,
        initializer_range=0.05,
        tie_word_embeddings=True,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        dtype=torch.float32,
    )
