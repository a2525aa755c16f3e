"""Small pictures of few kinds, a small encoder for them, what it knows of them, and a short training."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer

from models.config import ImageEncoderConfig
from models.image.encoder import ImageEncoder
from training.methods.base import ImageBatch, LossOutput, Method, Progress, Support
from training.views.batched import make_views
from training.views.spec import ViewSpec

__all__ = [
    "SIZE_PX",
    "draw_pictures",
    "image_batch",
    "knn_accuracy",
    "learn",
    "learn_by_itself",
    "method_batch",
    "part",
    "small_encoder",
    "view_retrieval",
]

SIZE_PX = 16
HALF = (0.5, 0.5, 0.5)


def draw_pictures(count: int, *, seed: int) -> tuple[Tensor, Tensor]:
    """Returns `[count, 16, 16, 3]` uint8 patterns of four kinds, in any two colours, and their kinds.

    Rows, columns, checks and rings stay what they are under flips, crops and colour changes.
    """
    generator = torch.Generator().manual_seed(seed)
    kinds = torch.arange(count) % 4
    y, x = torch.meshgrid(torch.arange(SIZE_PX), torch.arange(SIZE_PX), indexing="ij")
    phases = 6.28 * torch.rand(2, count, 1, 1, generator=generator)
    rows, columns = torch.sin(1.6 * y + phases[0]), torch.sin(1.6 * x + phases[1])
    rings = torch.sin(1.6 * torch.hypot(y - 4 - phases[0], x - 4 - phases[1]))
    patterns = torch.stack([rows, columns, rows * columns, rings])  # [4, n, 16, 16]
    wave = 0.5 + 0.5 * patterns[kinds, torch.arange(count)]
    colours = torch.rand(2, count, 1, 1, 3, generator=generator)
    images = wave[..., None] * colours[0] + (1 - wave[..., None]) * colours[1]
    return (images * 255).to(torch.uint8), kinds


def small_encoder(*, seed: int) -> ImageEncoder:
    """Returns three convolutions and a mean."""
    torch.manual_seed(seed)
    layers: list[nn.Module] = []
    for inputs, outputs in ((3, 16), (16, 32), (32, 32)):
        layers.append(nn.Conv2d(inputs, outputs, 3, stride=1 if inputs == 3 else 2, padding=1))
        layers += [nn.BatchNorm2d(outputs), nn.ReLU()]
    backbone = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return ImageEncoder(ImageEncoderConfig(), backbone, width=32, layers=())


def part(module: nn.Module, name: str) -> Any:
    """Returns a submodule or parameter by its dotted name; typed as Any, for tests that look inside."""
    owner, _, attribute = name.rpartition(".")
    return getattr(module.get_submodule(owner), attribute)


@torch.no_grad()
def knn_accuracy(encoder: nn.Module) -> float:
    """Returns how often the nearest of 200 pictures is of the same kind, over 200 others."""
    (gallery, known), (queries, wanted) = draw_pictures(200, seed=90), draw_pictures(200, seed=91)
    encoder.eval()
    rows = [F.normalize(encoder(images.permute(0, 3, 1, 2) / 127.5 - 1), dim=1) for images in (gallery, queries)]
    encoder.train()
    return float((known[(rows[1] @ rows[0].T).argmax(dim=1)] == wanted).float().mean())


@torch.no_grad()
def view_retrieval(encoder: nn.Module, spec: ViewSpec) -> float:
    """Returns how often the nearest of 200 other views is of the same picture; none was trained on."""
    images, _ = draw_pictures(200, seed=91)
    views = make_views(images, [spec, spec], torch.Generator().manual_seed(5), mean=HALF, std=HALF)
    encoder.eval()
    first, second = (F.normalize(rows - rows.mean(dim=0), dim=1) for rows in map(encoder, views))
    encoder.train()
    return float(((first @ second.T).argmax(dim=1) == torch.arange(200)).float().mean())


def image_batch(specs: Sequence[ViewSpec], *, count: int, step: int) -> ImageBatch:
    """Returns a batch of 400 pictures' views that depends on the step alone."""
    generator = torch.Generator().manual_seed(step)
    images, _ = draw_pictures(400, seed=0)
    index = torch.randperm(400, generator=generator)[:count]
    return ImageBatch(make_views(images[index], specs, generator, mean=HALF, std=HALF), index)


def method_batch(method: Method, *, count: int, step: int) -> ImageBatch:
    """Returns what a feed would give the method: its views, and where it asks for them labels and a support.

    Of the 400 pictures' labels every second is withheld, unless the method learns from labelled ones alone.
    """
    batch = image_batch(method.views(), count=count, step=step)
    images, kinds = draw_pictures(400, seed=0)
    shown = kinds if method.needs.every_label else torch.where(torch.arange(400) // 4 % 2 == 0, kinds, -1)
    wanted, support = method.support(), None
    if wanted is not None:
        generator = torch.Generator().manual_seed(10_000 + step)
        places = torch.stack([torch.randperm(50, generator=generator)[: wanted.images_per_class] for _ in range(4)], 1)
        places = (places * 8 + torch.arange(4)).reshape(-1)  # classes interleaved, labelled ones alone
        views = make_views(images[places], wanted.views, generator, mean=HALF, std=HALF)
        support = Support(views, kinds[places])
    return replace(batch, label=shown[batch.index] if method.needs.labels else None, support=support)


def learn(method: Method, optimiser: Optimizer, specs: Sequence[ViewSpec], *, steps: range) -> LossOutput:
    """Takes some steps with batches of 64 views by `specs`; returns what the last one gave."""
    return _learn(method, optimiser, steps, lambda step: image_batch(specs, count=64, step=step))


def learn_by_itself(method: Method, optimiser: Optimizer, *, steps: range) -> LossOutput:
    """Takes some steps with batches of 64 as the method asks for them; returns what the last one gave."""
    return _learn(method, optimiser, steps, lambda step: method_batch(method, count=64, step=step))


def _learn(method: Method, optimiser: Optimizer, steps: range, batch: Callable[[int], ImageBatch]) -> LossOutput:
    output = None
    for step in steps:
        progress = Progress(step=step, max_steps=200, epoch=step // 6, step_in_epoch=step % 6, steps_per_epoch=6)
        torch.manual_seed(step)
        output = method.loss(batch(step), progress)
        optimiser.zero_grad()
        torch.autograd.backward(output.loss)
        method.after_backward(progress)
        optimiser.step()
        with torch.no_grad():
            method.after_step(progress)
            if step % 6 == 5:
                method.at_epoch_end(progress)
    assert output is not None
    return output
