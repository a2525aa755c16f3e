"""Tells who listens to a call how long its request waited, and which batches it ran in."""

from __future__ import annotations

import time

from serving.encoders.request import PendingRequest
from serving.telemetry.call import Stage, stage_listener

__all__ = ["tell_stages"]


def tell_stages(encoder: str, request: PendingRequest) -> None:
    """Tells of the stages `queue` and `compute`, one of the latter for each batch; nothing where nobody listens.

    Args:
        encoder: The encoder's name.
        request: A request that was enqueued and has ended, one way or another.
    """
    listener = stage_listener()
    if listener is None:
        return
    batches = list(request.batches or ())
    # Who joined an item that was running already waited for nothing.
    began_s = max(batches[0].start_s, request.queued_s) if batches else time.monotonic()
    listener(
        Stage(
            name="queue",
            start_s=request.queued_s,
            end_s=began_s,
            attributes={"encoder": encoder},
            failed=not batches,
        )
    )
    for batch in batches:
        attributes: dict[str, str | int] = {
            "encoder": encoder,
            "batch_items": batch.item_count,
            "batch_cost": batch.cost,
            "batch_padded_cost": batch.padded_cost,
        }
        listener(
            Stage(
                name="compute",
                start_s=batch.start_s,
                end_s=batch.end_s,
                attributes=attributes,
                failed=batch.failed,
            )
        )
