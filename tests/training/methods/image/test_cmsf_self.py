from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from tests.training.methods.pictures import SIZE_PX, small_encoder
from training.methods.base import ImageBatch, MethodContext, Progress
from training.methods.image.cmsf_self import CMSFSelf, CMSFSelfConfig, cmsf_self_loss, previous_neighbours
from training.methods.image.mean_shift import MeanShift, MeanShiftConfig, mean_shift_loss
from training.state.embedding_cache import Previous

TARGET = torch.tensor([[1.0, 0.0]])
BANK = torch.tensor([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0], [-1.0, 0.0]])
PREDICTION = torch.tensor([[0.6, 0.8]])
BANK_BEFORE = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.8, 0.6], [0.0, 1.0]])

IMAGES, BATCH, BANK_SIZE = 32, 8, 20
CONTEXT = MethodContext(dataset_size=IMAGES, batch_size=BATCH, image_size_px=SIZE_PX)
CONFIG = CMSFSelfConfig(bank_size=BANK_SIZE, neighbour_count=3, constraint_size=4)
START = Progress(step=0, max_steps=100, epoch=0)
PASS = [list(range(start, start + BATCH)) for start in range(0, IMAGES, BATCH)]
# No image is twice in the bank where that would leave a tie.
SEQUENCES = {
    "two passes and a half": [*PASS, *(PASS[i] for i in (0, 2, 1, 3, 0, 2))],
    "the data set's end, in a bank that is not full": [PASS[-1]] * 2,
    "fewer known rows than the constraint asks for": [*PASS[:3], [0, 1, *range(24, 30)]],
}


def unit(count: int, *, seed: int) -> Tensor:
    return F.normalize(torch.randn(count, 6, generator=torch.Generator().manual_seed(seed)), dim=1)


def known(rows: Tensor, *unknown: int) -> Previous:
    mask = torch.ones(len(rows), dtype=torch.bool)
    mask[list(unknown)] = False
    return Previous(rows, mask)


def nearest(query: Tensor, rows: Tensor, among: list[int], count: int) -> list[int]:
    return sorted(among, key=lambda j: float((query - rows[j]).square().sum()))[:count]


def distance(v: Tensor, bank: Tensor, chosen: list[int]) -> float:
    return sum(float((v - bank[j]).square().sum()) for j in chosen) / len(chosen)


def naive_loss(
    v: Tensor, u: Tensor, bank: Tensor, w: list[Tensor | None], before: list[Tensor | None], k: int, size: int
) -> float:
    """`w` and `before`: the embedding of the visit before the last, of each image and of each bank row's image."""
    total = 0.0
    seen = [j for j in range(len(bank)) if before[j] is not None]
    shifted = [torch.zeros(bank.shape[1]) if row is None else row for row in before]
    for i in range(len(v)):
        term = distance(v[i], bank, nearest(u[i], bank, list(range(len(bank))), k))
        own = w[i]
        if own is not None and seen:
            inside = nearest(own, torch.stack(shifted), seen, size)
            term = (term + distance(v[i], bank, nearest(u[i], bank, inside, k))) / 2
        total += term
    return total / len(v)


def views(step: int, count: int = BATCH) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(step)
    drawn = torch.randn(2, count, 3, SIZE_PX, SIZE_PX, generator=generator)
    return drawn[0], drawn[1]


def method(config: CMSFSelfConfig = CONFIG) -> CMSFSelf:
    return CMSFSelf(small_encoder(seed=0), config, context=CONTEXT)


def batch(step: int, index: list[int]) -> ImageBatch:
    return ImageBatch(views(step, len(index)), torch.tensor(index))


def learn(each: MeanShift, images: ImageBatch) -> Tensor:
    loss = each.loss(images, START).loss
    each.zero_grad()
    torch.autograd.backward(loss)
    with torch.no_grad():
        for parameter in each.parameters():
            if parameter.grad is not None:
                parameter.sub_(0.05 * parameter.grad)
    return loss.detach()


def test_loss_equals_the_worked_number() -> None:
    # From the bank's own rows, not those of the pass before, the constrained half would be 0.44 too.
    before, bank_before = known(TARGET), known(BANK_BEFORE)
    assert previous_neighbours(before, bank_before, count=2).tolist() == [[True, False, True, False]]
    loss = cmsf_self_loss(
        PREDICTION, TARGET, BANK, previous=before, bank_previous=bank_before, neighbour_count=2, constraint_size=2
    )
    assert loss.item() == pytest.approx(0.52, abs=1e-5)


