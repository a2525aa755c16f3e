from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

import grpc
import numpy as np
import pytest

from tests.serving.fake_encoders import DIMENSION, FakeEncoder, vector_of
from tests.serving.rpc.protocols.calls import call, message
from tests.serving.running_server import running_server

SERVICE = "inference.GRPCInferenceService"
TEXTS = ["a river", "a singer of songs"]


def pack(elements: Sequence[bytes]) -> bytes:
    return b"".join(struct.pack("<I", len(element)) + element for element in elements)


def tensor(name: str, shape: Sequence[int], *, datatype: str = "BYTES", typed: Sequence[bytes] = ()) -> Any:
    contents = message("inference.InferTensorContents")(bytes_contents=typed) if typed else None
    kind = message("inference.ModelInferRequest.InferInputTensor")
    return kind(name=name, datatype=datatype, shape=shape, contents=contents)


def parameters(**values: str | int) -> dict[str, Any]:
    kind = message("inference.InferParameter")
    return {
        name: kind(string_param=value) if isinstance(value, str) else kind(int64_param=value)
        for name, value in values.items()
    }


def infer(channel: grpc.Channel, texts: Sequence[str] = TEXTS, **fields: Any) -> Any:
    request = {
        "model_name": "words",
        "inputs": [tensor("text", [len(texts), 1])],
        "raw_input_contents": [pack([text.encode() for text in texts])],
    }
    return call(channel, SERVICE, "ModelInfer", **(request | fields))


def outputs(reply: Any) -> dict[str, tuple[str, list[int], bytes]]:
    pairs = zip(reply.outputs, reply.raw_output_contents, strict=True)
    return {output.name: (output.datatype, list(output.shape), raw) for output, raw in pairs}


def refused(channel: grpc.Channel, **fields: Any) -> grpc.Call:
    with pytest.raises(grpc.RpcError) as caught:
        infer(channel, **fields)
    found: Any = caught.value
    assert found.code() is grpc.StatusCode.INVALID_ARGUMENT, found
    return found  # type: ignore[no-any-return]  # grpc's error is a call


def test_server_and_models_say_whether_they_answer(channel: grpc.Channel) -> None:
    assert call(channel, SERVICE, "ServerLive").live
    assert call(channel, SERVICE, "ServerReady").ready
    assert call(channel, SERVICE, "ModelReady", name="words").ready
    assert not call(channel, SERVICE, "ModelReady", name="nobody").ready
    assert call(channel, SERVICE, "ServerMetadata").name == "diptych"


def test_a_server_is_live_and_not_ready_while_it_loads(tmp_path: Any) -> None:
    with (
        running_server(tmp_path, [FakeEncoder("words")], wait=False, hold_loading=True) as running,
        grpc.insecure_channel(running.address) as channel,
    ):
        assert call(channel, SERVICE, "ServerLive").live
        assert not call(channel, SERVICE, "ServerReady").ready
        assert not call(channel, SERVICE, "ModelReady", name="words").ready


def test_a_model_describes_its_tensors(channel: grpc.Channel) -> None:
    found = call(channel, SERVICE, "ModelMetadata", name="words")
    assert [(one.name, one.datatype, list(one.shape)) for one in found.inputs] == [("text", "BYTES", [-1, 1])]
    assert [(one.name, one.datatype, list(one.shape)) for one in found.outputs] == [
        ("embeddings", "FP32", [-1, DIMENSION]),
        ("token_count", "INT32", [-1]),
    ]
    assert found.properties["fingerprint"] == "fingerprint-of-words"
    assert found.properties["space"] == "space-of-words"
    assert [one.name for one in call(channel, SERVICE, "ModelMetadata", name="pictures").inputs] == ["image"]


@pytest.mark.parametrize("shape", [[2], [2, 1]])
def test_texts_come_raw_or_typed(channel: grpc.Channel, shape: list[int]) -> None:
    raw = infer(channel, inputs=[tensor("text", shape)], id="mine")
    typed = infer(
        channel, inputs=[tensor("text", shape, typed=[text.encode() for text in TEXTS])], raw_input_contents=[]
    )

    for reply in (raw, typed):
        found = outputs(reply)
        kind, sizes, data = found["embeddings"]
        assert (kind, sizes) == ("FP32", [2, DIMENSION])
        np.testing.assert_array_equal(
            np.frombuffer(data, "<f4").reshape(sizes), np.stack([vector_of(text) for text in TEXTS])
        )
        assert np.frombuffer(found["token_count"][2], "<i4").tolist() == [2, 4]
        assert not any(output.HasField("contents") for output in reply.outputs)
    assert (raw.id, raw.model_name, raw.model_version) == ("mine", "words", "1")
    assert raw.parameters["fingerprint"].string_param == "fingerprint-of-words"


def test_images_are_the_bytes_of_their_files(channel: grpc.Channel) -> None:
    pictures = [b"IMG one", b"IMG two"]
    reply = infer(channel, model_name="pictures", inputs=[tensor("image", [2, 1])], raw_input_contents=[pack(pictures)])
    found = outputs(reply)
    assert set(found) == {"embeddings"}
    np.testing.assert_array_equal(
        np.frombuffer(found["embeddings"][2], "<f4").reshape(2, -1), np.stack([vector_of(one) for one in pictures])
    )


