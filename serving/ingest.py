"""Writes records from vectors, texts and images: embeds what has no vector, then writes all at once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from models.bundle.encoder import EncoderInfo, Purpose
from serving.backend import Backend
from serving.collections.collection import Collection
from serving.collections.types import CollectionSpec, MetadataValue, RecordWrite, WriteOutcome
from serving.collections.validation import batch_error
from serving.collections.vectors import check_space
from serving.embedding import EmbedOptions, embed_patiently
from serving.encoders.request import EmbedOutcome
from serving.errors import ModalityNotServed, Overloaded, ServingError
from serving.telemetry.call import note_call, stage

__all__ = ["RecordDraft", "UpsertOptions", "UpsertOutcome", "upsert"]

IMAGE_SIGNATURES = (
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"GIF8", "image/gif"),
    (b"BM", "image/bmp"),
    (b"RIFF", "image/webp"),
)
"""How the formats that are decoded begin."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RecordDraft:
    """A record as a caller brings it."""

    id: str
    content: str | bytes | NDArray[np.float32]
    """A text, an encoded image, or the vector `[d]` itself."""
    metadata: Mapping[str, MetadataValue] = field(default_factory=dict)
    if_version: int | None = None
    """As in `RecordWrite`."""
    expire_time: datetime | None = None
    """As in `RecordWrite`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class UpsertOptions:
    """How to write."""

    space: str = ""
    """Embedding space of the vectors brought."""
    allow_partial: bool = False
    """Whether good records are written when others fail."""
    request_id: str = ""
    """Idempotency key; empty for none."""
    deadline_s: float | None = None
    """Monotonic time after which nobody waits."""


@dataclass(frozen=True, kw_only=True, slots=True)
class UpsertOutcome:
    """What became of a batch."""

    sequence: int
    """The collection's sequence after it."""
    versions: Sequence[int]
    """Per draft its version; 0 where it failed."""
    errors: Mapping[int, BaseException]
    """Failed indices and why; empty unless partial."""
    truncated: Sequence[int] = ()
    """Indices of the texts that were cut."""
    encoder: EncoderInfo | None = None
    """Who made the vectors; None where all were brought."""


async def upsert(
    backend: Backend, name: str, drafts: Sequence[RecordDraft | ServingError], options: UpsertOptions
) -> UpsertOutcome:
    """Embeds and writes a batch.

    Args:
        backend: Encoders and collections.
        name: The collection's name.
        drafts: The records; an error in place of one that could not even be read.
        options: How.

    Returns:
        Versions and, where partial, errors.

    Raises:
        ServingError: The batch was refused; `item_errors` names the bad indices.
    """
    note_call(items=len(drafts))
    collection = backend.collection(name)
    spec = collection.definition.spec
    good = {index: draft for index, draft in enumerate(drafts) if isinstance(draft, RecordDraft)}
    errors: dict[int, BaseException] = {
        index: draft for index, draft in enumerate(drafts) if isinstance(draft, ServingError)
    }
    if any(isinstance(draft.content, np.ndarray) for draft in good.values()):
        check_space(spec, options.space)
    to_embed = {index: draft.content for index, draft in good.items() if not isinstance(draft.content, np.ndarray)}
    embedded = await _embed(backend, spec, to_embed, options) if to_embed else _Embedded()
    errors.update(embedded.errors)
    if errors and not options.allow_partial:
        raise batch_error(
            {index: error for index, error in errors.items() if isinstance(error, ServingError)}, len(drafts)
        )
    writes = {
        index: _write(draft, spec, index, embedded) for index, draft in good.items() if index not in embedded.errors
    }
    written = await _commit(backend, collection, list(writes.values()), spec, options)
    versions = [0] * len(drafts)
    for position, index in enumerate(writes):
        versions[index] = written.versions[position]
        if position in written.errors:
            errors[index] = written.errors[position]
    return UpsertOutcome(
        sequence=written.sequence,
        versions=versions,
        errors=errors,
        truncated=embedded.truncated,
        encoder=embedded.encoder,
    )


@dataclass(frozen=True, slots=True)
class _Embedded:
    """Vectors by the draft's index."""

    encoder: EncoderInfo | None = None
    vectors: Mapping[int, NDArray[np.float32]] = field(default_factory=dict)
    errors: Mapping[int, ServingError] = field(default_factory=dict)
    truncated: Sequence[int] = ()


async def _embed(
    backend: Backend, spec: CollectionSpec, contents: Mapping[int, str | bytes], options: UpsertOptions
) -> _Embedded:
    if not spec.encoder:
        raise ModalityNotServed(
            f"collection '{spec.name}' has no encoder; send vectors, or create it with an encoder", collection=spec.name
        )
    outcome: EmbedOutcome = await embed_patiently(
        backend.pool,
        spec.encoder,
        list(contents.values()),
        EmbedOptions(purpose=Purpose.DOCUMENT, deadline_s=options.deadline_s, space=spec.space),
    )
    # No version of the space may be left of those the collection was made with.
    check_space(spec, outcome.info.space)
    indices = list(contents)
    return _Embedded(
        encoder=outcome.info,
        vectors={index: outcome.vectors[row] for row, index in enumerate(indices) if row not in outcome.errors},
        errors={indices[row]: error for row, error in outcome.errors.items()},
        truncated=[index for row, index in enumerate(indices) if outcome.truncated[row]],
    )


def _write(draft: RecordDraft, spec: CollectionSpec, index: int, embedded: _Embedded) -> RecordWrite:
    content = draft.content
    if isinstance(content, np.ndarray):
        return RecordWrite(
            id=draft.id,
            vector=content,
            metadata=draft.metadata,
            if_version=draft.if_version,
            expire_time=draft.expire_time,
        )
    source = content.encode("utf-8") if isinstance(content, str) else content
    return RecordWrite(
        id=draft.id,
        vector=embedded.vectors[index],
        metadata=draft.metadata,
        if_version=draft.if_version,
        source=source if spec.retain_source else None,
        source_type=_source_type(content) if spec.retain_source else "",
        fingerprint=embedded.encoder.fingerprint if embedded.encoder else "",
        origin=source,
        expire_time=draft.expire_time,
    )


def _source_type(content: str | bytes) -> str:
    if isinstance(content, str):
        return "text/plain"
    matches = (kind for signature, kind in IMAGE_SIGNATURES if content.startswith(signature))
    return next(matches, "application/octet-stream")


async def _commit(
    backend: Backend, collection: Collection, writes: list[RecordWrite], spec: CollectionSpec, options: UpsertOptions
) -> WriteOutcome:
    if not writes:
        info = await backend.read(collection.info)
        return WriteOutcome(sequence=info.sequence, versions=())
    await _hold_back(collection, len(writes), options.deadline_s)
    with stage("commit", collection=spec.name, items=len(writes)):
        return await backend.write(
            collection.upsert,
            writes,
            space=spec.space,
            allow_partial=options.allow_partial,
            request_id=options.request_id,
        )


async def _hold_back(collection: Collection, record_count: int, deadline_s: float | None) -> None:
    """Waits where the index falls behind: on the event loop, so that no thread is held."""
    delay_s = collection.write_delay_s(record_count)
    if not delay_s:
        return
    if deadline_s is not None and time.monotonic() + delay_s >= deadline_s:
        raise Overloaded(
            f"the index is behind and this write would wait {delay_s:.2f} s, longer than its deadline; try again later",
            retry_after_s=delay_s,
        )
    await asyncio.sleep(delay_s)
