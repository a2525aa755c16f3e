"""Quick-Thoughts: a sentence is known by the sentences next to it.

Two towers read each sentence of a block of contiguous ones, f as the sentence that asks and g as the candidate that
answers. f(s_i) must score g of the sentences before and after s_i above g of all others in the block.

Source: Logeswaran & Lee 2018, "An efficient framework for learning sentence representations", arXiv:1803.02893.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

import torch
from torch import Tensor, nn

from models.config import Pooling, TextEncoderConfig
from training.config import OptimiserConfig
from training.distributed import gather, gather_with_gradient, rank
from training.losses.adjacency import Adjacency, adjacency_of
from training.losses.precision import unit_rows
from training.losses.quick_thoughts import adjacency_scores, pairwise_logistic_loss, quick_thoughts_loss
from training.methods.base import LossOutput, Method, MethodContext, Progress, TextBatch
from training.methods.recipes import Recipe, RecipeName, Recipes, adamw

__all__ = ["QuickThoughts", "QuickThoughtsConfig", "QuickThoughtsLoss", "Similarity"]


class QuickThoughtsLoss(StrEnum):
    """How a sentence's neighbours are told from the rest of the block."""

    SOFTMAX = "softmax"
    """Picked among all candidates of the block, as in the paper."""
    LOGISTIC = "logistic"
    """Set above each negative, pair by pair."""


class Similarity(StrEnum):
    """How two sentences are scored."""

    INNER_PRODUCT = "inner-product"
    """The paper's; for two untied towers."""
    COSINE = "cosine"
    """The inner product of unit vectors over the temperature; for one tower, whose cosine is what is served."""


@dataclass(frozen=True, kw_only=True, slots=True)
class QuickThoughtsConfig:
    """Quick-Thoughts (Logeswaran & Lee 2018): tell a sentence's neighbours from the other sentences of its block."""

    loss: QuickThoughtsLoss = QuickThoughtsLoss.SOFTMAX
    """How neighbours are told from the rest of the block."""
    similarity: Similarity = Similarity.INNER_PRODUCT
    """How two sentences are scored."""
    temperature: float = 1.0
    """Divides the scores; above 0. The paper has none, which is 1."""
    context_size: int = 1
    """How far a neighbour may stand, in sentences, at least 1."""

    def __post_init__(self) -> None:
        if self.temperature <= 0:
            raise ValueError(f"temperature ({self.temperature}) must be > 0")
        if self.context_size < 1:
            raise ValueError(f"context_size ({self.context_size}) must be >= 1")


# One tied encoder whose served cosine is what is trained, and mean pooling: what learns most in minutes.
_COSINE = {"similarity": "cosine", "temperature": 0.05}

RECIPES: Recipes = {
    RecipeName.SCRATCH: Recipe(
        optimiser=adamw(3e-3, weight_decay=0.0),
        settings=_COSINE,
        text_encoder=TextEncoderConfig(width=256, embedding_width=128, max_tokens=64, pooling=Pooling.MEAN),
    ),
    # Chosen for MiniLM on validation documents; encoders of BERT's size want a fifth of the rate.
    RecipeName.ADAPT: Recipe(
        batch_size=128, optimiser=replace(adamw(1e-4, 0.01, warmup=0.1), gradient_clip=1.0), settings=_COSINE
    ),
    # Two untied encoders, final states, inner product (Logeswaran & Lee 2018, section 4).
    RecipeName.PAPER: Recipe(
        batch_size=400,
        optimiser=OptimiserConfig(learning_rate=5e-4, gradient_clip=5.0),
        text_encoder=TextEncoderConfig(towers=2),
    ),
}


class QuickThoughts(Method):
    """Learns sentence encoders from which sentences stand next to each other.

    Args:
        towers: f and g, without shared parameters as in the paper, or one that serves as both; `models.text` encoders
            of one width.
        config: Loss, similarity and context.
        context: Unused: nothing here is sized by the data.

    Raises:
        ValueError: There are neither one nor two towers, or two are the same module.
    """

    config_type = QuickThoughtsConfig
    recipes = RECIPES

    def __init__(
        self,
        towers: Sequence[nn.Module],
        config: QuickThoughtsConfig,
        *,
        context: MethodContext,  # noqa: ARG002 - every method is built alike
    ) -> None:
        super().__init__()
        if len(towers) not in (1, 2) or len(set(towers)) != len(towers):
            raise ValueError(f"Quick-Thoughts takes one tower, or two different ones, got {len(towers)}")
        self.encoder: nn.ModuleList = nn.ModuleList(towers)
        self.config = config

    def loss(self, batch: TextBatch, progress: Progress) -> LossOutput:  # noqa: ARG002 - no schedule in the paper
        """Computes the loss of a block; under several ranks, of all their blocks together.

        Another rank's sentences are candidates, but never neighbours: a rank's border is a document's end.

        Args:
            batch: A block of at least 2 contiguous sentences.
            progress: Unused.

        Returns:
            The loss; `accuracy`, how often the best-scored candidate is a neighbour; `rows`, the fraction of sentences
            that have one.
        """
        f, g = self._embed(batch)
        adjacency = adjacency_of(
            gather(_apart_by_rank(batch.document)),
            gather(batch.index),
            gather(batch.sentence),
            context_size=self.config.context_size,
        )
        scores = adjacency_scores(gather_with_gradient(f), gather_with_gradient(g)) / self.config.temperature
        loss = quick_thoughts_loss if self.config.loss is QuickThoughtsLoss.SOFTMAX else pairwise_logistic_loss
        return LossOutput(loss(scores, adjacency), f.detach(), _metrics(scores.detach(), adjacency))

    def _embed(self, batch: TextBatch) -> tuple[Tensor, Tensor]:
        vectors = [tower(batch.input_ids, batch.attention_mask).pooled for tower in self.encoder]
        if self.config.similarity is Similarity.COSINE:
            vectors = [unit_rows(rows) for rows in vectors]
        return vectors[0], vectors[-1]


def _apart_by_rank(document: Tensor) -> Tensor:
    # Pairs (document, rank) as one number: two ranks never share a document.
    return document * (1 << 20) + rank()


@torch.no_grad()
def _metrics(scores: Tensor, adjacency: Adjacency) -> dict[str, Tensor]:
    has_target = adjacency.positives.any(dim=1)
    allowed = scores.masked_fill(~(adjacency.positives | adjacency.negatives), float("-inf"))
    hits = adjacency.positives.gather(1, allowed.argmax(dim=1, keepdim=True))[:, 0] & has_target
    return {"accuracy": hits.sum() / has_target.sum().clamp_min(1), "rows": has_target.float().mean()}
