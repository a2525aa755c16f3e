"""Takes the reference statistics: what vectors and inputs look like on data of the training's kind."""

from __future__ import annotations

from typing import Final

import numpy as np

from models.bundle.encoder import Encoder, Modality, Prepared
from models.bundle.pixels import decode_image
from models.bundle.statistics import ReferenceStatistics, summarise
from training.export.source import ReferenceSample

__all__ = ["take_statistics"]

_BATCH: Final = 16


def take_statistics(encoder: Encoder, sample: ReferenceSample) -> ReferenceStatistics:
    """Embeds a sample with the exported graph and summarises it.

    Args:
        encoder: The fp32 graph as it will be served.
        sample: The inputs; those it cannot use are left out.

    Returns:
        The summary.

    Raises:
        ValueError: Fewer than two inputs can be used.
    """
    prepared: list[Prepared] = []
    sizes: list[int] = []
    brightness: list[float] = []
    for item in sample.items:
        try:
            ready = encoder.prepare(item)
        except ValueError:
            continue
        prepared.append(ready)
        if isinstance(item, bytes):
            rgb = decode_image(item)
            sizes.append(rgb.shape[0] * rgb.shape[1])
            brightness.append(float(rgb.mean()) / 255)
        else:
            sizes.append(len(ready.array))
    if len(prepared) < 2:
        raise ValueError(f"the reference sample '{sample.source}' holds {len(prepared)} usable inputs; 2 are needed")
    order = sorted(range(len(prepared)), key=lambda row: prepared[row].cost)
    parts = [
        encoder.run([prepared[row] for row in order[start : start + _BATCH]]) for start in range(0, len(order), _BATCH)
    ]
    return summarise(
        np.concatenate(parts),
        source=sample.source,
        input_sizes=np.asarray(sizes, dtype=np.int64),
        truncated_fraction=float(np.mean([item.truncated for item in prepared])),
        brightness=np.asarray(brightness) if encoder.info.modality is Modality.IMAGE else None,
    )
