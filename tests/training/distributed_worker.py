"""One process of the two-process tests: computes every case on its share of the data and saves what came out.

Run as `python distributed_worker.py RANK STORE OUTPUT`. Rank 0 first computes them as the only process, with all data.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional as F

from models.config import ImageEncoderConfig
from models.image.encoder import ImageEncoder
from models.text.encoder import TextOutput
from training.distributed import gather, gather_with_gradient, rank, world_size
from training.fit.method_settings import method_config
from training.losses.adjacency import adjacency_of
from training.losses.quick_thoughts import adjacency_scores, pairwise_logistic_loss, quick_thoughts_loss
from training.methods.base import ImageBatch, Method, MethodContext, Progress, Support, TextBatch
from training.methods.image.mean_shift import mean_shift_loss
from training.methods.image.simclr import nt_xent_loss
from training.methods.table import METHODS, find_method
from training.state.ring_bank import RingBank
from training.views.spec import ViewSpec

HALF = 6
COUNT = 2 * HALF


class BagTower(nn.Module):
    width = 8

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(30, 8)
        self.dropout = nn.Dropout(0.3)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> TextOutput:
        states = self.dropout(self.words(input_ids)) * attention_mask[:, :, None]
        return TextOutput(states, states.sum(dim=1))


def share(rows: Tensor) -> Tensor:
    """Returns this process's rows; the halves are unequal in value, so that a missing reduction shows."""
    return rows if world_size() == 1 else rows[rank() * HALF : (rank() + 1) * HALF]


def average(value: Tensor) -> Tensor:
    total = value.clone()
    if world_size() > 1:
        dist.all_reduce(total)
    return total / world_size()


def rows(seed: int) -> Tensor:
    drawn = torch.randn(COUNT, 5, generator=torch.Generator().manual_seed(seed))
    return drawn * torch.linspace(0.2, 3.0, COUNT)[:, None]


def loss_case(loss: Callable[..., Tensor], inputs: Sequence[Tensor]) -> dict[str, Tensor]:
    """Returns the loss and the gradients that DDP's average would leave on this process's rows."""
    leaves = [share(each).clone().requires_grad_() for each in inputs]
    value = loss(*leaves)
    torch.autograd.backward(value)
    gradients = torch.stack([leaf.grad for leaf in leaves if leaf.grad is not None]) / world_size()
    return {"loss": average(value.detach()), "gradients": gradients}


def nt_xent(first: Tensor, second: Tensor) -> Tensor:
    return nt_xent_loss(gather_with_gradient(first), gather_with_gradient(second), temperature=0.3)


def block() -> dict[str, Tensor]:
    """A block that one document crosses the middle of; in one process the middle is a document break."""
    document = torch.tensor([0, 0, 1, 1, 1, 1, 1, 1, 2, 3, 3, 3])
    sentence = torch.tensor([0, 1, 2, 3, 4, 5, 6, 1, 8, 9, 3, 11])  # with copies across the halves
    if world_size() == 1:
        document[HALF:] += 100
    return {"document": document, "index": torch.arange(COUNT), "sentence": sentence}


def adjacent(form: Callable[..., Tensor]) -> Callable[[Tensor, Tensor], Tensor]:
    def loss(f: Tensor, g: Tensor) -> Tensor:
        mine = {name: share(values) for name, values in block().items()}
        document = gather(mine["document"] * 2 + rank())
        adjacency = adjacency_of(document, gather(mine["index"]), gather(mine["sentence"]))
        return form(adjacency_scores(gather_with_gradient(f), gather_with_gradient(g)), adjacency)

    return loss


def mean_shift(predictions: Tensor) -> Tensor:
    targets = F.normalize(share(rows(9)), dim=1)
    bank = torch.cat([gather(targets), F.normalize(rows(8), dim=1)])
    return mean_shift_loss(F.normalize(predictions, dim=1), targets, bank, neighbour_count=3)


def without_batch_norm(method: Method) -> Method:
    for module in list(method.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, nn.BatchNorm1d | nn.BatchNorm2d):
                setattr(module, name, nn.Identity())
    return method


