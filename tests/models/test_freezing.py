import pytest
import torch

from models.config import IMAGE_ARCHITECTURES, ImageEncoderConfig, TextArchitecture, TextEncoderConfig
from models.freezing import LayeredEncoder
from models.image.build import build_image_encoder
from models.text.build import build_text_encoder

GRU = TextEncoderConfig(vocab_size=20, width=8, embedding_width=4, layers=2)
BERT = TextEncoderConfig(
    architecture=TextArchitecture.TRANSFORMER, vocab_size=20, width=8, heads=2, layers=3, max_tokens=8
)
DISTILBERT = TextEncoderConfig(
    architecture=TextArchitecture.PRETRAINED,
    vocab_size=20,
    width=8,
    layers=2,
    pretrained={"model_type": "distilbert", "vocab_size": 20, "dim": 8, "n_layers": 2, "n_heads": 2, "hidden_dim": 16},
)


def encoders() -> list[LayeredEncoder]:
    texts: list[LayeredEncoder] = [build_text_encoder(config) for config in (GRU, BERT, DISTILBERT)]
    names = [name for name in IMAGE_ARCHITECTURES if name not in ("resnet34", "resnet50", "vit-small")]
    return [*texts, *(build_image_encoder(ImageEncoderConfig(architecture=name)) for name in names)]


def test_every_parameter_is_in_exactly_one_layer() -> None:
    for encoder in encoders():
        for name, _ in encoder.named_parameters():
            assert sum(layer.holds(name) for layer in encoder.layers()) == 1, name


def test_layers_go_from_input_to_output() -> None:
    assert [layer.name for layer in build_text_encoder(BERT).layers()] == [
        "embeddings",
        "block.0",
        "block.1",
        "block.2",
    ]
    tiny = build_image_encoder(ImageEncoderConfig(architecture="tiny-resnet"))
    assert [layer.name for layer in tiny.layers()][:2] == ["stem", "stage.0"]


def test_frozen_layers_do_not_change_while_the_rest_trains() -> None:
    torch.manual_seed(0)
    encoder = build_image_encoder(ImageEncoderConfig(architecture="tiny-resnet")).freeze(2)
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    frozen = encoder.layers()[:2]
    optimizer = torch.optim.SGD((value for _, value in encoder.backbone_parameters()), lr=0.1)

    encoder.train()
    encoder(torch.randn(4, 3, 32, 32)).square().sum().backward()
    optimizer.step()

    changed = {name for name, value in encoder.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {name for name in before if not any(layer.holds(name) for layer in frozen)}


def test_all_layers_can_be_frozen_and_thawed() -> None:
    encoder = build_text_encoder(GRU)

    assert encoder.freeze(-1).backbone_parameters() == []
    assert len(encoder.freeze(0).backbone_parameters()) == len(list(encoder.parameters()))
    assert encoder.get_submodule("embedding").training


def test_freezing_more_layers_than_there_are_is_refused() -> None:
    with pytest.raises(ValueError, match=r"cannot freeze 4 layers: the encoder has 3 \(embedding, recurrent.0"):
        build_text_encoder(GRU).freeze(4)
