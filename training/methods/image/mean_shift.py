"""MSF: an image is moved to the mean of its other view's nearest neighbours; nothing is pushed away.

Source: Koohpayegani, Tejankar & Pirsiavash 2021, "Mean shift for self-supervised learning", arXiv:2105.07269.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from models.heads import Block, ProjectionHead
from models.image.encoder import ImageEncoder
from training.distributed import gather, rank
from training.losses.neighbours import mean_distance, nearest_neighbours
from training.losses.precision import unit_rows
from training.methods.base import ImageBatch, LossOutput, Method, MethodContext, Needs, Progress
from training.methods.recipes import Recipe, RecipeName, Recipes, sgd
from training.state.ema import EmaTarget
from training.state.ring_bank import RingBank, check_bank_size, own_bank_size
from training.views.config import ViewConfig
from training.views.presets import Augmentation
from training.views.spec import ViewSpec

__all__ = [
    "MeanShift",
    "MeanShiftConfig",
    "Observed",
    "mean_shift_loss",
    "mean_shift_predictor",
    "mean_shift_projector",
]

_LARGEST_OWN_BANK = 8192
"""Where the bank's size is not given: MoCo's queue saturates at 4,096 on CIFAR-10."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MeanShiftConfig(ViewConfig):
    """MSF (Koohpayegani et al. 2021): move each image to the mean of its target's nearest neighbours."""

    bank_size: int | None = 1_024_000
    """Recent targets to search, at least the batch and below the data set minus a batch. Where not given: half of the
    data set, at most 8,192."""
    neighbour_count: int = 5
    """Nearest targets to move to; 1 is BYOL without symmetry."""
    ema_decay: float = 0.99
    """Of the target branch, constant, in [0, 1]. Paper: m."""
    output_norm: bool = False
    """Whether a BatchNorm closes the projector: in short runs it keeps projections from falling into a few dimensions.
    The authors have none."""
    weak_target: bool = True
    """MSF w/s: the target sees a weak view (crop and flip), the online branch a strong one. False: both strong."""
    augmentation: Augmentation = Augmentation.STRONG
    """Set of random changes for the strong view."""
    neighbour_warmup: float = 0.0
    """Fraction of the training over which the neighbours grow from 1 to `neighbour_count`; the paper has none."""

    def __post_init__(self) -> None:
        if self.neighbour_count < 1:
            raise ValueError(f"neighbour_count ({self.neighbour_count}) must be >= 1")
        if self.bank_size is not None and self.bank_size < self.neighbour_count:
            raise ValueError(f"bank_size ({self.bank_size}) must be >= neighbour_count ({self.neighbour_count})")
        if not 0 <= self.ema_decay <= 1:
            raise ValueError(f"ema_decay ({self.ema_decay}) must be in [0, 1]")
        if not 0 <= self.neighbour_warmup <= 1:
            raise ValueError(f"neighbour_warmup ({self.neighbour_warmup}) must be in [0, 1]")


# The authors' bank of a million is for ImageNet alone: None sizes it by the data.
_OWN_BANK = {"bank_size": None}

# Without negatives a fast start falls into a few dimensions, whatever follows: many small steps of SGD, and a projector
# that BatchNorm closes, keep the most.
_MANY_SMALL_STEPS = {**_OWN_BANK, "output_norm": True}

RECIPES: Recipes = {
    RecipeName.SCRATCH: Recipe(batch_size=64, optimiser=sgd(0.05, 1e-4, warmup=0.02), settings=_MANY_SMALL_STEPS),
    RecipeName.ADAPT: Recipe(batch_size=64, optimiser=sgd(0.005, 1e-4, warmup=0.02), settings=_MANY_SMALL_STEPS),
    RecipeName.PAPER: Recipe(optimiser=sgd(0.05, 1e-4), settings=_OWN_BANK),
}


