"""TSDAE: a sentence's vector must hold what it takes to write the whole sentence, though only some words were read.

Most tokens of a sentence are deleted, the encoder turns what is left into one vector, and a decoder that sees nothing
but this vector and the words it should have written so far writes the sentence as it was.

Source: Wang, Reimers & Gurevych 2021, "TSDAE: using transformer-based sequential denoising auto-encoder for
unsupervised sentence embedding learning", arXiv:2104.06979.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedModel

from models.config import Pooling, TextArchitecture, TextEncoderConfig
from training.config import OptimiserConfig
from training.distributed import gather, world_size
from training.losses.precision import full_precision
from training.methods.base import LossOutput, Method, MethodContext, Needs, Progress, TextBatch
from training.methods.recipes import Recipe, RecipeName, Recipes, adamw

__all__ = ["TSDAE", "SentenceDecoder", "TSDAEConfig", "delete_tokens", "reconstruction_loss"]


@dataclass(frozen=True, kw_only=True, slots=True)
class TSDAEConfig:
    """TSDAE (Wang et al. 2021): write a sentence again from the vector of what is left of it."""

    deletion_ratio: float = 0.6
    """Share of the tokens that is deleted, in [0, 1); every sentence keeps one at least."""
    decoder_width: int | None = None
    """Width of the decoder's state; as wide as the sentence's vector where not given."""

    def __post_init__(self) -> None:
        if not 0 <= self.deletion_ratio < 1:
            raise ValueError(f"deletion_ratio ({self.deletion_ratio}) must be in [0, 1)")
        if self.decoder_width is not None and self.decoder_width < 1:
            raise ValueError(f"decoder_width ({self.decoder_width}) must be >= 1")


_SHAPE = TextEncoderConfig(width=256, embedding_width=128, max_tokens=64, pooling=Pooling.MEAN)
_BERT_BASE = TextEncoderConfig(
    architecture=TextArchitecture.TRANSFORMER, width=768, layers=12, heads=12, pooling=Pooling.CLS, dropout=0.1
)
# The encoder's rate is the paper's 3e-5, of which the decoder, which no training has seen, would hardly move.
_TRAINED_START = OptimiserConfig(learning_rate=5e-4, backbone_lr_scale=0.06, gradient_clip=1.0)

RECIPES: Recipes = {
    # Small batches: a score for each token and entry of the vocabulary takes 100 MB at 64 sentences and 16,384 entries.
    RecipeName.SCRATCH: Recipe(batch_size=64, optimiser=adamw(2e-3, weight_decay=0.0), text_encoder=_SHAPE),
    RecipeName.ADAPT: Recipe(
        batch_size=32,
        # A third of the paper's rate forgets less: chosen for MiniLM on validation documents.
        optimiser=replace(
            adamw(_TRAINED_START.learning_rate * 0.3, weight_decay=0.0, warmup=0.1),
            backbone_lr_scale=_TRAINED_START.backbone_lr_scale,
            gradient_clip=1.0,
        ),
        text_encoder=_SHAPE,
    ),
    # BERT's shape and the authors' constant rate; theirs starts from BERT's weights (--init).
    RecipeName.PAPER: Recipe(batch_size=8, optimiser=_TRAINED_START, text_encoder=_BERT_BASE),
}


@torch.no_grad()
def delete_tokens(
    input_ids: Tensor, attention_mask: Tensor, draws: Tensor, *, ratio: float, special_ids: Tensor
) -> tuple[Tensor, Tensor]:
    """Deletes tokens and closes the gaps: what is left keeps its order.

    Args:
        input_ids: `[n, t]` int64, padded on the right.
        attention_mask: `[n, t]` int64: 1 for tokens, 0 for padding.
        draws: `[n, t]`, uniform in [0, 1): a token whose draw is below `ratio` is deleted.
        ratio: In [0, 1).
        special_ids: `[s]` int64: ids that are never deleted.

    Returns:
        Ids and mask, both `[n, u]`, u the most that is left of a sentence; 0 in the ids where the mask is 0. A sentence
        whose words would all be deleted keeps the one with the highest draw.

    Raises:
        ValueError: `ratio` is outside [0, 1).
    """
    if not 0 <= ratio < 1:
        raise ValueError(f"ratio ({ratio}) must be in [0, 1)")
    present = attention_mask.bool()
    words = present & ~torch.isin(input_ids, special_ids)
    highest = draws.masked_fill(~words, -1.0).argmax(dim=1, keepdim=True)  # [n, 1]
    kept = (draws >= ratio).scatter(1, highest, True)
    kept = present & (kept | ~words)
    mask = torch.arange(int(kept.sum(dim=1).max()), device=kept.device) < kept.sum(dim=1, keepdim=True)  # [n, u]
    order = torch.argsort((~kept).byte(), dim=1, stable=True)[:, : mask.shape[1]]
    return input_ids.gather(1, order).masked_fill(~mask, 0), mask.to(attention_mask.dtype)


def reconstruction_loss(scores: Tensor, tokens: Tensor) -> Tensor:
    """Averages the cross-entropy of the tokens that should have been written.

    Args:
        scores: `[m, v]`: a score for each entry of the vocabulary, in any floating type.
        tokens: `[m]` int64, in [0, v).

    Returns:
        Scalar, fp32; log v where all scores are equal; 0 where m is 0.
    """
    with full_precision(scores):
        return F.cross_entropy(scores.float(), tokens, reduction="sum") / max(1, len(tokens))


class SentenceDecoder(nn.Module):
    """Writes a sentence from its vector alone: a GRU that starts from the vector, and sees it beside every word.

    In the paper every layer of a transformer attends to the sentence's vector and to nothing else of the encoder; but
    attention to a single vector gives that vector, linearly mapped, whatever asks.

    Args:
        vector_width: Width of a sentence's vector.
        word_width: Width of a word's embedding.
        vocab_size: Entries of the vocabulary.
        width: Width of the state.
    """

    def __init__(self, *, vector_width: int, word_width: int, vocab_size: int, width: int) -> None:
        super().__init__()
        self.start = nn.Linear(vector_width, width)
        self.recurrent = nn.GRU(word_width + vector_width, width, batch_first=True)
        self.output = nn.Linear(width, word_width)
        self.bias = nn.Parameter(torch.zeros(vocab_size))

    def forward(self, vectors: Tensor, words: Tensor) -> Tensor:
        """Reads the words so far and says what comes next, as a word's embedding.

        Args:
            vectors: `[n, w]`, the sentences' vectors.
            words: `[n, t, e]`, the clean sentences' embeddings.

        Returns:
            `[n, t, e]`: row t depends on the words up to t and on the vector.
        """
        beside = vectors[:, None].expand(-1, words.shape[1], -1)
        inputs = torch.cat([words, beside.to(words.dtype)], dim=2)
        start = torch.tanh(self.start(vectors)).to(inputs.dtype)
        states, _ = self.recurrent(inputs, start[None])
        said: Tensor = self.output(states)
        return said


class TSDAE(Method):
    """Learns a sentence encoder by writing sentences again from the vectors of their remains.

    Differs: in the paper the decoder is a transformer that shares all of the encoder's weights; here it is a small one
    of its own (`SentenceDecoder`), and shared is the table of token embeddings, for its input and its output. The first
    token, [CLS] in most vocabularies, is given and not asked for, as in the authors' code.

    Args:
        towers: One encoder, with an embedding table.
        config: Share of deleted tokens, and the decoder's width.
        context: Gives the tokens that are never deleted.

    Raises:
        ValueError: There is not one tower, or it has no embedding table.
    """

    config_type = TSDAEConfig
    recipes = RECIPES
    needs = Needs(shuffled=True)
    special_ids: Tensor

    def __init__(self, towers: Sequence[nn.Module], config: TSDAEConfig, *, context: MethodContext) -> None:
        super().__init__()
        if len(towers) != 1:
            raise ValueError(f"--towers ({len(towers)}) must be 1: TSDAE learns one encoder")
        self.encoder = towers[0]
        width = cast(int, self.encoder.width)
        vocab_size, word_width = _word_table(self.encoder).shape
        self.decoder = SentenceDecoder(
            vector_width=width,
            word_width=word_width,
            vocab_size=vocab_size,
            width=width if config.decoder_width is None else config.decoder_width,
        )
        # The tokenizer's, not the training's: not part of a checkpoint.
        special_ids = torch.tensor(context.special_ids, dtype=torch.int64)
        self.register_buffer("special_ids", special_ids, persistent=False)
        self.config = config

    def loss(self, batch: TextBatch, progress: Progress) -> LossOutput:  # noqa: ARG002 - no schedule in the paper
        """Computes the loss of the tokens of all ranks.

        Args:
            batch: Sentences in random order.
            progress: Unused.

        Returns:
            The loss: this rank's share of the mean over all ranks' tokens, times the ranks; `accuracy`, how often the
            best-scored token is the right one.
        """
        draws = torch.rand(batch.input_ids.shape, device=batch.input_ids.device)
        vectors = self.encoder(
            *delete_tokens(
                batch.input_ids,
                batch.attention_mask,
                draws,
                ratio=self.config.deletion_ratio,
                special_ids=self.special_ids,
            )
        ).pooled
        table = _word_table(self.encoder)
        said = self.decoder(vectors, F.embedding(batch.input_ids, table))
        # What is said at a token is asked about the next one. Padding is dropped before the vocabulary multiplies it.
        asked = batch.attention_mask[:, 1:].bool()
        scores, tokens = F.linear(said[:, :-1][asked], table, self.decoder.bias), batch.input_ids[:, 1:][asked]
        # Ranks have other numbers of tokens; weighted so, their average is the mean over all tokens.
        share = len(tokens) * world_size() / gather(asked.sum()[None]).sum().clamp_min(1)
        accuracy = (scores.detach().argmax(dim=1) == tokens).sum() / max(1, len(tokens))
        return LossOutput(reconstruction_loss(scores, tokens) * share, vectors.detach(), {"accuracy": accuracy})


def _word_table(encoder: nn.Module) -> Tensor:
    """Returns the encoder's own embeddings of tokens, `[v, e]`; looked up anew, so that they are in one place only."""
    for module in encoder.modules():
        found = module.get_input_embeddings() if isinstance(module, PreTrainedModel) else module
        if isinstance(found, nn.Embedding):
            return found.weight
    raise ValueError(f"TSDAE shares the encoder's token embeddings, and {type(encoder).__name__} has none")
