"""A method and a feed so small that a run takes a blink, and real packs in miniature."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from tests.training.evaluation.tiny_runs import make_bert_directory
from training.batches.feed import Feed
from training.config import Accelerator, DeviceConfig, FitConfig, LoopConfig, OptimiserConfig, OptimiserName
from training.corpora.document import Document
from training.corpora.image_items import ImageItem
from training.corpora.image_pack import ImagePack, write_image_pack
from training.corpora.splits import SplitFractions
from training.corpora.text_pack import TextPack, write_text_pack
from training.methods.base import LossOutput, Method, Progress
from training.streams import Position, Streams

WORDS = ("river", "stone", "light", "forest", "winter", "paper", "engine", "harbour", "copper", "garden", "window")


class ToyMethod(Method):
    """Pulls a dropped-out linear map of the batch towards a slow copy of it; notes what is called and when."""

    copy: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Linear(6, 4)
        self.dropout = nn.Dropout(0.5)
        self.register_buffer("copy", torch.zeros(4, 6))
        self.calls: list[tuple[str, int]] = []
        self.loss_scale = 1.0

    def loss(self, batch: Tensor, progress: Progress) -> LossOutput:
        self.calls.append(("loss", progress.step))
        projections = self.dropout(self.encoder(batch))
        loss = (projections - batch @ self.copy.T - 1).square().mean() * self.loss_scale
        return LossOutput(loss, projections.detach(), {"first": float(batch[0, 0])})

    def after_step(self, progress: Progress) -> None:
        self.calls.append(("after_step", progress.step))
        self.copy.lerp_(self.encoder.get_parameter("weight"), 0.1)

    def at_epoch_end(self, progress: Progress) -> None:
        self.calls.append(("at_epoch_end", progress.epoch))
        self.copy.mul_(0.5)


@dataclass(frozen=True)
class ToyFeed:
    """40 rows in batches of 8."""

    rows: Tensor = field(default_factory=lambda: torch.randn(40, 6, generator=torch.Generator().manual_seed(3)))
    item_count: int = 40
    batch_size: int = 8

    def steps_per_epoch(self, world_size: int) -> int:
        return 5 // world_size

    def load(self, position: Position, streams: Streams) -> Tensor:
        order = streams.rng("order", epoch=position.epoch).permutation(40)
        start = (position.step_in_epoch * position.world_size + position.rank) * 8
        return self.rows[torch.from_numpy(order[start : start + 8])]

    def finish(self, loaded: Tensor, position: Position, streams: Streams, device: torch.device) -> Tensor:
        return loaded.to(device)


class StoppingReporter:
    """Calls a function after a given step: a user who presses Ctrl-C, or a crash."""

    def __init__(self, after_step: int, action: Callable[[], None]) -> None:
        self.lines: list[str] = []
        self._left = after_step
        self._action = action

    def note(self, line: str) -> None:
        self.lines.append(line)

    def start(self, label: str, total: int, done: int = 0) -> None:
        pass

    def advance(self, **values: float) -> None:
        self._left -= 1
        if self._left == 0:
            self._action()

    def stop(self) -> None:
        pass


@pytest.fixture
def toy_method() -> Callable[[], ToyMethod]:
    def build() -> ToyMethod:
        torch.manual_seed(0)
        return ToyMethod()

    return build


@pytest.fixture
def toy_feed() -> Feed:
    return ToyFeed()


@pytest.fixture
def stop_after() -> Callable[[int, Callable[[], None]], StoppingReporter]:
    return StoppingReporter


@pytest.fixture
def fit_config() -> Callable[..., FitConfig]:
    def build(**loop: Any) -> FitConfig:
        defaults: dict[str, Any] = {"log_every_steps": 1, "max_steps": 12, "checkpoint_every_steps": 1000}
        return FitConfig(
            optimiser=OptimiserConfig(optimiser=OptimiserName.SGD, learning_rate=0.05),
            loop=LoopConfig(**{**defaults, **loop}),
            device=DeviceConfig(accelerator=Accelerator.CPU, threads=1, workers=1),
        )

    return build


@pytest.fixture(scope="session")
def text_pack(tmp_path_factory: pytest.TempPathFactory) -> TextPack:
    """40 documents of 8 sentences."""
    rng = np.random.default_rng(5)
    documents = [
        Document(f"doc-{number}", tuple(" ".join(rng.choice(WORDS, size=rng.integers(3, 9))) + "." for _ in range(8)))
        for number in range(40)
    ]
    folder = tmp_path_factory.mktemp("packs") / "text"
    return write_text_pack(documents, folder, source="test", fractions=SplitFractions(validation=0.2, test=0.1))


@pytest.fixture(scope="session")
def bert_directory(text_pack: TextPack, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Hugging Face directory in miniature, with a tokenizer of its own."""
    return make_bert_directory(tmp_path_factory.mktemp("bert"), text_pack)


@pytest.fixture(scope="session")
def image_pack(tmp_path_factory: pytest.TempPathFactory) -> ImagePack:
    """60 noisy images of 16 px, in two classes by their colour."""
    folder = tmp_path_factory.mktemp("packs") / "image"
    items = [ImageItem(f"image-{number}", _png(number), label=("red", "blue")[number % 2]) for number in range(60)]
    fractions = SplitFractions(validation=0.2, test=0.1)
    return write_image_pack(items, folder, size_px=16, source="test", fractions=fractions)[0]


def _png(number: int) -> bytes:
    pixels = np.random.default_rng(number).integers(0, 120, (16, 16, 3), dtype=np.uint8)
    pixels[:, :, 2 * (number % 2)] += 120
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()
