"""The Open Inference Protocol v2, as Triton, KServe and others speak it: each encoder is a model.

A text encoder's input is `text`, an image encoder's `image`: BYTES, `[n]` or `[n, 1]`, UTF-8 or an encoded image file.
Its outputs are `embeddings`, `[n, dimension]`, and for texts `token_count`, `[n]`; beside int8 embeddings stand their
`scales`, `[n]`. The protocol has no status for an item: one that cannot be embedded fails its request.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from grpc import aio
from numpy.typing import NDArray

from diptych.v1 import tensor_pb2
from diptych.version import __version__
from models.bundle.encoder import EncoderInfo, Modality, Purpose
from serving.backend import Backend
from serving.embedding import EmbedOptions, check_output_dimension, embed, shorten
from serving.encoders.request import EmbedOutcome
from serving.encoders.state import EncoderPhase
from serving.errors import InvalidInput, ServingError
from serving.rpc.limits import check_batch_size, check_reply_bytes
from serving.rpc.protocols.descriptors import message_class
from serving.rpc.stamps import deadline_of
from serving.rpc.tensor import encode_vectors
from serving.telemetry.call import note_call

__all__ = ["OpenInferenceServicer"]

Context = aio.ServicerContext[Any, Any]
# Messages of a pool of our own have no types.
Message = Any

_PURPOSES = {"document": Purpose.DOCUMENT, "passage": Purpose.DOCUMENT, "query": Purpose.QUERY}
_TRUNCATES = {"END": True, "NONE": False}
_PARAMETERS = ("input_type", "truncate", "dimensions", "embedding_type")
_DATATYPES = {"float": "FP32", "float16": "FP16", "int8": "INT8", "binary": "INT8", "ubinary": "UINT8"}
"""By `embedding_type`."""
_ENCODINGS = {
    "float": tensor_pb2.D_TYPE_FLOAT32,
    "float16": tensor_pb2.D_TYPE_FLOAT16,
    "int8": tensor_pb2.D_TYPE_INT8,
    "binary": tensor_pb2.D_TYPE_BINARY,
    "ubinary": tensor_pb2.D_TYPE_BINARY,
}
_ANY = -1
"""A size that is free."""


class OpenInferenceServicer:
    """Answers over the backend's encoders.

    Args:
        backend: What it stands on.
    """

    def __init__(self, backend: Backend) -> None:
        self._pool = backend.pool

    def behaviours(self) -> Mapping[str, Callable[[Any, Any], Any]]:
        """Returns the methods by their names."""
        return {
            "ServerLive": self._server_live,
            "ServerReady": self._server_ready,
            "ModelReady": self._model_ready,
            "ServerMetadata": self._server_metadata,
            "ModelMetadata": self._model_metadata,
            "ModelInfer": self._model_infer,
        }

    async def _server_live(self, _request: Message, _context: Context) -> Message:
        """Says that the process answers."""
        return message_class("inference.ServerLiveResponse")(live=True)

    async def _server_ready(self, _request: Message, _context: Context) -> Message:
        """Says whether every encoder was loaded or refused, and one answers."""
        phases = [state.phase for state in self._pool.roster.states().values()]
        ready = EncoderPhase.SERVING in phases and EncoderPhase.LOADING not in phases
        return message_class("inference.ServerReadyResponse")(ready=ready)

    async def _model_ready(self, request: Message, _context: Context) -> Message:
        """Says whether an encoder answers; one that is not there does not."""
        state = self._pool.roster.names().get(_reference(request.name, request.version))
        ready = state is not None and state.phase is EncoderPhase.SERVING
        return message_class("inference.ModelReadyResponse")(ready=ready)

    async def _server_metadata(self, _request: Message, _context: Context) -> Message:
        """Names the server."""
        return message_class("inference.ServerMetadataResponse")(name="diptych", version=__version__)

    async def _model_metadata(self, request: Message, _context: Context) -> Message:
        """Describes an encoder and its tensors."""
        info = self._find(request.name, request.version)
        tensor = message_class("inference.ModelMetadataResponse.TensorMetadata")
        outputs = [tensor(name="embeddings", datatype="FP32", shape=[_ANY, info.dimension])]
        if info.modality is Modality.TEXT:
            outputs.append(tensor(name="token_count", datatype="INT32", shape=[_ANY]))
        return message_class("inference.ModelMetadataResponse")(
            name=info.name,
            versions=[one.version for one in self._pool.roster.infos() if one.name == info.name],
            platform="onnxruntime_onnx",
            inputs=[tensor(name=_input_name(info), datatype="BYTES", shape=[_ANY, 1])],
            outputs=outputs,
            properties={
                "fingerprint": info.fingerprint,
                "space": info.space,
                "precision": info.precision,
                "metric": info.metric,
                "modality": str(info.modality),
            },
        )

    async def _model_infer(self, request: Message, context: Context) -> Message:
        """Embeds a batch."""
        info = self._find(request.model_name, request.model_version)
        items = _items(request, info)
        note_call(items=len(items))
        parameters = _read_parameters(request.parameters)
        kind = _choice(parameters, "embedding_type", {name: name for name in _DATATYPES}, "float")
        dimension = int(parameters.get("dimensions", 0))
        check_output_dimension(info, dimension)
        check_reply_bytes(len(items) * 4 * (dimension or info.dimension))
        options = EmbedOptions(
            purpose=_choice(parameters, "input_type", _PURPOSES, "document"),
            truncate=_choice(parameters, "truncate", _TRUNCATES, "END"),
            deadline_s=deadline_of(context),
        )
        name = _reference(request.model_name, request.model_version)
        outcome = await embed(self._pool, name, items, options)
        if outcome.errors:
            raise _refused(outcome.errors)
        tensors = _tensors(outcome, dimension, kind)
        return _reply(request, info, _wanted(tensors, [output.name for output in request.outputs]))

    def _find(self, name: str, version: str) -> EncoderInfo:
        return self._pool.roster.resolve(_reference(name, version))


def _reference(name: str, version: str) -> str:
    return f"{name}@{version}" if version else name


def _input_name(info: EncoderInfo) -> str:
    return "text" if info.modality is Modality.TEXT else "image"


def _items(request: Message, info: EncoderInfo) -> list[str | bytes]:
    """Reads the one input of a request, raw or typed."""
    wanted = _input_name(info)
    if [tensor.name for tensor in request.inputs] != [wanted]:
        got = ", ".join(tensor.name for tensor in request.inputs) or "none"
        raise InvalidInput(f"encoder '{info.name}' has one input, '{wanted}'; the request has: {got}", inputs=got)
    [tensor] = request.inputs
    shape = list(tensor.shape)
    if tensor.datatype != "BYTES" or len(shape) not in (1, 2) or shape[1:] not in ([], [1]):
        raise InvalidInput(
            f"input '{wanted}' must be BYTES of shape [n] or [n, 1]; it is {tensor.datatype} of {shape}", shape=shape
        )
    elements = _elements(request, tensor)
    if len(elements) != math.prod(shape):
        raise InvalidInput(f"input '{wanted}' has {len(elements)} elements and the shape {shape}", shape=shape)
    check_batch_size(len(elements), field="elements")
    if info.modality is Modality.IMAGE:
        return list(elements)
    return [_text(element, index) for index, element in enumerate(elements)]


def _elements(request: Message, tensor: Message) -> list[bytes]:
    typed, raw = list(tensor.contents.bytes_contents), list(request.raw_input_contents)
    if typed and raw:
        raise InvalidInput("an input is sent in raw_input_contents or in contents, not in both")
    if not raw:
        return typed
    if len(raw) != len(request.inputs):
        raise InvalidInput(f"raw_input_contents ({len(raw)}) must be as many as inputs ({len(request.inputs)})")
    return _split_bytes(raw[0])


def _split_bytes(raw: bytes) -> list[bytes]:
    """Takes BYTES elements apart: each is its length in four bytes, little-endian, and then itself."""
    elements: list[bytes] = []
    place = 0
    while place < len(raw):
        if place + 4 > len(raw):
            raise InvalidInput(f"raw_input_contents ends within the length of element {len(elements)}")
        [length] = struct.unpack_from("<I", raw, place)
        place += 4
        if place + length > len(raw):
            raise InvalidInput(
                f"element {len(elements)} of raw_input_contents says it has {length} bytes, "
                f"and {len(raw) - place} are left"
            )
        elements.append(raw[place : place + length])
        place += length
    return elements


def _text(element: bytes, index: int) -> str:
    try:
        return element.decode()
    except UnicodeDecodeError as error:
        raise InvalidInput(f"element {index} of input 'text' is not UTF-8: {error.reason}", index=index) from error


def _read_parameters(parameters: Mapping[str, Message]) -> dict[str, Any]:
    unknown = sorted(set(parameters) - set(_PARAMETERS))
    if unknown:
        raise InvalidInput(
            f"parameter '{unknown[0]}' is none that this server knows; there are {', '.join(_PARAMETERS)}",
            parameter=unknown[0],
        )
    return {name: getattr(value, value.WhichOneof("parameter_choice") or "", "") for name, value in parameters.items()}


def _choice(parameters: Mapping[str, Any], name: str, choices: Mapping[str, Any], default: str) -> Any:
    value = parameters.get(name, default)
    if value not in choices:
        raise InvalidInput(f"{name} ('{value}') must be one of {', '.join(choices)}", parameter=name)
    return choices[value]


def _refused(errors: Mapping[int, ServingError]) -> InvalidInput:
    first = min(errors)
    error = InvalidInput(f"{len(errors)} inputs cannot be embedded, the first is {first}: {errors[first].message}")
    error.item_errors = errors
    return error


def _tensors(outcome: EmbedOutcome, dimension: int, kind: str) -> dict[str, tuple[str, Sequence[int], bytes]]:
    """Returns datatype, shape and bytes of each output by its name."""
    vectors = shorten(outcome.vectors, dimension)
    packed = encode_vectors(vectors, _ENCODINGS[kind])
    data, width = packed.data, vectors.shape[1]
    if kind in ("binary", "ubinary"):
        width = math.ceil(width / 8)
    if kind == "binary":
        # As NVIDIA's and Cohere's services have it: the same bits, as a signed number.
        data = (np.frombuffer(data, np.uint8).astype(np.int16) - 128).astype(np.int8).tobytes()
    found: dict[str, tuple[str, Sequence[int], bytes]] = {"embeddings": (_DATATYPES[kind], [len(vectors), width], data)}
    if kind == "int8":
        found["scales"] = ("FP32", [len(vectors)], np.asarray(packed.row_scales, "<f4").tobytes())
    if outcome.info.modality is Modality.TEXT:
        counts: NDArray[np.int32] = np.asarray(outcome.token_counts, "<i4")
        found["token_count"] = ("INT32", [len(vectors)], counts.tobytes())
    return found


def _wanted(
    tensors: dict[str, tuple[str, Sequence[int], bytes]], names: Sequence[str]
) -> dict[str, tuple[str, Sequence[int], bytes]]:
    unknown = [name for name in names if name not in tensors]
    if unknown:
        raise InvalidInput(f"there is no output '{unknown[0]}'; there are {', '.join(tensors)}", output=unknown[0])
    return {name: tensors[name] for name in names} if names else tensors


def _reply(request: Message, info: EncoderInfo, tensors: Mapping[str, tuple[str, Sequence[int], bytes]]) -> Message:
    tensor = message_class("inference.ModelInferResponse.InferOutputTensor")
    parameter = message_class("inference.InferParameter")
    return message_class("inference.ModelInferResponse")(
        model_name=info.name,
        model_version=info.version,
        id=request.id,
        parameters={
            "fingerprint": parameter(string_param=info.fingerprint),
            "space": parameter(string_param=info.space),
        },
        outputs=[tensor(name=name, datatype=kind, shape=shape) for name, (kind, shape, _) in tensors.items()],
        # Raw alone: tritonclient reads nothing else.
        raw_output_contents=[data for _, _, data in tensors.values()],
    )
