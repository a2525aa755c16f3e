"""Mean shift: move each prediction to the mean of its target's nearest neighbours."""

from __future__ import annotations

from torch import Tensor

from training.losses.neighbours import mean_distance, nearest_neighbours

__all__ = ["mean_shift_loss"]


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
