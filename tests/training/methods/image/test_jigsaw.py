from __future__ import annotations

import itertools
import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from models.config import ImageEncoderConfig
from models.image.build import build_image_encoder
from tests.training.methods.pictures import SIZE_PX, image_batch, part, small_encoder
from training.methods.base import ImageBatch, MethodContext, Progress
from training.methods.image.jigsaw import Jigsaw, JigsawConfig, distant_permutations, jigsaw_loss, shuffle

CONTEXT = MethodContext(dataset_size=400, batch_size=64, image_size_px=SIZE_PX)
START = Progress(step=0, max_steps=100, epoch=0)
SMALL = JigsawConfig(
    grid=2, permutation_count=24, permutations_per_image=3, patch_width=8, hidden_width=16, dropout=0.0
)


def method(config: JigsawConfig = SMALL) -> Jigsaw:
    return Jigsaw(small_encoder(seed=0), config, context=CONTEXT)


def distances(permutations: Tensor) -> Tensor:
    differing = (permutations[:, None] != permutations[None]).sum(dim=2)
    return differing[~torch.eye(len(permutations), dtype=torch.bool)]


def naive_choice(cells: int, count: int) -> list[list[int]]:
    every = [list(p) for p in itertools.permutations(range(cells))]
    chosen = [every[0]]
    while len(chosen) < count:
        far = [[sum(a != b for a, b in zip(p, c, strict=True)) for c in chosen] for p in every]
        chosen.append(every[max(range(len(every)), key=lambda place: (min(far[place]), sum(far[place]), -place))])
    return chosen


@pytest.mark.parametrize(("cells", "count"), [(3, 6), (4, 7), (4, 24), (5, 20)])
def test_permutations_are_a_naive_search_s(cells: int, count: int) -> None:
    assert distant_permutations(cells, count).tolist() == naive_choice(cells, count)


def test_a_grid_of_two_has_all_24_permutations_the_identity_first() -> None:
    found = distant_permutations(4, 24).tolist()
    assert sorted(map(tuple, found)) == list(itertools.permutations(range(4)))
    assert found[0] == [0, 1, 2, 3]


def test_a_hundred_permutations_of_nine_are_far_apart() -> None:
    found = distant_permutations(9, 100)
    assert found[0].tolist() == list(range(9))
    assert torch.equal(found.sort(dim=1).values, torch.arange(9).expand(100, 9))
    # Random ones differ in 8 of 9 places on average too, but some pairs in a few alone.
    assert int(distances(found).min()) == 6
    assert distances(found).float().mean() > 8
    random = torch.stack([torch.randperm(9, generator=torch.Generator().manual_seed(k)) for k in range(100)])
    assert distances(random).min() < 5


@pytest.mark.parametrize(("cells", "count"), [(10, 5), (3, 7), (3, 0)])
def test_permutations_that_are_not_there_are_refused(cells: int, count: int) -> None:
    with pytest.raises(ValueError, match=rf"\({cells if cells == 10 else count}\) must be in \[1, "):
        distant_permutations(cells, count)


def test_a_place_shows_the_cell_that_the_permutation_names() -> None:
    cells = torch.arange(4.0)[None, :, None].repeat(2, 1, 1) + torch.tensor([0.0, 10.0])[:, None, None]
    permutations = torch.tensor([[[0, 1, 2, 3], [1, 2, 3, 0]], [[3, 0, 1, 2], [0, 1, 3, 2]]])
    # [1, 2, 3, 0] and [3, 0, 1, 2] are each other's inverse: the wrong direction would swap them.
    expected = [[[0, 1, 2, 3], [1, 2, 3, 0]], [[13, 10, 11, 12], [10, 11, 13, 12]]]
    assert shuffle(cells, permutations)[..., 0].tolist() == expected


def test_labels_and_permutations_find_each_other() -> None:
    permutations = distant_permutations(4, 24)
    shown = shuffle(torch.arange(4.0)[None, :, None], permutations[None])[0, :, :, 0]
    labels = [permutations.tolist().index(row) for row in shown.long().tolist()]
    assert labels == list(range(24))


