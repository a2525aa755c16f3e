"""Whether a bundle's files are those it was sealed with."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from models.bundle.identity import digest_file
from models.bundle.manifest import MANIFEST_FILE, Manifest

__all__ = ["find_file_faults"]


def find_file_faults(folder: Path, manifest: Manifest) -> Iterator[str]:
    """Compares the folder with the manifest's list of files; the cheap checks come first.

    Args:
        folder: The bundle's folder.
        manifest: What it must hold.

    Yields:
        One sentence per fault: a file missing, left over, reached through a link, of another size or content.
    """
    root = folder.resolve()
    for path in sorted(_present(folder) - set(manifest.files)):
        yield f"the file '{path}' is not part of the bundle; remove it"
    sound: list[str] = []
    for path, entry in sorted(manifest.files.items()):
        file = folder / path
        if not file.is_file():
            yield f"the file '{path}' is missing; copy or export the bundle again"
        elif not file.resolve().is_relative_to(root):
            yield f"the file '{path}' is a link that leaves the bundle's folder; copy the file itself into it"
        elif file.stat().st_size != entry.size_bytes:
            size = file.stat().st_size
            yield f"the file '{path}' has {size:,} bytes, not {entry.size_bytes:,}; copy or export the bundle again"
        else:
            sound.append(path)
    for path in sound:
        if digest_file(folder / path) != manifest.files[path].sha256:
            yield f"the file '{path}' was changed: its sha256 does not match; copy or export the bundle again"


def _present(folder: Path) -> set[str]:
    files = {
        file.relative_to(folder).as_posix() for file in folder.rglob("*") if not file.is_dir() or file.is_symlink()
    }
    return files - {MANIFEST_FILE}