def mean_shift_loss(predictions: Tensor, targets: Tensor, bank: Tensor, *, neighbour_count: int) -> Tensor:
    """Pulls each prediction towards the nearest stored neighbours of its target.

    `mean_i 1/k sum_(j in I_i) (2 - 2 v_i · M_j)`, where I_i are the k rows of M nearest to the target u_i: neighbours
    are chosen by the target, distances measured from the prediction. With k = 1, and the targets in the bank, it is
    BYOL's asymmetric loss.

    Args:
        predictions: `[n, d]`, unit rows, from the online branch; carries the gradient.
        targets: `[n, d]`, unit rows, from the EMA branch; constants.
        bank: `[m, d]`, unit rows, recent targets, this batch's included; constants.
        neighbour_count: Neighbours per target, in `[1, m]`.

    Returns:
        Scalar, fp32: mean squared distance to the neighbours, in `[0, 4]`.

    Refuses what `nearest_neighbours` refuses.

    Source: Koohpayegani et al. 2021, arXiv:2105.07269.
    """
    neighbours = nearest_neighbours(targets.detach(), bank, count=neighbour_count)
    return mean_distance(predictions, bank, neighbours).mean()


def mean_shift_projector(inputs: int, *, output_norm: bool = False) -> ProjectionHead:
    """Builds MSF's projector: F -> 2F -> F/4, the 2F layer with BatchNorm and ReLU.

    The authors' code builds it as `get_mlp(feat_dim, hidden_dim, proj_dim)` with `hidden_dim = feat_dim * 2` and
    `proj_dim = feat_dim // 4`, each `get_mlp` being Linear, BatchNorm1d, ReLU, Linear [0]. ResNet-50:
    2048 -> 4096 -> 512; ResNet-18: 512 -> 1024 -> 128.

    Args:
        inputs: Width F of the representation; at least 4.
        output_norm: Whether a BatchNorm without shift closes it, as SimCLR's and SimSiam's; the authors have none.

    Returns:
        The head.

    Raises:
        ValueError: `inputs` is below 4, so that nothing would be left of F/4.

    References:
        - [0] Mean Shift, 2021, https://arxiv.org/abs/2105.07269; https://github.com/UMBCvision/MSF/tree/130191c
    """
    return _mean_shift_head(inputs, inputs, output_norm=output_norm)