def test_chance_is_the_log_of_the_permutations() -> None:
    assert jigsaw_loss(torch.zeros(5, 100), torch.arange(5)).item() == pytest.approx(4.60517, abs=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_loss_of_half_precision_logits_is_fp32_and_near(dtype: torch.dtype) -> None:
    logits, labels = torch.randn(8, 24, generator=torch.Generator().manual_seed(0)), torch.arange(8)
    found = jigsaw_loss(logits.to(dtype), labels)
    assert found.dtype == torch.float32
    assert found.item() == pytest.approx(jigsaw_loss(logits, labels).item(), abs=2e-2)


def test_shuffling_features_is_shuffling_patches() -> None:
    jigsaw = method()
    patches = torch.randn(3, 4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    permutations = jigsaw.permutations[torch.tensor([[5, 7], [1, 2], [23, 0]])]
    features = jigsaw.encoder(patches.flatten(0, 1)).unflatten(0, (3, 4))
    shuffled = shuffle(patches.flatten(2), permutations).view(3, 2, 4, 3, 8, 8)
    for choice in range(2):
        shown = jigsaw.encoder(shuffled[:, choice].flatten(0, 1)).unflatten(0, (3, 4))
        torch.testing.assert_close(shuffle(features, permutations)[:, choice], shown)


def test_what_the_classifier_sees_is_shuffled_as_its_label_says(monkeypatch: pytest.MonkeyPatch) -> None:
    jigsaw = method()
    told: list[Tensor] = []
    features: list[Tensor] = []
    shown: list[Tensor] = []

    def watched(logits: Tensor, labels: Tensor) -> Tensor:
        told.append(labels)
        return jigsaw_loss(logits, labels)

    monkeypatch.setattr("training.methods.image.jigsaw.jigsaw_loss", watched)
    jigsaw.patch_projector.register_forward_hook(lambda _module, _inputs, output: features.append(output))
    jigsaw.classifier.register_forward_pre_hook(lambda _module, inputs: shown.append(inputs[0]))
    torch.manual_seed(0)
    jigsaw.loss(image_batch(jigsaw.views(), count=5, step=0), START)

    own = features[0].view(5, 4, 8)
    assert tuple(shown[0].shape) == (15, 32)
    for row, label in enumerate(told[0].tolist()):
        assert torch.equal(shown[0][row].view(4, 8), own[row // 3][jigsaw.permutations[label]])
    assert all(len(set(labels)) == 3 for labels in told[0].view(5, 3).tolist())


def test_permutations_and_places_are_drawn_anew_each_step() -> None:
    jigsaw = method()
    batch = image_batch(jigsaw.views(), count=8, step=0)
    losses = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        losses.append(jigsaw.loss(batch, START).loss.item())
    assert losses[0] == losses[1] != losses[2]


def test_all_patches_share_one_batch_norm_pass_and_are_standardised() -> None:
    jigsaw = method()
    seen: list[Tensor] = []
    jigsaw.encoder.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0]))
    before = int(part(jigsaw, "encoder.backbone.1.num_batches_tracked"))
    output = jigsaw.loss(image_batch(jigsaw.views(), count=5, step=0), START)
    assert int(part(jigsaw, "encoder.backbone.1.num_batches_tracked")) == before + 1
    assert tuple(seen[0].shape) == (20, 3, 8, 8)
    assert seen[0].mean(dim=(2, 3)).abs().max() < 1e-5
    assert tuple(output.projections.shape) == (20, 32)


def test_an_image_s_loss_does_not_hang_on_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    # What two processes rely on, whose draws differ: their mean is the loss of one with all images.
    jigsaw = method().eval()
    offsets = torch.randint(0, 2, (6, 4, 2), generator=torch.Generator().manual_seed(0))
    chances = torch.rand(6, 24, generator=torch.Generator().manual_seed(1))
    images = image_batch(jigsaw.views(), count=6, step=0).views[0]

    def loss(rows: slice) -> Tensor:
        monkeypatch.setattr("training.views.patches.torch.randint", lambda *_args, **_kwargs: offsets[rows])
        monkeypatch.setattr("training.methods.image.jigsaw.torch.rand", lambda *_args, **_kwargs: chances[rows])
        return jigsaw.loss(ImageBatch((images[rows],), torch.arange(6)[rows]), START).loss

    torch.testing.assert_close((loss(slice(0, 3)) + loss(slice(3, 6))) / 2, loss(slice(0, 6)))


def test_the_permutations_are_saved() -> None:
    jigsaw = method()
    state = jigsaw.state_dict()
    state["permutations"] = state["permutations"].flip(0)
    jigsaw.load_state_dict(state)
    assert torch.equal(jigsaw.permutations, distant_permutations(4, 24).flip(0))


def test_the_paper_s_grid_has_nine_cells_and_small_images_are_shown_larger() -> None:
    jigsaw = Jigsaw(small_encoder(seed=0), replace(SMALL, grid=3), context=replace(CONTEXT, image_size_px=255))
    assert (jigsaw.grid.cell_px, jigsaw.grid.patch_px, jigsaw.views()[0].size_px) == (85, 64, 255)
    assert method().views()[0].size_px == 20
    assert method().views()[0].grey_probability == 0.66


def test_an_encoder_of_one_size_is_refused() -> None:
    encoder = build_image_encoder(ImageEncoderConfig(architecture="vit-tiny", image_size_px=16))
    with pytest.raises(ValueError, match=r"vit-tiny reads images of 16 px alone, .* 8 px"):
        Jigsaw(encoder, SMALL, context=CONTEXT)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("grid", 4),
        ("permutation_count", 1),
        ("permutation_count", math.factorial(9) + 1),
        ("permutations_per_image", 0),
        ("permutations_per_image", 101),
        ("patch_width", 0),
        ("hidden_width", 0),
        ("dropout", 1.0),
        ("patch_share", 1.0),
        ("patch_share", 0.0),
        ("grey_probability", 1.1),
    ],
)
def test_bad_settings_are_refused(name: str, value: float) -> None:
    settings: dict[str, Any] = {name: value}
    with pytest.raises(ValueError, match=rf"{name} \({value}\)"):
        JigsawConfig(**settings)


def test_it_learns_where_textures_belong() -> None:
    jigsaw = method(replace(SMALL, permutation_count=4, permutations_per_image=2))
    optimiser = torch.optim.Adam(jigsaw.parameters(), lr=0.01)
    y, x = torch.meshgrid(torch.arange(10), torch.arange(10), indexing="ij")
    rows, columns = torch.sin(2.0 * y), torch.sin(2.0 * x)
    above, below = torch.cat([rows, columns], dim=1), torch.cat([rows * columns, torch.sin(y + x)], dim=1)
    image = torch.cat([above, below]).expand(3, 20, 20)
    for step in range(25):
        torch.manual_seed(step)
        output = jigsaw.loss(ImageBatch((image + 0.2 * torch.randn(16, 3, 20, 20),), torch.arange(16)), START)
        optimiser.zero_grad()
        torch.autograd.backward(output.loss)
        optimiser.step()
    assert float(output.metrics["accuracy"]) > 0.8
