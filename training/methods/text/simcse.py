"""SimCSE: a sentence is known by itself, read twice with other activations dropped.

The encoder reads every sentence of a batch twice; dropout, drawn anew for each reading, is all that sets the two apart.
A sentence's first reading must score its own second reading above those of the other sentences.

Source: Gao, Yao & Chen 2021, "SimCSE: simple contrastive learning of sentence embeddings", arXiv:2104.08821.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import cast

import torch
from torch import Tensor, nn

from models.config import Pooling, TextArchitecture, TextEncoderConfig
from training.config import OptimiserConfig, Schedule
from training.distributed import gather, gather_with_gradient
from training.losses.info_nce import candidate_scores, info_nce_accuracy, info_nce_loss
from training.losses.precision import unit_rows
from training.methods.base import LossOutput, Method, MethodContext, Needs, Progress, TextBatch
from training.methods.recipes import Recipe, RecipeName, Recipes, adamw

__all__ = ["SimCSE", "SimCSEConfig", "simcse_loss", "simcse_scores"]


@dataclass(frozen=True, kw_only=True, slots=True)
class SimCSEConfig:
    """SimCSE (Gao et al. 2021): find a sentence read again, with other activations dropped, among all of the batch."""

    temperature: float = 0.05
    """Divides the cosines; above 0."""

    def __post_init__(self) -> None:
        if self.temperature <= 0:
            raise ValueError(f"temperature ({self.temperature}) must be > 0")


# A GRU drops nothing unless it is told to; 0.1 is BERT's share, which the paper found best.
_SHAPE = TextEncoderConfig(width=256, embedding_width=128, max_tokens=64, pooling=Pooling.MEAN, dropout=0.1)
_BERT_BASE = TextEncoderConfig(
    architecture=TextArchitecture.TRANSFORMER,
    width=768,
    layers=12,
    heads=12,
    max_tokens=32,
    pooling=Pooling.CLS,
    dropout=0.1,
)

RECIPES: Recipes = {
    # The authors start from BERT, and say that it takes a trained start. From scratch dropout alone teaches little but
    # which words a sentence has; a third of Quick-Thoughts' rate, because that little is learnt soon.
    RecipeName.SCRATCH: Recipe(optimiser=adamw(1e-3, weight_decay=0.0), text_encoder=_SHAPE),
    RecipeName.ADAPT: Recipe(
        batch_size=64,
        optimiser=replace(adamw(3e-5, weight_decay=0.0, warmup=0.1), gradient_clip=1.0),
        text_encoder=_SHAPE,
    ),
    # One pass over a million sentences of Wikipedia; half a cosine here, a straight line to 0 there. From a directory
    # (--init) texts are cut where it says, in the paper at 32 tokens.
    RecipeName.PAPER: Recipe(
        batch_size=64,
        optimiser=OptimiserConfig(learning_rate=3e-5, schedule=Schedule.COSINE, gradient_clip=1.0),
        text_encoder=_BERT_BASE,
    ),
}


def simcse_scores(first: Tensor, second: Tensor, sentence: Tensor, *, temperature: float) -> Tensor:
    """Scores every sentence's first reading against every sentence's second.

    Args:
        first: `[n, d]`, one reading's projections, of any length; they are normalised here.
        second: `[n, d]`, the other reading's; row i is the sentence of `first`'s row i.
        sentence: `[n]` int64: equal exactly where the texts are equal.
        temperature: Divides the cosines; positive.

    Returns:
        `[n, n]` fp32; sentence i's own second reading on the diagonal, and -inf for other rows with the same text, of
        which none is wrong.

    Raises:
        ValueError: The shapes differ, the batch is empty, or the temperature is not positive.
    """
    if first.shape != second.shape or first.ndim != 2 or not 0 < len(first) == len(sentence):
        raise ValueError(
            f"the readings must be two equal [n, d], n >= 1, with a text number each, got {list(first.shape)}, "
            f"{list(second.shape)} and {list(sentence.shape)}"
        )
    copies = sentence[:, None] == sentence[None, :]
    copies = copies & ~torch.eye(len(sentence), dtype=torch.bool, device=sentence.device)
    scores = candidate_scores(unit_rows(first), unit_rows(second), temperature=temperature)
    return scores.masked_fill(copies, float("-inf"))


def simcse_loss(first: Tensor, second: Tensor, sentence: Tensor, *, temperature: float) -> Tensor:
    """Draws the two readings of a sentence together, and the first apart from the second readings of the others.

    For sentence i: `-s_ii / T + log sum_j exp(s_ij / T)`, s the cosine, averaged over the n sentences. As in the paper
    only second readings are candidates, and only first ones ask: this is not NT-Xent.

    Args:
        first: `[n, d]`, one reading's projections, of any length.
        second: `[n, d]`, the other reading's; row i is the sentence of `first`'s row i.
        sentence: `[n]` int64: equal exactly where the texts are equal.
        temperature: Divides the cosines. Paper: 0.05.

    Returns:
        Scalar, fp32; log n where all projections are equal and no two texts are.

    Refuses what `simcse_scores` refuses.

    Source: Gao et al. 2021, arXiv:2104.08821, equation 4. Differs: copies of a sentence are no candidates for it.
    """
    scores = simcse_scores(first, second, sentence, temperature=temperature)
    return info_nce_loss(scores, torch.arange(len(scores), device=scores.device))


class SimCSE(Method):
    """Learns a sentence encoder by recognising a sentence behind its own dropout.

    The projector, a linear layer and tanh on the pooled vector as in the paper, is used in training alone: what is kept
    and served is the pooled vector.

    Args:
        towers: One encoder, in whose training mode some activations are dropped.
        config: Temperature.
        context: Unused: nothing here is sized by the data.

    Raises:
        ValueError: There is not one tower, or it drops nothing, so that both readings would be equal.
    """

    config_type = SimCSEConfig
    recipes = RECIPES
    needs = Needs(shuffled=True)

    def __init__(
        self,
        towers: Sequence[nn.Module],
        config: SimCSEConfig,
        *,
        context: MethodContext,  # noqa: ARG002 - every method is built alike
    ) -> None:
        super().__init__()
        if len(towers) != 1:
            raise ValueError(f"--towers ({len(towers)}) must be 1: SimCSE learns one encoder")
        self.encoder = towers[0].train()
        if not _drops(self.encoder):
            raise ValueError(
                "SimCSE learns from dropout, and this encoder drops nothing: its two readings would be equal; give "
                "--dropout above 0; with --init, config.json must have some, and --freeze must leave it"
            )
        width = cast(int, self.encoder.width)
        self.projector = nn.Sequential(nn.Linear(width, width), nn.Tanh())
        self.config = config

    def loss(self, batch: TextBatch, progress: Progress) -> LossOutput:  # noqa: ARG002 - no schedule in the paper
        """Computes the loss over the sentences of all ranks.

        Args:
            batch: Sentences in random order.
            progress: Unused.

        Returns:
            The loss; `accuracy`, how often a sentence's best-scored second reading is its own.
        """
        # Both readings in one pass: every row has activations of its own dropped.
        ids, mask = (torch.cat([rows, rows]) for rows in (batch.input_ids, batch.attention_mask))
        projections = self.projector(self.encoder(ids, mask).pooled)
        first, second = projections.chunk(2)
        scores = simcse_scores(
            gather_with_gradient(first),
            gather_with_gradient(second),
            gather(batch.sentence),
            temperature=self.config.temperature,
        )
        own = torch.arange(len(scores), device=scores.device)
        metrics = {"accuracy": info_nce_accuracy(scores, own)}
        return LossOutput(info_nce_loss(scores, own), first.detach(), metrics)


@torch.no_grad()
def _drops(encoder: nn.Module) -> bool:
    """Returns whether two readings differ; asked of the encoder itself, since dropout hides in many places."""
    device = next(encoder.parameters()).device
    ids = torch.arange(2, device=device).repeat(16)[:, None]  # [32, 1]: of two ids one may be padding's, which is 0
    with torch.random.fork_rng(devices=[]):
        first, second = (encoder(ids, torch.ones_like(ids)).pooled for _ in range(2))
    return not torch.equal(first, second)
