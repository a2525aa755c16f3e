"""Puts an encoder together from a bundle's parts, under the names its contents give it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from models.bundle.encoder import EncoderInfo, Modality
from models.bundle.errors import BundleError
from models.bundle.identity import (
    MIN_SHARED_COSINE,
    compute_fingerprint,
    compute_own_space,
    compute_space,
    digest_preprocessing,
    digest_tokenizer,
)
from models.bundle.image_encoder import IMAGE_INPUT, IMAGE_OUTPUT, OnnxImageEncoder
from models.bundle.manifest import EncoderEntry, Manifest
from models.bundle.preprocessing import ImagePreprocessing
from models.bundle.session import OnnxSession
from models.bundle.strict_json import parse_json
from models.bundle.text_encoder import TEXT_INPUTS, TEXT_OUTPUT, OnnxTextEncoder
from models.bundle.tokens import TOKENIZER_FILE, Tokenizer

__all__ = [
    "PREPROCESSOR_FILE",
    "Identity",
    "assemble_encoder",
    "check_identity",
    "digest_preparation",
    "identify",
    "read_preprocessing",
]

PREPROCESSOR_FILE: Final = "preprocessor_config.json"


@dataclass(frozen=True, slots=True)
class Identity:
    """What a graph's vectors are stamped with."""

    space: str
    fingerprint: str


def identify(manifest: Manifest, entry: EncoderEntry, precision: str, *, golden_cosine: float) -> Identity:
    """Names what one graph makes, given how near it came to the golden vectors.

    Args:
        manifest: For the graph's hash.
        entry: The encoder.
        precision: Which of its graphs.
        golden_cosine: Smallest golden cosine, measured where the graph runs.

    Returns:
        Space and fingerprint; a quantised graph below 0.99 is a space of its own.
    """
    graph_sha256 = manifest.files[entry.graphs[precision].file].sha256
    shares = precision == "fp32" or golden_cosine >= MIN_SHARED_COSINE
    space = entry.space if shares else compute_own_space(space=entry.space, graph_sha256=graph_sha256)
    fingerprint = compute_fingerprint(
        space=space,
        precision=precision,
        graph_sha256=graph_sha256,
        query_prompt=entry.prompts.query,
        limits=asdict(entry.limits),
    )
    return Identity(space, fingerprint)


def digest_preparation(folder: Path, modality: Modality) -> str:
    """Returns the hash of how the bundle prepares its inputs.

    Args:
        folder: The bundle's folder.
        modality: Chooses `tokenizer.json` or `preprocessor_config.json`.

    Returns:
        The sha256 in hexadecimal.

    Raises:
        BundleError: The file cannot be read.
    """
    try:
        if modality is Modality.TEXT:
            return digest_tokenizer((folder / TOKENIZER_FILE).read_text(encoding="utf-8"))
        return digest_preprocessing(read_preprocessing(folder))
    except (OSError, ValueError) as error:
        raise BundleError(str(error)) from error


def check_identity(folder: Path, manifest: Manifest, entry: EncoderEntry) -> None:
    """Computes an encoder's space and fingerprints again from what the bundle holds.

    Args:
        folder: The bundle's folder.
        manifest: For the graphs' hashes.
        entry: The encoder.

    Raises:
        BundleError: They are not those recorded.
    """
    preparation = TOKENIZER_FILE if entry.modality is Modality.TEXT else PREPROCESSOR_FILE
    space = compute_space(
        tensors_sha256=entry.tensors_sha256,
        preprocessing_sha256=digest_preparation(folder, entry.modality),
        pooling=entry.pooling,
        document_prompt=entry.prompts.document,
    )
    if space != entry.space:
        raise BundleError(
            f"the space of its {entry.modality} encoder is {space}, not {entry.space} as recorded: {preparation}, "
            "the pooling or the document prompt is not the one it was exported with"
        )
    for precision, graph in entry.graphs.items():
        found = identify(manifest, entry, precision, golden_cosine=graph.golden_cosine).fingerprint
        if found != graph.fingerprint:
            raise BundleError(
                f"the fingerprint of its {precision} graph is {found}, not {graph.fingerprint} as recorded: the graph, "
                "the query prompt or a limit is not the one it was exported with"
            )


def assemble_encoder(
    folder: Path, manifest: Manifest, entry: EncoderEntry, *, precision: str, threads: int
) -> OnnxTextEncoder | OnnxImageEncoder:
    """Opens one graph with its preparation, under the identity recorded at export.

    Args:
        folder: The bundle's folder.
        manifest: Name and version.
        entry: The encoder.
        precision: Which of its graphs.
        threads: Threads of one call.

    Returns:
        The encoder, not yet checked.

    Raises:
        BundleError: A part cannot be read, or the graph has other inputs and outputs.
    """
    graph = entry.graphs[precision]
    session = OnnxSession(folder / graph.file, threads=threads)
    info = _describe(manifest, entry, precision)
    try:
        if entry.modality is Modality.TEXT:
            _require_ports(session, graph.file, set(TEXT_INPUTS), TEXT_OUTPUT)
            return OnnxTextEncoder(session, Tokenizer.load(folder), info=info, prompts=entry.prompts)
        _require_ports(session, graph.file, {IMAGE_INPUT}, IMAGE_OUTPUT)
        return OnnxImageEncoder(session, read_preprocessing(folder), info=info)
    except (OSError, ValueError) as error:
        raise BundleError(str(error)) from error


def read_preprocessing(folder: Path) -> ImagePreprocessing:
    """Reads a folder's `preprocessor_config.json`.

    Args:
        folder: The folder.

    Returns:
        What it asks for.

    Raises:
        ValueError: It is damaged, or asks for what is not supported.
    """
    text = (folder / PREPROCESSOR_FILE).read_text(encoding="utf-8")
    try:
        return ImagePreprocessing.from_config(parse_json(text, PREPROCESSOR_FILE))
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{PREPROCESSOR_FILE} is damaged: {error!r}") from error


def _describe(manifest: Manifest, entry: EncoderEntry, precision: str) -> EncoderInfo:
    identity = identify(manifest, entry, precision, golden_cosine=entry.graphs[precision].golden_cosine)
    return EncoderInfo(
        name=manifest.name,
        version=manifest.version,
        modality=entry.modality,
        dimension=entry.dimension,
        metric=entry.metric,
        space=identity.space,
        fingerprint=identity.fingerprint,
        precision=precision,
        max_tokens=entry.limits.max_tokens,
        image_size_px=entry.limits.image_size_px,
        truncatable_dimensions=entry.truncatable_dimensions,
    )


def _require_ports(session: OnnxSession, file: str, inputs: set[str], output: str) -> None:
    if set(session.inputs) != inputs or output not in session.outputs:
        raise BundleError(
            f"'{file}' takes {', '.join(session.inputs)} and gives {', '.join(session.outputs)}; "
            f"it must take {', '.join(sorted(inputs))} and give {output}"
        )
