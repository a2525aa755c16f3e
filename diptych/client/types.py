"""What the client takes and gives: plain values and numpy arrays."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diptych.client.errors import ClientError
from diptych.client.index_types import Index, IndexStatus, Recall

__all__ = [
    "Collection",
    "DeleteResult",
    "Embeddings",
    "Encoder",
    "GeoPoint",
    "Image",
    "Index",
    "IndexStatus",
    "Job",
    "MetadataValue",
    "Neighbours",
    "Recall",
    "Record",
    "ServerInformation",
    "Snapshot",
    "StoredRecord",
    "WriteResult",
]

Image = bytes | Path
"""An encoded image: its bytes, or the file that holds them."""


@dataclass(frozen=True, slots=True)
class StoredRecord:
    """A record of the collection, as an example to search by."""

    id: str


@dataclass(frozen=True, slots=True)
class GeoPoint:
    """A place on Earth: degrees, latitude in [-90, 90], longitude in [-180, 180]."""

    latitude_deg: float
    longitude_deg: float


MetadataValue = str | int | float | bool | datetime | GeoPoint | Sequence[str]
"""One metadata value. Integers have 64 bits; datetimes need a time zone and come back in UTC."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Encoder:
    """An encoder that a server knows."""

    name: str
    state: str
    """`loading`, `serving`, `refused` or `draining`."""
    state_message: str
    """Why it is refused; empty otherwise. Every field below is empty until its bundle was read."""
    version: str
    modality: str
    """`text` or `image`."""
    dimension: int
    metric: str
    """`cosine`, `inner_product` or `l2`."""
    space: str
    """Only vectors of one space may be compared."""
    fingerprint: str
    """The exact artefact."""
    precision: str
    """`fp32` or `int8`."""
    max_tokens: int
    image_size_px: int
    truncatable_dimensions: tuple[int, ...]
    """Shorter dimensions that `embed` may ask for."""
    aliases: tuple[str, ...]
    """Names that mean it just now, beside `NAME@VERSION`: its own where no other version answers to it, and aliases."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Embeddings:
    """The vectors of a batch, and who made them."""

    vectors: NDArray[Any]
    """`[n, d]`: float32, float16 or int8; binary as uint8 `[n, ceil(d / 8)]`, most significant bit first. Rows of
    failed inputs are zero."""
    scales: NDArray[np.float32] | None
    """`[n]`, for int8 only: row times scale is the vector."""
    errors: Mapping[int, ClientError]
    """Failed inputs and why; empty unless `allow_partial` was set."""
    token_counts: NDArray[np.int32]
    """`[n]`: tokens read; 0 for images."""
    truncated: NDArray[np.bool_]
    """`[n]`: whether the text was cut to the encoder's limit."""
    encoder: str
    version: str
    space: str
    """Only vectors of one space may be compared."""
    fingerprint: str
    queue_s: float
    """Seconds spent waiting on the server, the longest of all calls."""
    compute_s: float
    """Seconds spent in the encoder, over all calls."""

    def __len__(self) -> int:
        return len(self.vectors)


@dataclass(frozen=True, kw_only=True, slots=True)
class Collection:
    """A collection as it stands."""

    name: str
    display_name: str
    encoder: str
    """The encoder that embeds for it; empty where it takes vectors only."""
    space: str
    dimension: int
    metric: str
    index: str
    """As asked for, in a word: `auto`, `exact`, `hnsw` or `ivf`."""
    active_index: str
    """What answers now, in a word."""
    index_status: IndexStatus
    """The same with all that is known of it."""
    retain_sources: bool
    create_time: datetime
    update_time: datetime
    record_count: int
    indexed_count: int
    sequence: int
    """The number of the last write."""
    fields: Mapping[str, str] = field(default_factory=dict)
    """Types of the metadata fields that filters may name."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Record:
    """One stored record, with the parts that were asked for."""

    id: str
    version: int
    fingerprint: str
    vector: NDArray[np.float32] | None = None
    """`[d]`."""
    metadata: Mapping[str, MetadataValue] = field(default_factory=dict)
    source: bytes | None = None
    """What it was embedded from, where kept."""
    source_type: str = ""
    """MIME type of the source."""
    expire_time: datetime | None = None
    """When it ends, in UTC; None: never."""


@dataclass(frozen=True, kw_only=True, slots=True)
class WriteResult:
    """What became of a batch of writes."""

    sequence: int
    """Give it to reads as `min_sequence`, and they see this write."""
    versions: NDArray[np.int64]
    """`[n]`: new versions; 0 where a record failed."""
    errors: Mapping[int, ClientError]
    """Failed records and why; empty unless `allow_partial` was set."""
    truncated: Sequence[int]
    """Indices of the texts that were cut to the encoder's limit."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DeleteResult:
    """What became of a deletion."""

    sequence: int
    """Give it to reads as `min_sequence`, and they see this deletion."""
    deleted_count: int
    """How many of the records were there."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Neighbours:
    """The neighbours of one query, best first: parallel arrays."""

    ids: Sequence[str]
    scores: NDArray[np.float32]
    """`[n]`; higher is closer, always."""
    versions: NDArray[np.int64]
    """`[n]`."""
    vectors: NDArray[np.float32] | None = None
    """`[n, d]`, where asked for."""
    metadata: Sequence[Mapping[str, MetadataValue]] | None = None
    """Where asked for."""
    sources: Sequence[bytes] | None = None
    """Where asked for; empty where none was kept."""
    error: ClientError | None = None
    """Why this query of a batch failed; only where `allow_partial` was set."""

    def __len__(self) -> int:
        return len(self.ids)

    def __iter__(self) -> Iterator[tuple[str, float]]:
        """Yields id and score, best first."""
        return iter(zip(self.ids, self.scores.tolist(), strict=True))


@dataclass(frozen=True, kw_only=True, slots=True)
class ServerInformation:
    """What a server is, and what it allows."""

    version: str
    start_time: datetime
    limits: Mapping[str, int]
    """By name, such as `max_message_bytes`."""
    unimplemented_methods: Sequence[str]
    """Methods that it declares but does not offer."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """Long work on a server, at one moment."""

    name: str
    kind: str
    """What is done, such as `snapshot` or `restore`."""
    subject: str
    """What it is done to."""
    state: str
    """`pending`, `running`, `succeeded`, `failed` or `cancelled`."""
    done_count: int
    total_count: int
    """0 while that is not known."""
    create_time: datetime
    start_time: datetime | None = None
    end_time: datetime | None = None
    error: ClientError | None = None
    """Why it failed."""

    @property
    def has_ended(self) -> bool:
        """Whether nothing follows."""
        return self.end_time is not None


@dataclass(frozen=True, kw_only=True, slots=True)
class Snapshot:
    """A copy of a collection at one sequence."""

    name: str
    collection: str
    """What it was taken of."""
    sequence: int
    record_count: int
    size_bytes: int
    sha256: str
    create_time: datetime