@pytest.mark.parametrize(("k", "size"), [(1, 1), (3, 3), (3, 8), (5, 20)])
def test_loss_equals_a_naive_loop(k: int, size: int) -> None:
    v, u, bank, w, before = (unit(count, seed=seed) for seed, count in enumerate((4, 4, 20, 4, 20)))
    expected = naive_loss(
        v,
        u,
        bank,
        [None if i == 2 else row for i, row in enumerate(w)],
        [None if j in (0, 7, 19) else row for j, row in enumerate(before)],
        k,
        size,
    )
    found = cmsf_self_loss(
        v,
        u,
        bank,
        previous=known(w, 2),
        bank_previous=known(before, 0, 7, 19),
        neighbour_count=k,
        constraint_size=size,
    )
    assert found.item() == pytest.approx(expected, abs=1e-5)


def loss_with(previous: Previous, bank_previous: Previous) -> Tensor:
    return cmsf_self_loss(
        unit(4, seed=1),
        unit(4, seed=2),
        unit(20, seed=3),
        previous=previous,
        bank_previous=bank_previous,
        neighbour_count=3,
        constraint_size=5,
    )


def test_without_anything_seen_it_is_mean_shift() -> None:
    expected = mean_shift_loss(unit(4, seed=1), unit(4, seed=2), unit(20, seed=3), neighbour_count=3)
    w, before = unit(4, seed=4), unit(20, seed=5)
    assert torch.equal(loss_with(known(w, 0, 1, 2, 3), known(before)), expected)
    assert torch.equal(loss_with(known(w), known(before, *range(20))), expected)
    assert (loss_with(known(w), known(before)) - expected).abs() > 1e-3


def test_what_was_never_seen_is_never_found_however_long() -> None:
    # Unseen, unnormalised rows would beat every real cosine.
    w, before = unit(4, seed=4), unit(20, seed=5)
    wild = before.clone()
    wild[3:9] = 22 * w.repeat(2, 1)[:6]
    unknown = tuple(range(3, 9))
    assert torch.equal(loss_with(known(w), known(wild, *unknown)), loss_with(known(w), known(before, *unknown)))
    assert not previous_neighbours(known(w), known(wild, *unknown), count=20)[:, 3:9].any()


def test_fewer_seen_rows_than_neighbours_average_over_what_there_is() -> None:
    found = cmsf_self_loss(
        PREDICTION,
        TARGET,
        BANK,
        previous=known(TARGET),
        bank_previous=known(BANK_BEFORE, 0, 1, 3),
        neighbour_count=2,
        constraint_size=2,
    )
    assert found.item() == pytest.approx((0.44 + 0.4) / 2, abs=1e-5)


def test_order_of_the_bank_does_not_matter() -> None:
    order = torch.randperm(20, generator=torch.Generator().manual_seed(0))
    v, u, bank, w, before = (unit(count, seed=seed) for seed, count in enumerate((4, 4, 20, 4, 20)))
    sizes = {"neighbour_count": 3, "constraint_size": 5}
    loss = cmsf_self_loss(v, u, bank, previous=known(w), bank_previous=known(before), **sizes)
    moved = cmsf_self_loss(v, u, bank[order], previous=known(w), bank_previous=known(before[order]), **sizes)
    torch.testing.assert_close(moved, loss)


def test_only_the_prediction_gets_a_gradient() -> None:
    v, u, bank, w, before = (unit(count, seed=s).requires_grad_() for s, count in enumerate((4, 4, 20, 4, 20)))
    loss = cmsf_self_loss(
        v, u, bank, previous=known(w), bank_previous=known(before), neighbour_count=3, constraint_size=5
    )
    torch.autograd.backward(loss)
    assert v.grad is not None
    assert v.grad.abs().sum() > 0.1
    assert all(constant.grad is None for constant in (u, bank, w, before))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_fp32_and_near(dtype: torch.dtype) -> None:
    v, u, bank, w, before = (unit(count, seed=seed) for seed, count in enumerate((4, 4, 20, 4, 20)))

    def loss(kind: torch.dtype) -> Tensor:
        return cmsf_self_loss(
            v.to(kind),
            u.to(kind),
            bank.to(kind),
            previous=known(w.to(kind)),
            bank_previous=known(before.to(kind)),
            neighbour_count=20,
            constraint_size=20,
        )

    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = loss(dtype)
    assert half.dtype == torch.float32
    assert half.item() == pytest.approx(loss(torch.float32).item(), abs=2e-2)


