"""MSF: an image is moved to the mean of its other view's nearest neighbours; nothing is pushed away.

Source: Koohpayegani, Tejankar & Pirsiavash 2021, "Mean shift for self-supervised learning", arXiv:2105.07269.
"""

from __future__ import annotations

from torch import Tensor, nn

from models.heads import MeanShiftPredictor, MeanShiftProjector
from models.image.encoder import ImageEncoder
from training.distributed import gather, rank
from training.losses.neighbours import mean_distance, nearest_neighbours
from training.losses.precision import unit_rows
from training.methods.base import ImageBatch, LossOutput, Method, MethodContext, Needs, Progress
from training.methods.configs import MeanShiftConfig
from training.state.ema import EmaTarget
from training.state.ring_bank import RingBank, check_bank_size
from training.views.presets import Augmentation, view_of
from training.views.spec import ViewSpec

__all__ = ["MeanShift"]

_LARGEST_OWN_BANK = 8192
"""Where the bank's size is not given: MoCo's queue saturates at 4,096 on CIFAR-10."""


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

    def __init__(self, encoder: ImageEncoder, config: MeanShiftConfig, *, context: MethodContext) -> None:
        super().__init__()
        bank_size = _bank_size(config, context)
        check_bank_size(bank_size, dataset_size=context.dataset_size, batch_size=context.batch_size)
        self.encoder = encoder
        self.projector = MeanShiftProjector(encoder.width, output_norm=config.output_norm)
        self.predictor = MeanShiftPredictor(encoder.width)
        self.target = EmaTarget(nn.Sequential(self.encoder, self.projector))
        self.bank = RingBank(bank_size, self.projector.width)
        self.config = config
        self.image_size_px = context.image_size_px

    def views(self) -> tuple[ViewSpec, ...]:
        """Returns the online branch's view, strong, and the target's, weak or strong."""
        config, size_px = self.config, self.image_size_px
        crop = config.smallest_crop
        strong = view_of(config.augmentation, size_px, strength=config.strength, smallest_crop=crop)
        return strong, view_of(Augmentation.WEAK, size_px, smallest_crop=crop) if config.weak_target else strong

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
        online_view, target_view = batch.views
        predictions = unit_rows(self.predictor(self.projector(self.encoder(online_view))))  # v
        self.target.update(nn.Sequential(self.encoder, self.projector), decay=self.config.ema_decay)
        targets = unit_rows(self.target(target_view))  # u
        own = self._enqueue(targets, batch.index)
        count = self.neighbour_count(progress)
        neighbours = nearest_neighbours(targets, self.bank.valid, count=min(count, self.bank.filled))
        loss = mean_distance(predictions, self.bank.valid, neighbours).mean()
        copies = self.bank.self_fraction(neighbours.slots, own, batch.index)
        return LossOutput(loss, predictions.detach(), {"self_fraction": copies, "neighbours": float(count)})

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

    def _enqueue(self, targets: Tensor, index: Tensor) -> Tensor:
        """Writes all ranks' targets; returns the rows of this rank's."""
        slots = self.bank.enqueue(gather(targets), gather(index))
        return slots.view(-1, len(targets))[rank()]


def _bank_size(config: MeanShiftConfig, context: MethodContext) -> int:
    if config.bank_size is not None:
        return config.bank_size
    return max(context.batch_size, min(_LARGEST_OWN_BANK, context.dataset_size // 2))
