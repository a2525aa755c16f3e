"""A Hugging Face transformer as a sentence encoder: from scratch, or whatever a configuration describes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, BertConfig, PretrainedConfig, PreTrainedModel

from models.config import TextArchitecture, TextEncoderConfig
from models.freezing import Layer
from models.text.encoder import TextEncoder, TextOutput
from models.text.pooling import pool

__all__ = ["TransformerTextEncoder", "drop_pooler", "huggingface_config"]


class TransformerTextEncoder(TextEncoder):
    """Pools the last hidden state of a Hugging Face model; `backbone` keeps that model's own keys.

    Args:
        config: `architecture` 'transformer' (a small BERT) or 'pretrained' (what `pretrained` describes).
        backbone: The model itself, where it was loaded; None: fresh weights.

    Raises:
        ValueError: The description is refused (see `huggingface_config`), or its width is not the configuration's.
    """

    def __init__(self, config: TextEncoderConfig, *, backbone: PreTrainedModel | None = None) -> None:
        super().__init__(config, width=config.width)
        described = huggingface_config(config)
        if described.hidden_size != config.width:
            raise ValueError(
                f"width ({config.width}) must be the pretrained model's hidden size ({described.hidden_size})"
            )
        if backbone is None:
            backbone = _new_backbone(described)
        self.backbone = backbone

    def layers(self) -> Sequence[Layer]:
        """Returns the embeddings, the blocks in order, and what follows them."""
        blocks_name = _find_blocks(self.backbone, self.backbone.config.num_hidden_layers)
        before: list[str] = []
        after: list[str] = []
        parent: nn.Module = self.backbone
        path = "backbone"
        for step in blocks_name.split("."):
            side = before
            for name, child in parent.named_children():
                if name == step:
                    side = after
                elif any(True for _ in child.parameters()):
                    side.append(f"{path}.{name}")
            parent, path = parent.get_submodule(step), f"{path}.{step}"
        blocks = [Layer(f"block.{i}", (f"{path}.{i}",)) for i in range(self.backbone.config.num_hidden_layers)]
        return [Layer("embeddings", tuple(before)), *blocks, *([Layer("output", tuple(after))] if after else [])]

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> TextOutput:
        """Encodes texts.

        Args:
            input_ids: `[n, t]` int64, padded on the right.
            attention_mask: `[n, t]` int64: 1 for tokens, 0 for padding; at least one token a row.

        Returns:
            The last hidden state `[n, t, w]` and the pooled vectors `[n, w]`.
        """
        # Token types, where the model has them, are zero inside: one text is one segment.
        states = self.backbone(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        return TextOutput(states, pool(states, attention_mask, self.config.pooling))


def huggingface_config(config: TextEncoderConfig) -> PretrainedConfig:
    """Describes the encoder in Hugging Face's terms.

    Args:
        config: A transformer, from scratch or pretrained.

    Returns:
        What its `config.json` says.

    Raises:
        ValueError: It is a GRU, which Hugging Face does not know; or the model type is unknown to transformers, or is
            an encoder-decoder.
    """
    if config.architecture is TextArchitecture.GRU:
        raise ValueError("a GRU has no Hugging Face configuration; train a 'transformer' for one")
    if config.pretrained is not None:
        return _from_description(config.pretrained)
    return BertConfig(
        vocab_size=config.vocab_size,
        hidden_size=config.width,
        num_hidden_layers=config.layers,
        num_attention_heads=config.heads,
        intermediate_size=4 * config.width,
        max_position_embeddings=config.max_tokens,
        hidden_dropout_prob=config.dropout,
        attention_probs_dropout_prob=config.dropout,
        architectures=["BertModel"],
    )


def drop_pooler(backbone: PreTrainedModel) -> PreTrainedModel:
    """Takes off BERT's pooler, which no pooling of ours reads.

    Left on, its parameters would get no gradient, and distributed training would wait for one.

    Args:
        backbone: Any model; one without a pooler stays as it is.

    Returns:
        The same model.
    """
    if getattr(backbone, "pooler", None) is not None:
        backbone.register_module("pooler", None)
    return backbone


def _from_description(description: Mapping[str, Any]) -> PretrainedConfig:
    fields = dict(description)
    model_type = fields.pop("model_type", None)
    if model_type is None:
        raise ValueError("the Hugging Face configuration names no model_type; is this config.json a model's?")
    try:
        described = AutoConfig.for_model(model_type, **fields)
    except ValueError as error:
        raise ValueError(
            f"transformers has no model type '{model_type}'; code that a model brings along is never run"
        ) from error
    if described.is_encoder_decoder:
        raise ValueError(f"'{model_type}' is an encoder-decoder; only plain encoders and decoders are served")
    return described


def _new_backbone(described: PretrainedConfig) -> PreTrainedModel:
    model = AutoModel.from_config(described)  # type: ignore[no-untyped-call]  # transformers leaves it unannotated
    return drop_pooler(cast(PreTrainedModel, model))


def _find_blocks(backbone: nn.Module, count: int) -> str:
    for name, module in backbone.named_modules():
        if isinstance(module, nn.ModuleList) and len(module) == count:
            return str(name)
    raise ValueError(f"{type(backbone).__name__} keeps its {count} blocks in no list; its layers cannot be told apart")