def test_vectors_come_in_other_encodings(channel: grpc.Channel) -> None:
    rows = np.stack([vector_of(text) for text in TEXTS])

    kind, sizes, data = outputs(infer(channel, parameters=parameters(embedding_type="float16")))["embeddings"]
    assert (kind, sizes) == ("FP16", [2, DIMENSION])
    np.testing.assert_array_equal(np.frombuffer(data, "<f2").reshape(sizes), rows.astype(np.float16))

    found = outputs(infer(channel, parameters=parameters(embedding_type="int8")))
    codes = np.frombuffer(found["embeddings"][2], np.int8).reshape(2, DIMENSION)
    scales = np.frombuffer(found["scales"][2], "<f4")
    assert (found["embeddings"][0], found["scales"][:2]) == ("INT8", ("FP32", [2]))
    np.testing.assert_allclose(codes * scales[:, None], rows, atol=0.005)

    bits = np.packbits(rows > 0, axis=1)
    kind, sizes, data = outputs(infer(channel, parameters=parameters(embedding_type="ubinary")))["embeddings"]
    assert (kind, sizes, data) == ("UINT8", [2, 1], bits.tobytes())
    kind, sizes, data = outputs(infer(channel, parameters=parameters(embedding_type="binary")))["embeddings"]
    assert (kind, np.frombuffer(data, np.int8).tolist()) == ("INT8", (bits.astype(int) - 128).ravel().tolist())


def test_vectors_are_cut_where_the_encoder_allows_it(channel: grpc.Channel) -> None:
    kind, sizes, data = outputs(infer(channel, parameters=parameters(dimensions=4)))["embeddings"]
    rows = np.stack([vector_of(text) for text in TEXTS])[:, :4]
    assert (kind, sizes) == ("FP32", [2, 4])
    np.testing.assert_allclose(
        np.frombuffer(data, "<f4").reshape(sizes), rows / np.linalg.norm(rows, axis=1, keepdims=True), rtol=1e-6
    )
    assert "must be one of 4, 8" in str(refused(channel, parameters=parameters(dimensions=5)))


def test_outputs_are_those_asked_for(channel: grpc.Channel) -> None:
    wanted = message("inference.ModelInferRequest.InferRequestedOutputTensor")
    assert list(outputs(infer(channel, outputs=[wanted(name="token_count")]))) == ["token_count"]
    error = refused(channel, outputs=[wanted(name="logits")])
    assert "there is no output 'logits'; there are embeddings, token_count" in str(error)


def test_long_texts_are_cut_unless_the_request_says_otherwise(channel: grpc.Channel) -> None:
    long = ["one two three four five six seven eight"]
    assert np.frombuffer(outputs(infer(channel, long))["token_count"][2], "<i4").tolist() == [6]
    error = refused(channel, texts=long, parameters=parameters(truncate="NONE"))
    assert "1 inputs cannot be embedded, the first is 0:" in str(error)
    assert "truncate ('START') must be one of END, NONE" in str(
        refused(channel, parameters=parameters(truncate="START"))
    )


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"inputs": []}, "has one input, 'text'; the request has: none"),
        ({"inputs": [tensor("words", [2])]}, "has one input, 'text'; the request has: words"),
        ({"inputs": [tensor("text", [2], datatype="FP32")]}, "must be BYTES of shape"),
        ({"inputs": [tensor("text", [1, 2])]}, "must be BYTES of shape"),
        ({"inputs": [tensor("text", [3])]}, "has 2 elements and the shape [3]"),
        ({"inputs": [tensor("text", [2], typed=[b"a", b"b"])]}, "not in both"),
        ({"raw_input_contents": [pack([b"a", b"b"]), b""]}, "raw_input_contents (2) must be as many as inputs (1)"),
        ({"raw_input_contents": [pack([b"a"]) + b"\x01\x00"]}, "ends within the length of element 1"),
        (
            {"raw_input_contents": [struct.pack("<I", 99) + b"a"]},
            "element 0 of raw_input_contents says it has 99",
        ),
        ({"raw_input_contents": [pack([b"a", b"\xff"])]}, "element 1 of input 'text' is not UTF-8"),
        ({"parameters": parameters(dimension=4)}, "parameter 'dimension' is none that this server knows"),
        ({"parameters": parameters(embedding_type="int4")}, "embedding_type ('int4') must be one of float"),
        ({"inputs": [tensor("text", [0])], "raw_input_contents": []}, "a request needs at least one item"),
    ],
)
def test_a_request_that_cannot_be_read_is_told_why(channel: grpc.Channel, fields: dict[str, Any], told: str) -> None:
    assert told in str(refused(channel, **fields))


def test_an_unknown_model_or_version_is_not_found(channel: grpc.Channel) -> None:
    for fields in ({"model_name": "nobody"}, {"model_version": "7"}):
        with pytest.raises(grpc.RpcError) as caught:
            infer(channel, **fields)
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND
