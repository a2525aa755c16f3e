"""What each kind of write does inside its savepoint."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from serving.collections.filters.conditions import Condition
from serving.collections.filters.holds import holds
from serving.collections.index.view import IndexView
from serving.collections.transaction import RecordTransaction, StoredRecord
from serving.collections.types import MetadataValue, WriteOutcome
from serving.collections.validation import PreparedWrite, batch_error
from serving.errors import RecordNotFound, ServingError, VersionMismatch

__all__ = ["delete_expired", "delete_matching", "delete_records", "update_metadata", "upsert_records"]

_ABSENT = StoredRecord(key=0, version=0)


def upsert_records(
    transaction: RecordTransaction,
    writes: Sequence[PreparedWrite],
    *,
    errors: Mapping[int, ServingError],
    allow_partial: bool,
) -> WriteOutcome:
    """Writes a batch.

    Args:
        transaction: The writer's.
        writes: The batch's good records.
        errors: Per index what is wrong with the others.
        allow_partial: Whether the good ones are written although others are bad.

    Returns:
        The new versions.

    Raises:
        ServingError: A record is bad and `allow_partial` is false; see `batch_error`.
    """
    count = len(writes) + len(errors)
    stored = transaction.find(write.id for write in writes)
    standing = {write.id: _standing(transaction, stored.get(write.id)) or _ABSENT for write in writes}
    conflicts = {
        write.index: _version_error(write.id, standing[write.id], write.if_version)
        for write in writes
        if write.if_version not in (None, standing[write.id].version)
    }
    failed: dict[int, ServingError] = {**errors, **conflicts}
    if failed and not allow_partial:
        raise batch_error(failed, count)
    good = [write for write in writes if write.index not in conflicts]
    versions = [0] * count
    for write, version in zip(good, transaction.put(good, stored), strict=True):
        versions[write.index] = version
    return WriteOutcome(sequence=transaction.sequence, versions=tuple(versions), errors=failed)


def update_metadata(
    transaction: RecordTransaction,
    identifier: bytes,
    metadata: bytes,
    values: Mapping[str, MetadataValue],
    *,
    if_version: int | None,
) -> WriteOutcome:
    """Replaces one record's metadata; when it expires stays.

    Args:
        transaction: The writer's.
        identifier: Encoded id.
        metadata: Encoded.
        values: The same, as the columns take it.
        if_version: Write only where the stored version equals this.

    Returns:
        The new version.

    Raises:
        RecordNotFound: There is no such record.
        VersionMismatch: It has another version.
    """
    stored = _standing(transaction, transaction.find([identifier]).get(identifier))
    if stored is None:
        name = identifier.decode("utf-8")
        raise RecordNotFound(f"there is no record {name!r}", record_id=name)
    if if_version not in (None, stored.version):
        raise _version_error(identifier, stored, if_version)
    version = transaction.put_metadata(stored, metadata, values)
    return WriteOutcome(sequence=transaction.sequence, versions=(version,))


def delete_records(transaction: RecordTransaction, ids: Sequence[bytes]) -> WriteOutcome:
    """Deletes records; those that are not there are no error, so a delete may be repeated.

    Args:
        transaction: The writer's.
        ids: Encoded ids.

    Returns:
        Per id the sequence of its deletion, 0 where there was nothing to delete.
    """
    stored = transaction.find(set(ids))
    present = [identifier for identifier in dict.fromkeys(ids) if _standing(transaction, stored.get(identifier))]
    removed = transaction.remove([stored[identifier] for identifier in present])
    versions = dict(zip(present, removed, strict=True))
    return WriteOutcome(
        sequence=transaction.sequence, versions=tuple(versions.get(identifier, 0) for identifier in ids)
    )


def delete_matching(transaction: RecordTransaction, view: IndexView, where: Condition) -> WriteOutcome:
    """Deletes the records for which a filter holds, this transaction's own among them.

    Args:
        transaction: The writer's.
        view: The index as of the last commit.
        where: The filter.

    Returns:
        Per deleted record the sequence of its deletion.

    Raises:
        InvalidInput: The declared fields cannot answer the filter.
        Corrupted: A record is damaged: nobody knows whether it matches.
    """
    keys = set(view.matching(where).living_keys().tolist())
    # Other callers' writes in the same commit come first; no view shows them yet.
    pending = [(added.key, added.metadata) for added in transaction.changes.added]
    pending += [(changed.key, changed.metadata) for changed in transaction.changes.versions]
    for key, metadata in pending:
        if holds(where, metadata):
            keys.add(key)
        else:
            keys.discard(key)
    keys.difference_update(transaction.changes.removed)
    stored = transaction.find_keys(sorted(keys))
    removed = transaction.remove([record for record in stored if not _expired(transaction, record)])
    return WriteOutcome(sequence=transaction.sequence, versions=tuple(removed))


def delete_expired(transaction: RecordTransaction, keys: Iterable[int]) -> WriteOutcome:
    """Deletes records that have expired.

    Args:
        transaction: The writer's.
        keys: Of those that are due.

    Returns:
        The sequence of each deletion; those that were gone already are left out.
    """
    stored = transaction.find_keys(keys)
    removed = transaction.remove([record for record in stored if _expired(transaction, record)])
    return WriteOutcome(sequence=transaction.sequence, versions=tuple(removed))


def _standing(transaction: RecordTransaction, stored: StoredRecord | None) -> StoredRecord | None:
    """Returns where a record stands; `None` where there is none, or it has expired and is only not deleted yet."""
    return None if stored is None or _expired(transaction, stored) else stored


def _expired(transaction: RecordTransaction, stored: StoredRecord) -> bool:
    return stored.expire_us is not None and stored.expire_us <= transaction.now_us


def _version_error(identifier: bytes, stored: StoredRecord, if_version: int | None) -> VersionMismatch:
    name = identifier.decode("utf-8")
    state = f"is at version {stored.version}" if stored.version else "does not exist (version 0)"
    return VersionMismatch(
        f"record {name!r} {state}, the write expects version {if_version}; read it again and decide anew",
        record_id=name,
        stored_version=stored.version,
        if_version=if_version,
    )
