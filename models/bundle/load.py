"""Opens a bundle for use: nothing is returned before it has proved itself on this machine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from models.bundle.assemble import assemble_encoder, check_identity, identify
from models.bundle.encoder import Encoder
from models.bundle.errors import BundleError
from models.bundle.golden import find_agreement_fault, measure_agreement, read_golden
from models.bundle.integrity import find_file_faults
from models.bundle.manifest import EncoderEntry, Manifest, read_manifest

__all__ = ["Bundle", "BundleError", "load_bundle"]

# Enough to see a batch change an input, and quick to start with; `verify_bundle` runs every form.
_ALONE_AT_LOAD: Final = 3
_BATCH_AT_LOAD: Final = 4


@dataclass(frozen=True, slots=True)
class Bundle:
    """A bundle ready to embed."""

    path: Path
    manifest: Manifest
    encoders: Mapping[str, Encoder]
    """By modality: `text`, `image`."""


def load_bundle(path: Path, *, precision: str = "fp32", threads: int = 1, verify: bool = True) -> Bundle:
    """Opens a bundle and checks it: files, identity, and golden inputs through this machine's runtime.

    Args:
        path: The bundle's folder.
        precision: Which graph: `fp32` or `int8`.
        threads: Threads that one call of a graph uses, at least 1.
        verify: Whether contents are hashed and golden inputs run; without it only the manifest is read strictly.

    Returns:
        The bundle.

    Raises:
        BundleError: It is incomplete, damaged, of another format, or computes something else here.
        ValueError: `threads` is below 1.
    """
    folder = Path(path)
    manifest = read_manifest(folder)
    try:
        if verify:
            _refuse_first_fault(folder, manifest)
        encoders = {
            str(entry.modality): _open(folder, manifest, entry, precision=precision, threads=threads, verify=verify)
            for entry in manifest.encoders
        }
    except BundleError as error:
        raise BundleError(f"bundle '{folder}' is refused: {error}") from error
    return Bundle(folder, manifest, encoders)


def _refuse_first_fault(folder: Path, manifest: Manifest) -> None:
    for fault in find_file_faults(folder, manifest):
        raise BundleError(fault)


def _open(
    folder: Path, manifest: Manifest, entry: EncoderEntry, *, precision: str, threads: int, verify: bool
) -> Encoder:
    if precision not in entry.graphs:
        have = ", ".join(sorted(entry.graphs))
        raise BundleError(f"it has no {precision} graph, only {have}; export it again with --precision {precision}")
    encoder = assemble_encoder(folder, manifest, entry, precision=precision, threads=threads)
    if not verify:
        return encoder
    check_identity(folder, manifest, entry)
    golden = read_golden(folder, entry)
    agreement = measure_agreement(encoder, golden, batch_sizes=(_BATCH_AT_LOAD,), alone=_ALONE_AT_LOAD)
    fault = find_agreement_fault(entry, precision, agreement)
    if fault is not None:
        raise BundleError(fault)
    # A processor may saturate in int8 where the exporting one did not: vectors are named by what this one computes.
    identity = identify(manifest, entry, precision, golden_cosine=agreement.golden_cosine)
    return encoder.with_info(replace(encoder.info, space=identity.space, fingerprint=identity.fingerprint))