def mean_shift_predictor(representation: int) -> ProjectionHead:
    """Builds MSF's predictor: F/4 -> 2F -> F/4, on the projector of the online branch only.

    In the authors' code `get_mlp(proj_dim, hidden_dim, proj_dim)` with the projector's numbers [0]. ResNet-50:
    512 -> 4096 -> 512; ResNet-18: 128 -> 1024 -> 128.

    Args:
        representation: Width F of the representation, not of the projection; at least 4.

    Returns:
        The head.

    Raises:
        ValueError: `representation` is below 4.

    References:
        - [0] Mean Shift, 2021, https://arxiv.org/abs/2105.07269; https://github.com/UMBCvision/MSF/tree/130191c
    """
    return _mean_shift_head(representation // 4, representation)


def _mean_shift_head(inputs: int, representation: int, *, output_norm: bool = False) -> ProjectionHead:
    if representation < 4:
        raise ValueError(f"representation width ({representation}) must be >= 4: the projection is a quarter of it")
    hidden = 2 * representation
    return ProjectionHead(
        [
            Block(inputs=inputs, outputs=hidden),
            Block(inputs=hidden, outputs=representation // 4, batch_norm=output_norm, centre=False, relu=False),
        ]
    )


@dataclass(frozen=True, slots=True)
class Observed:
    """What the two branches make of a batch, its targets already in the bank."""

    predictions: Tensor
    """`[n, d]` fp32, unit rows, with gradient. Paper: v."""
    targets: Tensor
    """`[n, d]` fp32, unit rows, constants. Paper: u."""
    written: Tensor
    """`[world * n]` int64: rows of the bank that all ranks' targets were just written to."""
    own: Tensor
    """`[n]` int64: this rank's of them."""


class MeanShift(Method):
    """Learns an image encoder by mean shift.

    Differs from the authors' code: the bank starts empty rather than random, and there is no ShuffleBN.

    Args:
        encoder: The online branch's encoder, which is kept.
        config: Bank, neighbours, average and views.
        context: Sizes of the data set, the batch and the views.

    Raises:
        ValueError: The bank is not in [batch, data set - batch).
    """

    needs = Needs(index=True, dataset_size=True)
    config_type = MeanShiftConfig
    recipes = RECIPES

    def __init__(self, encoder: ImageEncoder, config: MeanShiftConfig, *, context: MethodContext) -> None:
        super().__init__()
        bank_size = _bank_size(config, context)
        check_bank_size(bank_size, dataset_size=context.dataset_size, batch_size=context.batch_size)
        self.encoder = encoder
        self.projector = mean_shift_projector(encoder.width, output_norm=config.output_norm)
        self.predictor = mean_shift_predictor(encoder.width)
        self.target = EmaTarget(nn.Sequential(self.encoder, self.projector))
        self.bank = RingBank(bank_size, self.projector.width)
        self.config = config
        self.image_size_px = context.image_size_px

    def views(self) -> tuple[ViewSpec, ...]:
        """Returns the online branch's view, strong, and the target's, weak or strong."""
        strong = self.config.view(self.image_size_px)
        return strong, self.config.view(self.image_size_px, Augmentation.WEAK) if self.config.weak_target else strong

    def loss(self, batch: ImageBatch, progress: Progress) -> LossOutput:
        """Computes the mean squared distance of each prediction to its target's nearest neighbours in the bank.

        The order is the authors': predict, average, target, enqueue, search. Because the targets are in the bank before
        the search, each one's nearest neighbour is itself.

        Args:
            batch: The online view and the target view of each image.
            progress: Where the neighbours' warm-up stands.

        Returns:
            The loss in [0, 4], low values of which are no evidence of learning; `self_fraction`, how many further
            neighbours are old copies of the same image; `neighbours`, their number.
        """
        observed = self._observe(batch)
        count = self.neighbour_count(progress)
        neighbours = nearest_neighbours(observed.targets, self.bank.valid, count=min(count, self.bank.filled))
        loss = mean_distance(observed.predictions, self.bank.valid, neighbours).mean()
        copies = self.bank.self_fraction(neighbours.slots, observed.own, batch.index)
        return LossOutput(loss, observed.predictions.detach(), {"self_fraction": copies, "neighbours": float(count)})

    def neighbour_count(self, progress: Progress) -> int:
        """Returns how many neighbours a step moves to.

        Args:
            progress: Where the training stands.

        Returns:
            From 1 up to `neighbour_count` over the warm-up, that number afterwards.
        """
        if progress.fraction >= self.config.neighbour_warmup:
            return self.config.neighbour_count
        share = progress.fraction / self.config.neighbour_warmup
        return 1 + int((self.config.neighbour_count - 1) * share)

    def _observe(self, batch: ImageBatch) -> Observed:
        """Predicts, averages, makes the targets and writes all ranks' into the bank."""
        online_view, target_view = batch.views
        predictions = unit_rows(self.predictor(self.projector(self.encoder(online_view))))  # v
        self.target.update(nn.Sequential(self.encoder, self.projector), decay=self.config.ema_decay)
        targets = unit_rows(self.target(target_view))  # u
        written = self.bank.enqueue(gather(targets), gather(batch.index))
        return Observed(predictions, targets, written, own=written.view(-1, len(targets))[rank()])


def _bank_size(config: MeanShiftConfig, context: MethodContext) -> int:
    if config.bank_size is not None:
        return config.bank_size
    return own_bank_size(_LARGEST_OWN_BANK, dataset_size=context.dataset_size, batch_size=context.batch_size)