def image_method(name: str) -> Method:
    torch.manual_seed(4)
    layers = (nn.Conv2d(3, 16, 3, padding=1), nn.Tanh(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    encoder = ImageEncoder(ImageEncoderConfig(), nn.Sequential(*layers), width=16, layers=())
    context = MethodContext(dataset_size=100, batch_size=COUNT, image_size_px=16, class_count=3)
    entry = find_method(name)
    settings = method_config(entry, entry.recipe().settings)
    method: Method = entry.load()(encoder, settings, context=context)
    return without_batch_norm(method)


def image_batch(method: Method) -> Callable[[int], ImageBatch]:
    def batch(step: int) -> ImageBatch:
        generator = torch.Generator().manual_seed(step)

        def show(spec: ViewSpec, count: int) -> Tensor:
            return torch.randn(count, 3, spec.size_px, spec.size_px, generator=generator)

        views = tuple(share(show(spec, COUNT)) for spec in method.views())
        labels = torch.randint(0 if method.needs.every_label else -1, 3, (COUNT,), generator=generator)
        wanted = method.support()
        support = None
        if wanted is not None:
            # As many on each rank as in one process with half of each.
            label = torch.arange(3).repeat(2 * HALF // 3)
            support = Support(tuple(share(show(spec, COUNT)) for spec in wanted.views), share(label))
        shown = share(labels) if method.needs.labels else None
        return ImageBatch(views, share(torch.arange(COUNT) + COUNT * step), shown, support)

    return batch


def text_method(name: str, settings: Mapping[str, Any], *, towers: int = 1) -> Method:
    """Returns a method in evaluation mode: what dropout draws is not the same in two processes."""
    torch.manual_seed(4)
    context = MethodContext(dataset_size=100, batch_size=COUNT)
    entry = find_method(name)
    method: Method = entry.load()([BagTower() for _ in range(towers)], method_config(entry, settings), context=context)
    return method.eval()


def text_methods() -> dict[str, Method]:
    tied = {"similarity": "cosine", "temperature": 0.05}
    return {
        "quick-thoughts": text_method("quick-thoughts", {}, towers=2),
        "quick-thoughts logistic": text_method("quick-thoughts", {"loss": "logistic"}, towers=2),
        "quick-thoughts tied": text_method("quick-thoughts", tied),
        "simcse": text_method("simcse", {}),
        # Ranks draw for themselves what they delete, so nothing is; their numbers of tokens differ all the same.
        "tsdae": text_method("tsdae", {"deletion_ratio": 0.0}),
    }


def text_batch(step: int) -> TextBatch:
    generator = torch.Generator().manual_seed(step)
    ids = torch.randint(0, 30, (COUNT, 4), generator=generator)
    mask = (torch.arange(4)[None, :] <= torch.randint(0, 4, (COUNT, 1), generator=generator)).long()
    return TextBatch(share(ids), share(mask), **{name: share(values) for name, values in block().items()})


def method_case(method: Method, batch: Callable[[int], Any]) -> dict[str, Tensor]:
    """Runs two steps as a fit would; returns the second's loss and gradients, and the state."""
    loss = torch.zeros(())
    for number in range(2):
        method.zero_grad()
        progress = Progress(step=number, max_steps=10, epoch=0, step_in_epoch=number, steps_per_epoch=5)
        torch.manual_seed(number)  # what a method draws for itself is the same on every rank
        loss = method.loss(batch(number), progress).loss
        torch.autograd.backward(loss)
        method.after_backward(progress)
        method.after_step(progress)
    # DistributedDataParallel's average; the class itself would load torch's compiler, for seconds.
    found = {f"gradient.{n}": average(p.grad) for n, p in method.named_parameters() if p.grad is not None}
    for name, module in method.named_modules():
        if isinstance(module, RingBank):
            found |= {f"bank.{name}.index": module.valid_index, f"bank.{name}.vectors": module.valid}
    return {"loss": average(loss.detach())} | found


def all_cases() -> dict[str, dict[str, Tensor]]:
    images = {f"method {name}": image_method(name) for name in METHODS if METHODS[name].modality == "image"}
    texts = {f"method {name}": method_case(method, text_batch) for name, method in text_methods().items()}
    return {name: method_case(method, image_batch(method)) for name, method in images.items()} | {
        **texts,
        "loss nt_xent": loss_case(nt_xent, [rows(1), rows(2)]),
        "loss quick_thoughts": loss_case(adjacent(quick_thoughts_loss), [rows(3), rows(4)]),
        "loss pairwise_logistic": loss_case(adjacent(pairwise_logistic_loss), [rows(3), rows(4)]),
        "loss mean_shift": loss_case(mean_shift, [rows(5)]),
    }


def main(arguments: Sequence[str]) -> None:
    place, store, output = int(arguments[0]), arguments[1], Path(arguments[2])
    torch.set_num_threads(1)
    found = {"single": all_cases()} if place == 0 else {}
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=place, world_size=2)
    torch.save(found | {"rank": all_cases()}, output)
    dist.destroy_process_group()


if __name__ == "__main__":
    main(sys.argv[1:])
