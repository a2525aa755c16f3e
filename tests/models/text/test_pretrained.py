import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

from models.config import Pooling, TextEncoderConfig
from models.text.build import build_text_encoder, load_pretrained_text
from models.text.served import ServedTextEncoder
from tests.models.text.huggingface_directories import make_model, write_directory

MEAN = {"word_embedding_dimension": 16, "pooling_mode_mean_tokens": True, "pooling_mode_cls_token": False}
CLS = {"word_embedding_dimension": 16, "pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}
LAST = {"word_embedding_dimension": 16, "pooling_mode_lasttoken": True, "pooling_mode_mean_tokens": False}
LENGTHS = [5, 1, 9]


def make_batch() -> tuple[Tensor, Tensor]:
    torch.manual_seed(1)
    mask = (torch.arange(9) < torch.tensor(LENGTHS)[:, None]).long()
    return torch.randint(1, 40, (3, 9)) * mask, mask


def pool_by_hand(model: PreTrainedModel, pooling: Pooling) -> Tensor:
    """Encodes each text alone, without padding, and pools its states by name."""
    rows = []
    for row, length in zip(make_batch()[0], LENGTHS, strict=True):
        states = model(input_ids=row[:length].unsqueeze(0)).last_hidden_state[0]
        rows.append({Pooling.MEAN: states.mean(dim=0), Pooling.CLS: states[0], Pooling.LAST: states[-1]}[pooling])
    return torch.stack(rows).detach()


@pytest.mark.parametrize(("kind", "written", "pooling"), [
    ("bert", MEAN, Pooling.MEAN),
    ("bert", CLS, Pooling.CLS),
    ("distilbert", {"pooling_mode": "mean"}, Pooling.MEAN),
    ("gpt2", LAST, Pooling.LAST),
])  # fmt: skip
def test_vectors_equal_the_models_own_pooled_as_the_directory_says(
    tmp_path: Path, kind: str, written: dict[str, Any], pooling: Pooling
) -> None:
    model = make_model(kind)
    encoder, config = load_pretrained_text(write_directory(tmp_path, model, pooling=written))

    assert config.pooling is pooling
    torch.testing.assert_close(encoder.eval()(*make_batch()).pooled, pool_by_hand(model, pooling), atol=1e-6, rtol=0)


def test_served_vectors_are_unit_only_where_the_directory_normalises(tmp_path: Path) -> None:
    model = make_model()
    for normalize in (True, False):
        folder = write_directory(tmp_path / str(normalize), model, pooling=MEAN, normalize=normalize)
        encoder, config = load_pretrained_text(folder)
        _, vectors = ServedTextEncoder([encoder], normalize=config.normalize).eval()(*make_batch())

        expected = pool_by_hand(model, Pooling.MEAN)
        expected = expected / expected.norm(dim=1, keepdim=True) if normalize else expected
        torch.testing.assert_close(vectors, expected, atol=1e-6, rtol=0)


def test_the_configuration_alone_rebuilds_the_encoder(tmp_path: Path) -> None:
    encoder, config = load_pretrained_text(write_directory(tmp_path, make_model(), pooling=MEAN))
    rebuilt = build_text_encoder(TextEncoderConfig.from_json(json.loads(json.dumps(config.to_json()))))
    rebuilt.load_state_dict(encoder.state_dict())

    torch.testing.assert_close(rebuilt.eval()(*make_batch()).pooled, encoder.eval()(*make_batch()).pooled)


def test_a_plain_directory_is_pooled_by_the_mean_and_limited_by_its_positions(tmp_path: Path) -> None:
    _, config = load_pretrained_text(write_directory(tmp_path, make_model()))

    assert (config.pooling, config.max_tokens, config.normalize) == (Pooling.MEAN, 24, True)
    assert (config.width, config.layers, config.heads, config.vocab_size) == (16, 2, 2, 40)


def test_the_token_limit_is_that_of_the_directory(tmp_path: Path) -> None:
    _, config = load_pretrained_text(write_directory(tmp_path, make_model(), pooling=MEAN, max_tokens=11))

    assert config.max_tokens == 11


def test_loading_is_silent(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    write_directory(tmp_path, make_model(), pooling=MEAN)
    capfd.readouterr()
    load_pretrained_text(tmp_path)

    assert capfd.readouterr() == ("", "")


def test_pickled_weights_are_refused(tmp_path: Path) -> None:
    write_directory(tmp_path, make_model(), pooling=MEAN)
    (tmp_path / "model.safetensors").rename(tmp_path / "pytorch_model.bin")

    with pytest.raises(ValueError, match=r"pickled weights .* are not loaded"):
        load_pretrained_text(tmp_path)


def test_weights_that_do_not_fill_the_model_are_refused(tmp_path: Path) -> None:
    write_directory(tmp_path, make_model(), pooling=MEAN)
    description = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    (tmp_path / "config.json").write_text(json.dumps({**description, "num_hidden_layers": 3}), encoding="utf-8")

    with pytest.raises(ValueError, match=r"do not fill the model: 16 tensors lack, first encoder.layer.2"):
        load_pretrained_text(tmp_path)


def rewrite_modules(folder: Path, kind: str) -> None:
    modules = json.loads((folder / "modules.json").read_text(encoding="utf-8"))
    modules.append({"idx": 9, "name": "9", "path": f"9_{kind}", "type": f"sentence_transformers.models.{kind}"})
    (folder / "modules.json").write_text(json.dumps(modules), encoding="utf-8")


def test_a_module_that_cannot_be_repeated_is_named(tmp_path: Path) -> None:
    rewrite_modules(write_directory(tmp_path, make_model(), pooling=MEAN), "Dense")

    with pytest.raises(ValueError, match=r"has the module sentence_transformers\.models\.Dense; only one each of"):
        load_pretrained_text(tmp_path)


@pytest.mark.parametrize(
    ("pooling", "message"),
    [
        ({**MEAN, "pooling_mode_cls_token": True}, "pools with mean, cls; one of mean, cls, last"),
        ({"pooling_mode_max_tokens": True}, "pools with pooling_mode_max_tokens"),
        ({"pooling_mode": "max"}, "pools with max"),
        ({**MEAN, "include_prompt": False}, "include_prompt"),
    ],
)
def test_a_pooling_that_cannot_be_repeated_is_named(tmp_path: Path, pooling: dict[str, Any], message: str) -> None:
    write_directory(tmp_path, make_model(), pooling=pooling)

    with pytest.raises(ValueError, match=message):
        load_pretrained_text(tmp_path)


def test_a_folder_of_another_kind_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"neither modules.json nor config.json"):
        load_pretrained_text(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "brand-new"}, "no model type 'brand-new'; code that a model brings along is never run"),
        ({"model_type": None}, "names no model_type"),
        ({"model_type": "t5", "d_model": 16}, "'t5' is an encoder-decoder"),
    ],
)
def test_a_model_that_cannot_be_built_is_named(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    write_directory(tmp_path, make_model())
    description = {**json.loads((tmp_path / "config.json").read_text(encoding="utf-8")), **change}
    (tmp_path / "config.json").write_text(
        json.dumps({key: value for key, value in description.items() if value is not None}), encoding="utf-8"
    )

    with pytest.raises(ValueError, match=message):
        load_pretrained_text(tmp_path)


def test_code_in_the_directory_is_not_run(tmp_path: Path) -> None:
    write_directory(tmp_path, make_model(), pooling=MEAN)
    (tmp_path / "mine.py").write_text("raise SystemExit('ran')", encoding="utf-8")
    description = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    (tmp_path / "config.json").write_text(
        json.dumps({**description, "auto_map": {"AutoModel": "mine.Model", "AutoConfig": "mine.Config"}}),
        encoding="utf-8",
    )

    encoder, _ = load_pretrained_text(tmp_path)

    assert type(encoder.backbone).__module__.startswith("transformers.")
