"""What two SimCLR views of an image cost: ours in batches, beside torchvision, lightly and kornia, on one core.

Run: `python -m benchmarks.views [--size 32] [--batch 256] [--rounds 9]`. The contenders take turns in each round, so
that a busy machine is busy for all of them; what is printed is the median over the rounds of processor time (not wall
time) per image, for both views. Kornia is measured where it is installed. Decoding is in nobody's figure.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import v2  # type: ignore[import-untyped]  # ships no types

from training.views.batched import make_views
from training.views.presets import Augmentation, view_of

MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)
Contender = Callable[[Tensor], object]


def ours(size_px: int) -> Contender:
    spec = view_of(Augmentation.SIMCLR_32, size_px)
    generator = torch.Generator().manual_seed(0)
    return lambda images: make_views(images, [spec, spec], generator, mean=MEAN, std=STD)


def torchvision_on(size_px: int, *, pillow: bool) -> Contender:
    """Returns torchvision's v2 transforms, image by image, on tensors or on Pillow images."""
    steps = [
        v2.RandomResizedCrop(size_px, scale=(0.08, 1.0), antialias=True),
        v2.RandomHorizontalFlip(),
        v2.RandomApply([v2.ColorJitter(0.4, 0.4, 0.4, 0.1)], p=0.8),
        v2.RandomGrayscale(0.2),
        v2.ToImage(),
        v2.ToDtype(torch.float32, scale=True),
        v2.Normalize(MEAN, STD),
    ]
    transform = v2.Compose(steps)
    ready = _pillow if pillow else _planes

    def run(images: Tensor) -> object:
        return [torch.stack([transform(image) for image in ready(images)]) for _ in range(2)]

    return run


def lightly(size_px: int) -> Contender:
    module: Any = importlib.import_module("lightly.transforms")
    transform = module.SimCLRTransform(input_size=size_px, cj_strength=0.5, gaussian_blur=0.0)
    return lambda images: [transform(image) for image in _pillow(images)]


def kornia(size_px: int) -> Contender:
    augment: Any = importlib.import_module("kornia.augmentation")
    transform = augment.AugmentationSequential(
        augment.RandomResizedCrop((size_px, size_px), scale=(0.08, 1.0)),  # it has no antialiasing
        augment.RandomHorizontalFlip(),
        augment.ColorJitter(0.4, 0.4, 0.4, 0.1, p=0.8),
        augment.RandomGrayscale(p=0.2),
        augment.Normalize(torch.tensor(MEAN), torch.tensor(STD)),
        data_keys=["input"],
    )

    def run(images: Tensor) -> object:
        planes = images.permute(0, 3, 1, 2).float() / 255
        return [transform(planes) for _ in range(2)]

    return run


def measure(contenders: dict[str, Contender], images: Tensor, rounds: int) -> dict[str, float]:
    """Returns the median processor time of each contender, in milliseconds per image."""
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for run in contenders.values():
        run(images)  # the first call allocates and imports
    for _ in range(rounds):
        for name, run in contenders.items():
            start = time.process_time()
            run(images)
            times[name].append((time.process_time() - start) / len(images) * 1000)
    return {name: statistics.median(values) for name, values in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=32, help="side of the pictures and of the views, in pixels")
    parser.add_argument("--batch", type=int, default=256, help="images a call")
    parser.add_argument("--rounds", type=int, default=9)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    images = torch.randint(0, 256, (arguments.batch, arguments.size, arguments.size, 3), dtype=torch.uint8)
    contenders = {
        "diptych": ours(arguments.size),
        "torchvision, tensors": torchvision_on(arguments.size, pillow=False),
        "torchvision, Pillow": torchvision_on(arguments.size, pillow=True),
    }
    for name, make in (("lightly", lightly), ("kornia", kornia)):
        if importlib.util.find_spec(name) is not None:
            contenders[name] = make(arguments.size)
    found = measure(contenders, images, arguments.rounds)
    print(f"two views of {arguments.size} px, batches of {arguments.batch}, one core, median of {arguments.rounds}")
    for name, cost in sorted(found.items(), key=lambda item: item[1]):
        print(f"{name:<22} {cost:7.3f} core-ms an image   {cost / found['diptych']:6.1f} x")


def _planes(images: Tensor) -> list[Tensor]:
    return list(images.permute(0, 3, 1, 2))


def _pillow(images: Tensor) -> list[Image.Image]:
    return [Image.fromarray(image) for image in images.numpy()]


if __name__ == "__main__":
    main()