@pytest.mark.parametrize("sequence", SEQUENCES.values(), ids=SEQUENCES)
def test_every_step_equals_a_naive_loop_over_what_each_image_was(sequence: list[list[int]]) -> None:
    cmsf = method()
    history: dict[int, list[Tensor]] = {image: [] for image in range(IMAGES)}
    ring: list[tuple[int, Tensor]] = []  # newest last
    for step, index in enumerate(sequence):
        images = batch(step, index)
        v = F.normalize(cmsf.predictor(cmsf.projector(cmsf.encoder(images.views[0]))).detach(), dim=1)
        u = F.normalize(cmsf.target(images.views[1]), dim=1)  # the online branch is at rest, so the average is too
        for image, row in zip(index, u, strict=True):
            history[image].append(row)
            ring.append((image, row))
        ring = ring[-BANK_SIZE:]
        before = [history[image][-2] if len(history[image]) > 1 else None for image, _ in ring]
        w = [history[image][-2] if len(history[image]) > 1 else None for image in index]
        bank = torch.stack([row for _, row in ring])
        expected = naive_loss(v, u, bank, w, before, CONFIG.neighbour_count, CONFIG.constraint_size)

        output = cmsf.loss(images, START)

        assert output.loss.item() == pytest.approx(expected, abs=1e-5), step
        seen_twice = sum(row is not None for row in w) / len(w)
        assert float(output.metrics["constrained"]) == pytest.approx(seen_twice)


def test_the_first_pass_is_mean_shift_and_the_second_is_not() -> None:
    cmsf = method()
    msf = MeanShift(small_encoder(seed=1), MeanShiftConfig(bank_size=BANK_SIZE, neighbour_count=3), context=CONTEXT)
    msf.load_state_dict({key: value for key, value in cmsf.state_dict().items() if not key.startswith("cache.")})
    for step, index in enumerate(PASS + PASS[:1]):
        losses = [learn(each, batch(step, index)) for each in (cmsf, msf)]
        assert torch.equal(*losses) == (step < len(PASS))


def test_a_visit_later_the_cache_gives_the_targets_of_a_pass_ago() -> None:
    cmsf = method()
    first = []
    for step, index in enumerate(PASS):
        cmsf.loss(batch(step, index), START)
        first.append(cmsf.bank.vectors[(torch.arange(BATCH) + step * BATCH) % BANK_SIZE].clone())
    for step, index in enumerate(PASS):
        cmsf.loss(batch(100 + step, index), START)
        previous = cmsf.cache.previous(torch.tensor(index))
        assert previous.known.all()
        assert torch.equal(previous.rows, first[step])


def test_all_ranks_targets_enter_the_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    theirs, their_images = unit(BATCH, seed=5).repeat(1, 2)[:, :8], torch.tensor(PASS[2])

    def gathered(rows: Tensor) -> Tensor:
        return torch.cat([their_images if rows.dtype == torch.int64 else theirs, rows.detach()])

    monkeypatch.setattr("training.methods.image.mean_shift.gather", gathered)
    monkeypatch.setattr("training.methods.image.mean_shift.rank", lambda: 1)
    cmsf = method()
    for step in range(2):
        output = cmsf.loss(batch(step, PASS[0]), START)
    assert cmsf.cache.visits.tolist() == [2 if image in PASS[0] + PASS[2] else 0 for image in range(IMAGES)]
    torch.testing.assert_close(cmsf.cache.previous(their_images).rows, theirs)
    assert float(output.metrics["constrained"]) == 1


def test_neighbours_grow_over_the_warm_up_in_both_halves() -> None:
    cmsf = method(replace(CONFIG, neighbour_warmup=0.5))
    cmsf.loss(batch(0, PASS[0]), START)
    images = batch(1, PASS[0])
    v = F.normalize(cmsf.predictor(cmsf.projector(cmsf.encoder(images.views[0]))).detach(), dim=1)
    u = F.normalize(cmsf.target(images.views[1]), dim=1)
    output = cmsf.loss(images, START)  # one neighbour: the image's own target, in both halves
    torch.testing.assert_close(output.loss, (2 - 2 * (v * u).sum(dim=1)).mean(), atol=1e-5, rtol=1e-5)


def test_the_settings_are_the_papers() -> None:
    paper = CMSFSelfConfig()
    assert (paper.bank_size, paper.neighbour_count, paper.constraint_size) == (128_000, 5, 5)
    assert (paper.ema_decay, paper.weak_target, paper.output_norm) == (0.99, True, False)


def test_a_bank_in_which_images_meet_themselves_is_refused() -> None:
    with pytest.raises(ValueError, match=r"bank_size \(24\) must be in \[8, 23\]"):
        method(replace(CONFIG, bank_size=24))
    assert method(replace(CONFIG, bank_size=None)).bank.size == IMAGES // 2


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("constraint_size", 4, r"constraint_size \(4\) must be >= neighbour_count \(5\)"),
        ("neighbour_count", 0, r"neighbour_count \(0\)"),
        ("ema_decay", 2.0, r"ema_decay \(2.0\)"),
    ],
)
def test_bad_settings_are_refused(name: str, value: float, message: str) -> None:
    settings: dict[str, Any] = {name: value}
    with pytest.raises(ValueError, match=message):
        CMSFSelfConfig(**settings)
