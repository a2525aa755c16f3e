"""Training speed on one machine: ours from packed data, the bound of its own arithmetic, and lightly.

Run: `python -m benchmarks.training [--steps 20] [--rounds 5] [--threads 2]`. SimCLR on the tiny ResNet, 32-pixel
images, batches of 256, one optimiser. The contenders take turns in each round, so that a busy machine is busy for all
of them; what is printed is the median over the rounds of images per second, wall time, and its ratio to the bound.

bound: forward, loss, backward and optimiser on views that are ready in memory, no loop around them. diptych: the whole
of `diptych train image` from the pack's files on, with its views, logs and monitors, without its start. lightly: its
SimCLR transform in a DataLoader, with each number of workers, its loss, and the same encoder and head in a bare loop;
images lie decoded in memory.
"""

from __future__ import annotations

import argparse
import importlib
import itertools
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.optim import AdamW

from benchmarks.results import ensure_pack
from models.config import ImageEncoderConfig
from training.config import Accelerator, DeviceConfig, FitConfig, LoopConfig
from training.corpora.image_pack import ImagePack
from training.corpora.splits import Split
from training.evaluation.environment import describe_environment
from training.evaluation.threads import limit_threads
from training.fit.fit_image import fit_image
from training.fit.image_training import ImageTraining, build_image_training
from training.fit.reporting import SilentReporter
from training.methods.base import ImageBatch, Progress
from training.methods.table import find_method
from training.run_config import ImageRunConfig
from training.streams import Position, Streams

BATCH = 256
SIZE_PX = 32
WARM_STEPS = 3
Contender = Callable[[int], float]
"""Takes a number of steps, returns seconds a step."""


class Clock(SilentReporter):
    """Notes when each step ended."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def advance(self, **values: float) -> None:  # noqa: ARG002 - a reporter is told the figures too
        """Notes the time."""
        self.times.append(time.perf_counter())


def run_config(pack: Path, out: Path, *, steps: int, threads: int) -> ImageRunConfig:
    recipe = find_method("simclr").recipe()
    loop = LoopConfig(max_steps=steps, evaluate_every_steps=10 * steps, checkpoint_every_steps=10 * steps)
    device = DeviceConfig(accelerator=Accelerator.CPU, threads=threads)
    return ImageRunConfig(
        data=pack,
        out=out,
        settings=recipe.settings,
        encoder=ImageEncoderConfig(image_size_px=SIZE_PX),
        batch_size=BATCH,
        fit=FitConfig(optimiser=recipe.optimiser, loop=loop, device=device),
    )


def ours(pack: Path, threads: int) -> Contender:
    def run(steps: int) -> float:
        clock = Clock()
        with tempfile.TemporaryDirectory() as folder:
            config = run_config(pack, Path(folder) / "run", steps=steps + WARM_STEPS, threads=threads)
            fit_image(config, reporter=clock)
        return (clock.times[-1] - clock.times[WARM_STEPS - 1]) / (len(clock.times) - WARM_STEPS)

    return run


def bound(training: ImageTraining) -> Contender:
    position, streams = Position(0, 0, 0, 0, 1), Streams(0)
    cpu = torch.device("cpu")
    ready = training.feed.finish(training.feed.load(position, streams), position, streams, cpu)

    def run(steps: int) -> float:
        return seconds_a_step(training, itertools.repeat(ready), steps)

    return run


def lightly(training: ImageTraining, images: list[Image.Image], workers: int) -> Contender:
    transforms: Any = importlib.import_module("lightly.transforms")
    losses: Any = importlib.import_module("lightly.loss")
    transform = transforms.SimCLRTransform(input_size=SIZE_PX, cj_strength=0.5, gaussian_blur=0.0)
    loss = losses.NTXentLoss(temperature=0.1)

    class Views(torch.utils.data.Dataset[list[Tensor]]):
        def __len__(self) -> int:
            return len(images)

        def __getitem__(self, number: int) -> list[Tensor]:
            views: list[Tensor] = transform(images[number])
            return views

    def batches() -> Iterator[ImageBatch]:
        loader = torch.utils.data.DataLoader(
            Views(), batch_size=BATCH, shuffle=True, drop_last=True, num_workers=workers,
            persistent_workers=workers > 0,
        )  # fmt: skip
        while True:
            for first, second in loader:
                yield ImageBatch((first, second), torch.arange(len(first)))

    def run(steps: int) -> float:
        return seconds_a_step(training, batches(), steps, loss=loss)

    return run


def seconds_a_step(training: ImageTraining, batches: Iterator[ImageBatch], steps: int, loss: Any = None) -> float:
    """Trains in a bare loop; with another loss, on the method's own encoder and projector."""
    method: Any = training.method.train()
    optimiser = AdamW([p for p in method.parameters() if p.requires_grad], lr=1e-3)
    started = 0.0
    for number in range(WARM_STEPS + steps):
        if number == WARM_STEPS:
            started = time.perf_counter()
        batch = next(batches)
        if loss is None:
            value = method.loss(batch, Progress(step=0, max_steps=1, epoch=0)).loss
        else:
            views = torch.cat(batch.views).contiguous(memory_format=torch.channels_last)
            value = loss(*method.projector(method.encoder(views)).chunk(2))
        optimiser.zero_grad()
        torch.autograd.backward(value)
        optimiser.step()
    return (time.perf_counter() - started) / steps


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=20, help="timed steps a round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--workers", type=int, nargs="*", default=[0, 1, 2, 4], help="of lightly's DataLoader")
    parser.add_argument("--out", type=Path, default=Path("build/benchmarks"))
    arguments = parser.parse_args()
    limit_threads(arguments.threads)
    path = ensure_pack("emoji", arguments.out / "full", quick=False, size_px=SIZE_PX, test=0.2)
    pack = ImagePack.open(path)
    training = build_image_training(run_config(path, Path("unused"), steps=1, threads=arguments.threads), pack)
    images = [Image.fromarray(image) for image in pack.read(pack.indices(Split.TRAIN))]
    contenders = {"bound": bound(training), "diptych": ours(path, arguments.threads)}
    contenders |= {f"lightly, {workers} workers": lightly(training, images, workers) for workers in arguments.workers}
    found: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(arguments.rounds):
        for name, run in contenders.items():
            found[name].append(BATCH / run(arguments.steps))
    print(", ".join(f"{key} {value}" for key, value in describe_environment().items()))
    print(f"SimCLR, tiny ResNet, {SIZE_PX} px, batches of {BATCH}, {arguments.threads} threads, "
          f"median of {arguments.rounds} rounds of {arguments.steps} steps")  # fmt: skip
    limit = statistics.median(found["bound"])
    for name, rates in sorted(found.items(), key=lambda item: -statistics.median(item[1])):
        rate = statistics.median(rates)
        print(f"{name:<22} {rate:8.0f} images/s   {rate / limit:6.2f} of the bound")


if __name__ == "__main__":
    main()
