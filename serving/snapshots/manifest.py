"""What a snapshot says of itself."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Any

from serving.collections.definition import check_spec, spec_from_json, spec_to_json
from serving.collections.types import CollectionSpec
from serving.errors import Corrupted, FailedPrecondition, InvalidInput

__all__ = [
    "MANIFEST_FILE",
    "RECORDS_FILE",
    "SNAPSHOT_FORMAT",
    "FileSeal",
    "SnapshotInfo",
    "SnapshotManifest",
    "check_snapshot_name",
]

SNAPSHOT_FORMAT = 1
MANIFEST_FILE = "manifest.json"
RECORDS_FILE = "records.sqlite"
_NAME = re.compile(r"[a-z][a-z0-9-]{0,126}")


@dataclass(frozen=True, kw_only=True, slots=True)
class FileSeal:
    """What a file must be."""

    size_bytes: int
    sha256: str
    """Lower-case hexadecimal."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SnapshotManifest:
    """The contents of `manifest.json`."""

    spec: CollectionSpec
    """The collection as it was."""
    uid: str
    """Its uid; what is restored gets one of its own."""
    sequence: int
    record_count: int
    create_time: datetime
    files: Mapping[str, FileSeal]
    """By name; beside the manifest itself."""
    text: bytes = b""
    """The bytes it was read from, which its seal covers; empty for a new one."""

    def to_json(self) -> bytes:
        """Returns the manifest as it is stored: the bytes it was read from, where it was."""
        if self.text:
            return self.text
        fields = {
            "format": SNAPSHOT_FORMAT,
            "collection": json.loads(spec_to_json(self.spec)),
            "uid": self.uid,
            "sequence": self.sequence,
            "record_count": self.record_count,
            "create_time": self.create_time.isoformat(),
            "files": {name: asdict(seal) for name, seal in self.files.items()},
        }
        return json.dumps(fields, indent=1, sort_keys=True).encode("utf-8")

    @classmethod
    def from_json(cls, data: bytes) -> SnapshotManifest:
        """Reads what `to_json` wrote.

        Args:
            data: Bytes from a file, or from whoever uploads.

        Returns:
            The manifest.

        Raises:
            FailedPrecondition: A newer diptych wrote it.
            Corrupted: It is none.
        """
        try:
            fields = json.loads(data)
            found = int(fields["format"])
            if found > SNAPSHOT_FORMAT:
                raise FailedPrecondition(
                    f"the snapshot has format {found}, this diptych reads up to {SNAPSHOT_FORMAT}; upgrade diptych",
                    found_version=found,
                    supported_version=SNAPSHOT_FORMAT,
                )
            return replace(cls._of_fields(fields), text=data)
        except (ValueError, TypeError, KeyError, AttributeError, InvalidInput) as error:
            raise Corrupted(f"the snapshot's manifest cannot be read: {error!r:.200}") from error

    @classmethod
    def _of_fields(cls, fields: Mapping[str, Any]) -> SnapshotManifest:
        spec = spec_from_json(json.dumps(fields["collection"]))
        check_spec(spec)
        files = {name: FileSeal(**seal) for name, seal in fields["files"].items()}
        if set(files) != {RECORDS_FILE} or not all(_is_seal(seal) for seal in files.values()):
            raise ValueError(f"it names the files {sorted(files)}, not {RECORDS_FILE}")
        return cls(
            spec=spec,
            uid=str(fields["uid"]),
            sequence=int(fields["sequence"]),
            record_count=int(fields["record_count"]),
            create_time=datetime.fromisoformat(fields["create_time"]).astimezone(UTC),
            files=files,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class SnapshotInfo:
    """A snapshot as callers see it."""

    name: str
    collection: str
    """The collection it was taken of."""
    sequence: int
    record_count: int
    size_bytes: int
    """Of its archive: the form in which it travels."""
    sha256: str
    """Of its archive."""
    create_time: datetime


def check_snapshot_name(name: str) -> None:
    """Refuses a name that no snapshot can have; what passes is a safe name of a folder.

    Args:
        name: As sent.

    Raises:
        InvalidInput: It has other characters than a snapshot's name.
    """
    if not _NAME.fullmatch(name):
        raise InvalidInput(
            f"snapshot name {name!r:.80} must be 1 to 127 characters of a-z, 0-9 and '-', beginning with a letter",
            name=name[:80],
        )


def _is_seal(seal: FileSeal) -> bool:
    return seal.size_bytes >= 0 and re.fullmatch("[0-9a-f]{64}", seal.sha256) is not None
