from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import onnxruntime  # type: ignore[import-untyped]  # has no stubs
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import PreTrainedModel

from models.config import ImageEncoderConfig, Pooling, TextArchitecture, TextEncoderConfig
from models.image.build import build_image_encoder
from models.image.served import ServedImageEncoder
from models.text.build import build_text_encoder
from models.text.served import ServedTextEncoder
from training.export.graph import OPSET, export_image_graph, export_text_graph

TOLERANCE = 1e-5
MAX_TOKENS = 40

GRU: dict[str, object] = {"vocab_size": 50, "width": 12, "embedding_width": 6}
BERT: dict[str, object] = {
    "architecture": TextArchitecture.TRANSFORMER,
    "vocab_size": 50,
    "width": 16,
    "heads": 2,
    "layers": 2,
    "max_tokens": MAX_TOKENS,
}
DISTILBERT = {"model_type": "distilbert", "vocab_size": 50, "dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 32}
GPT2 = {"model_type": "gpt2", "vocab_size": 50, "n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": MAX_TOKENS}


def pretrained(description: Mapping[str, object], pooling: Pooling) -> dict[str, object]:
    shape = {"vocab_size": 50, "width": 16, "layers": 2, "heads": 2, "max_tokens": MAX_TOKENS}
    return {"architecture": TextArchitecture.PRETRAINED, "pretrained": description, "pooling": pooling, **shape}


TEXTS: dict[str, dict[str, object]] = {
    "gru": GRU,
    "gru-deep-two-towers": {**GRU, "layers": 2, "towers": 2},
    "gru-mean": {**GRU, "pooling": Pooling.MEAN},
    "bert-mean": {**BERT, "pooling": Pooling.MEAN},
    "bert-cls-two-towers": {**BERT, "pooling": Pooling.CLS, "towers": 2},
    "bert-last": {**BERT, "pooling": Pooling.LAST},
    "distilbert-mean": pretrained(DISTILBERT, Pooling.MEAN),
    "gpt2-last": pretrained(GPT2, Pooling.LAST),
}
FAST_TEXTS = ("gru-deep-two-towers", "bert-mean")
"""Each export takes seconds; the others are in the long run."""

SLOW_IMAGES = ("resnet18", "resnet34", "resnet50", "vit-tiny", "vit-small", "efficientnet-lite0")

BATCHES = ([1], [13], [MAX_TOKENS], [1, 1], [5, 5, 5], [3, 17, 1, 9, 40, 2], [2] * 33)
"""Lengths in tokens; 3 rows of 7 tokens are what the graph is traced with, and are not among them."""


@dataclass(frozen=True)
class Exported:
    served: nn.Module
    path: Path
    session: onnxruntime.InferenceSession

    def run(self, output: str, **inputs: Tensor) -> NDArray[np.float32]:
        feed = {name: value.numpy() for name, value in inputs.items()}
        rows: NDArray[np.float32] = self.session.run([output], feed)[0]
        return rows


def open_graph(served: nn.Module, path: Path) -> Exported:
    return Exported(served, path, onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"]))


def make_text(name: str) -> ServedTextEncoder:
    torch.manual_seed(0)
    config = TextEncoderConfig.from_json(TEXTS[name])
    towers = [build_text_encoder(config) for _ in range(config.towers)]
    for tower in towers:
        for parameter_name, parameter in tower.named_parameters():
            if "norm" not in parameter_name.lower() and "ln_" not in parameter_name:
                # Fresh transformers treat all texts nearly alike, and fresh GRUs have no bias: an error would not show.
                nn.init.normal_(parameter, std=0.4)
    return ServedTextEncoder(towers).eval()


@pytest.fixture(scope="module")
def exports(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Exported]:
    """Exports each encoder once."""

    @cache
    def export(name: str) -> Exported:
        served = make_text(name)
        path = tmp_path_factory.mktemp(name) / "onnx" / "model.onnx"
        export_text_graph(served, path, max_tokens=MAX_TOKENS)
        return open_graph(served, path)

    return export


@pytest.fixture(params=[pytest.param(name, marks=[pytest.mark.slow] * (name not in FAST_TEXTS)) for name in TEXTS])
def text(request: pytest.FixtureRequest, exports: Callable[[str], Exported]) -> Exported:
    return exports(request.param)


def make_batch(lengths: list[int], *, padding: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(sum(lengths))
    width = max(lengths) + padding
    mask = (torch.arange(width) < torch.tensor(lengths)[:, None]).long()
    ids = torch.randint(1, 50, (len(lengths), width), generator=generator)
    return {"input_ids": ids, "attention_mask": mask}


@pytest.mark.parametrize("lengths", BATCHES, ids=str)
def test_text_graph_equals_torch_at_sizes_it_was_not_traced_with(text: Exported, lengths: list[int]) -> None:
    batch = make_batch(lengths)
    with torch.inference_mode():
        states, vectors = text.served(**batch)
    mask = batch["attention_mask"].unsqueeze(2).numpy()

    np.testing.assert_allclose(text.run("sentence_embedding", **batch), vectors.numpy(), atol=TOLERANCE, rtol=0)
    np.testing.assert_allclose(
        text.run("last_hidden_state", **batch) * mask, states.numpy() * mask, atol=10 * TOLERANCE, rtol=0
    )


def test_text_graph_gives_a_text_the_same_vector_alone_and_in_a_padded_batch(text: Exported) -> None:
    lengths = [3, 17, 1, 9, 30]
    batch = make_batch(lengths, padding=MAX_TOKENS - 30)
    together = text.run("sentence_embedding", **batch)

    for position, length in enumerate(lengths):
        alone = {name: value[position : position + 1, :length] for name, value in batch.items()}
        np.testing.assert_allclose(
            text.run("sentence_embedding", **alone)[0], together[position], atol=TOLERANCE, rtol=0, err_msg=str(length)
        )


def test_text_graph_gives_unit_vectors_that_tell_texts_apart(text: Exported) -> None:
    vectors = text.run("sentence_embedding", **make_batch([4, 9, 2]))
    similarity = vectors @ vectors.T

    np.testing.assert_allclose(np.diag(similarity), 1, atol=1e-5)
    assert similarity[~np.eye(3, dtype=bool)].max() < 0.999


def test_text_graph_has_the_names_and_free_sizes_that_others_expect(text: Exported) -> None:
    inputs = {value.name: (value.type, value.shape) for value in text.session.get_inputs()}
    outputs = {value.name: (value.type, value.shape) for value in text.session.get_outputs()}
    width = text.served.width

    assert inputs == {name: ("tensor(int64)", ["batch", "tokens"]) for name in ("input_ids", "attention_mask")}
    assert outputs == {
        "last_hidden_state": ("tensor(float)", ["batch", "tokens", width]),
        "sentence_embedding": ("tensor(float)", ["batch", width]),
    }


def test_text_graph_is_checked_onnx_of_the_stated_opset(text: Exported) -> None:
    graph = onnx.load(text.path)
    onnx.checker.check_model(graph, full_check=True)

    assert {entry.domain: entry.version for entry in graph.opset_import} == {"": OPSET}


def test_a_graph_says_nothing_of_the_machine_it_was_made_on(text: Exported) -> None:
    content = text.path.read_bytes()

    assert b"site-packages" not in content
    assert str(Path(__file__).parents[3]).encode() not in content


def test_exporting_again_gives_equal_bytes_and_leaves_the_encoder_as_it_was(
    exports: Callable[[str], Exported], tmp_path: Path
) -> None:
    served = make_text("bert-mean")
    (backbone,) = (module for module in served.modules() if isinstance(module, PreTrainedModel))
    batch = make_batch([4, 7])
    before = served(**batch)[1]
    implementation = backbone.config._attn_implementation
    export_text_graph(served, tmp_path / "model.onnx", max_tokens=MAX_TOKENS)

    assert torch.equal(served(**batch)[1], before)
    assert backbone.config._attn_implementation == implementation
    assert (tmp_path / "model.onnx").read_bytes() == exports("bert-mean").path.read_bytes()


@pytest.mark.parametrize(
    "architecture",
    ["tiny-resnet", *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW_IMAGES)],
)
def test_image_graph_equals_torch_at_batch_sizes_it_was_not_traced_with(architecture: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    encoder = build_image_encoder(ImageEncoderConfig(architecture=architecture))
    with torch.no_grad():
        for _ in range(3):
            encoder(torch.randn(8, 3, 32, 32))  # gives BatchNorm statistics of its own
    path = tmp_path / "model.onnx"
    export_image_graph(ServedImageEncoder(encoder), path, image_size_px=32)
    exported = open_graph(ServedImageEncoder(encoder).eval(), path)

    for count in (1, 2, 9):
        pixels = torch.randn(count, 3, 32, 32)
        with torch.inference_mode():
            expected = exported.served(pixels).numpy()
        vectors = exported.run("image_embedding", pixel_values=pixels)
        np.testing.assert_allclose(vectors, expected, atol=TOLERANCE, rtol=0)
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert exported.session.get_inputs()[0].shape == ["batch", 3, 32, 32]
    assert exported.session.get_outputs()[0].shape == ["batch", encoder.width]


class Huge(nn.Module):
    """Claims three gigabytes of weights, and has none."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.empty(3 << 28, device="meta"))


def test_weights_beyond_one_onnx_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"weights \(3,221,225,472 bytes\) do not fit one ONNX file"):
        export_text_graph(Huge(), tmp_path / "model.onnx")
    assert list(tmp_path.iterdir()) == []


def test_a_failed_export_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"old")

    with pytest.raises(Exception, match="no forward"):
        export_image_graph(Broken(), path, image_size_px=32)
    assert path.read_bytes() == b"old"
    assert [file.name for file in tmp_path.iterdir()] == ["model.onnx"]


class Broken(nn.Module):
    """Cannot be run."""

    def forward(self, pixel_values: Tensor) -> Tensor:
        raise RuntimeError(f"no forward of {pixel_values.shape}")
