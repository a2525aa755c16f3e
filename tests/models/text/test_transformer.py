import pytest
import torch
from transformers import BertConfig, BertModel

from models.config import Pooling, TextArchitecture, TextEncoderConfig
from models.text.build import build_text_encoder
from models.text.transformer import huggingface_config


def make_config(pooling: Pooling = Pooling.MEAN, dropout: float = 0.0) -> TextEncoderConfig:
    return TextEncoderConfig(
        architecture=TextArchitecture.TRANSFORMER,
        vocab_size=40,
        width=16,
        heads=2,
        layers=2,
        max_tokens=20,
        pooling=pooling,
        dropout=dropout,
    )


def test_it_is_the_bert_that_hugging_face_knows() -> None:
    torch.manual_seed(0)
    encoder = build_text_encoder(make_config()).eval()
    described = huggingface_config(make_config())
    assert isinstance(described, BertConfig)
    bert = BertModel(described, add_pooling_layer=False).train(False)
    bert.load_state_dict(encoder.get_submodule("backbone").state_dict())
    ids = torch.randint(1, 40, (2, 6))
    mask = torch.ones(2, 6, dtype=torch.int64)

    torch.testing.assert_close(encoder(ids, mask).states, bert(ids, attention_mask=mask).last_hidden_state)


@pytest.mark.parametrize("pooling", list(Pooling))
def test_a_vector_is_the_same_alone_and_in_a_padded_batch(pooling: Pooling) -> None:
    torch.manual_seed(0)
    encoder = build_text_encoder(make_config(pooling)).eval()
    ids = torch.randint(1, 40, (3, 20))
    lengths = [20, 1, 7]
    mask = (torch.arange(20) < torch.tensor(lengths)[:, None]).long()

    together = encoder(ids, mask).pooled
    for row, length, vector in zip(ids, lengths, together, strict=True):
        alone = encoder(row[None, :length], torch.ones(1, length, dtype=torch.int64)).pooled[0]
        torch.testing.assert_close(vector, alone, atol=1e-6, rtol=0)


def test_every_parameter_gets_a_gradient_but_the_unused_rows() -> None:
    torch.manual_seed(0)
    encoder = build_text_encoder(make_config())
    ids = torch.randint(1, 40, (2, 6))
    encoder(ids, torch.ones_like(ids)).pooled.square().sum().backward()

    assert [name for name, parameter in encoder.named_parameters() if parameter.grad is None] == []


def test_dropout_is_the_configurations() -> None:
    described = huggingface_config(make_config(dropout=0.25))

    assert described.hidden_dropout_prob == described.attention_probs_dropout_prob == 0.25


def test_a_gru_has_no_hugging_face_configuration() -> None:
    with pytest.raises(ValueError, match="a GRU has no Hugging Face configuration"):
        huggingface_config(TextEncoderConfig())


def test_a_width_other_than_the_pretrained_models_is_refused() -> None:
    config = TextEncoderConfig(
        architecture=TextArchitecture.PRETRAINED, width=8, pretrained={"model_type": "bert", "hidden_size": 16}
    )
    with pytest.raises(ValueError, match=r"width \(8\) must be the pretrained model's hidden size \(16\)"):
        build_text_encoder(config)
