from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc
import numpy as np
import pytest

from diptych.client.errors import InvalidArgumentError, NotFoundError, PreconditionError
from diptych.client.sync import Client
from diptych.v1 import embedding_pb2, encoder_service_pb2, encoder_service_pb2_grpc
from tests.serving.fake_encoders import FakeEncoder, vector_of
from tests.serving.running_server import RunningServer


def test_texts_come_back_in_order_with_who_made_them(client: Client) -> None:
    found = client.embed(["a b", "c"], encoder="words")
    np.testing.assert_array_equal(found.vectors, [vector_of("a b"), vector_of("c")])
    assert found.token_counts.tolist() == [2, 1]
    assert (found.encoder, found.version) == ("words", "1")
    assert (found.space, found.fingerprint) == ("space-of-words", "fingerprint-of-words")
    assert found.queue_s >= 0
    assert found.compute_s > 0


def test_the_encoder_is_found_by_what_is_sent(client: Client) -> None:
    assert client.embed(["a"]).encoder == "words"
    assert client.embed(images=[b"IMG a"]).encoder == "pictures"


def test_one_bad_image_of_three_is_one_error_and_two_vectors(client: Client) -> None:
    found = client.embed(images=[b"IMG a", b"broken", b"IMG b"], allow_partial=True)
    np.testing.assert_array_equal(found.vectors, [vector_of(b"IMG a"), np.zeros(8), vector_of(b"IMG b")])
    assert list(found.errors) == [1]
    assert (found.errors[1].code, found.errors[1].reason) == ("INVALID_ARGUMENT", "UNDECODABLE_IMAGE")


def test_a_client_that_takes_no_partial_result_gets_the_first_error(client: Client) -> None:
    with pytest.raises(InvalidArgumentError, match=r"item 1: these bytes are no image \(2 items failed\)"):
        client.embed(images=[b"IMG a", b"broken", b"also"])


def test_a_long_text_is_cut_and_said_to_be(client: Client) -> None:
    found = client.embed(["1 2 3 4 5 6", "1 2 3 4 5 6 7"])
    assert found.truncated.tolist() == [False, True]
    np.testing.assert_array_equal(found.vectors[0], found.vectors[1])


def test_a_long_text_is_refused_where_the_request_says_so(client: Client) -> None:
    found = client.embed(["1 2 3 4 5 6 7", "8"], truncate=False, allow_partial=True)
    assert list(found.errors) == [0]
    assert found.token_counts.tolist() == [0, 1]


def test_a_shorter_dimension_is_cut_and_made_unit_again(client: Client) -> None:
    found = client.embed(["a"], dimension=4)
    kept = vector_of("a")[:4]
    np.testing.assert_allclose(found.vectors, [kept / np.linalg.norm(kept)], rtol=1e-6)


def test_a_dimension_the_training_does_not_allow_is_refused(client: Client) -> None:
    with pytest.raises(InvalidArgumentError, match=r"output_dimension \(5\) must be one of 4, 8 for encoder 'words'"):
        client.embed(["a"], dimension=5)


def test_each_encoding_holds_the_same_vector(client: Client) -> None:
    exact = vector_of("a")
    half = client.embed(["a"], encoding="float16").vectors
    assert half.dtype == np.float16
    np.testing.assert_allclose(half[0], exact, atol=1e-3)
    coded = client.embed(["a"], encoding="int8")
    assert coded.vectors.dtype == np.int8
    assert coded.scales is not None
    np.testing.assert_allclose(coded.vectors[0] * coded.scales[0], exact, atol=float(coded.scales[0]) / 2 + 1e-7)
    bits = client.embed(["a"], encoding="binary").vectors
    np.testing.assert_array_equal(np.unpackbits(bits[0]), exact > 0)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"texts": ["a"], "encoder": "nobody"}, NotFoundError, "no encoder named 'nobody' is under the bundles folder"),
        ({"texts": ["a"], "encoder": "pictures"}, PreconditionError, "encoder 'pictures' reads image, not text"),
    ],
)
def test_a_wrong_encoder_is_refused(
    client: Client, arguments: dict[str, object], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        client.embed(**arguments)  # type: ignore[arg-type]  # as the cases give them


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ([], "a batch needs at least one input"),
        ([embedding_pb2.Input()], r"inputs\[0\] holds neither text nor image"),
        (
            [embedding_pb2.Input(text="a"), embedding_pb2.Input(image=b"IMG")],
            "input 1 is of another kind than input 0; send texts and images apart",
        ),
    ],
)
def test_a_malformed_batch_is_refused(channel: grpc.Channel, inputs: list[embedding_pb2.Input], message: str) -> None:
    stub = encoder_service_pb2_grpc.EncoderServiceStub(channel)
    with pytest.raises(grpc.RpcError, match=message) as caught:
        stub.Embed(encoder_service_pb2.EmbedRequest(inputs=inputs))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_encoders_are_listed_in_pages(channel: grpc.Channel) -> None:
    stub = encoder_service_pb2_grpc.EncoderServiceStub(channel)
    first = stub.ListEncoders(encoder_service_pb2.ListEncodersRequest(page_size=1))
    assert [one.name for one in first.encoders] == ["pictures"]
    second = stub.ListEncoders(encoder_service_pb2.ListEncodersRequest(page_token=first.next_page_token))
    assert [one.name for one in second.encoders] == ["words"]
    assert second.next_page_token == ""


@pytest.mark.parametrize(
    ("page_size", "token", "message"), [(-1, "", r"page_size \(-1\)"), (0, "no token!", "page_token is none")]
)
def test_bad_pages_are_refused(channel: grpc.Channel, page_size: int, token: str, message: str) -> None:
    stub = encoder_service_pb2_grpc.EncoderServiceStub(channel)
    with pytest.raises(grpc.RpcError, match=message):
        stub.ListEncoders(encoder_service_pb2.ListEncodersRequest(page_size=page_size, page_token=token))


def test_an_encoder_tells_what_it_is(client: Client) -> None:
    encoder = client.encoder("words")
    assert (encoder.state, encoder.modality, encoder.dimension, encoder.metric) == ("serving", "text", 8, "cosine")
    assert (encoder.max_tokens, encoder.image_size_px, encoder.truncatable_dimensions) == (6, 0, (4,))
    with pytest.raises(NotFoundError, match="nobody"):
        client.encoder("nobody")


def test_a_stream_answers_in_order(client: Client) -> None:
    batches = [[f"{index} {row}" for row in range(1 + index % 3)] for index in range(20)]
    found = list(client.embed_stream(batches, encoder="words"))
    assert len(found) == 20
    for batch, one in zip(batches, found, strict=True):
        np.testing.assert_array_equal(one.vectors, [vector_of(text) for text in batch])


def test_thousands_of_a_streams_batches_are_in_flight_and_answered_in_order(
    client: Client, words: FakeEncoder, server: RunningServer
) -> None:
    texts = [f"text {number}" for number in range(3_000)]
    words.open.clear()
    batcher = server.server._pool.roster.running()["words@1"].batcher
    before = batcher.statistics.item_count

    def batches() -> Iterator[list[str]]:
        for number, text in enumerate(texts):
            yield [text]
            if number == 2_000:  # so many are sent, and none is answered
                while len(batcher._waiting) < 1_990:
                    time.sleep(0.01)
                words.open.set()

    found = list(client.embed_stream(batches(), encoder="words"))
    for text, embeddings in zip(texts, found, strict=True):
        np.testing.assert_array_equal(embeddings.vectors[0], vector_of(text))
    assert batcher.statistics.item_count - before == 3_000
    assert batcher.statistics.batch_items.counts[-1] > 0  # of those that waited more than 512 ran together


def test_a_bad_batch_of_a_stream_leaves_the_others_alone(channel: grpc.Channel) -> None:
    stub = encoder_service_pb2_grpc.EncoderServiceStub(channel)
    names = ["words", "nobody", "words"]
    requests = [
        encoder_service_pb2.EmbedStreamRequest(
            batch=encoder_service_pb2.EmbedRequest(encoder=name, inputs=[embedding_pb2.Input(text="a")])
        )
        for name in names
    ]
    replies = list(stub.EmbedStream(iter(requests)))
    assert [reply.WhichOneof("result") for reply in replies] == ["batch", "error", "batch"]
    assert replies[1].error.code == grpc.StatusCode.NOT_FOUND.value[0]


def test_what_a_stream_sends_may_fail_on_the_client_s_side(client: Client) -> None:
    with pytest.raises(ValueError, match="texts or images only"):
        list(client.embed_stream([["a"], []]))


def test_other_calls_are_answered_while_an_encoder_blocks(
    server: RunningServer, client: Client, words: FakeEncoder
) -> None:
    words.open.clear()
    try:
        with ThreadPoolExecutor(1) as caller:
            blocked = caller.submit(client.embed, ["a"])
            assert words.running.wait(10)
            client.wait_until_ready(10)
            assert client.embed(images=[b"IMG a"]).encoder == "pictures"
            assert not blocked.done()
            words.open.set()
            np.testing.assert_array_equal(blocked.result(10).vectors, [vector_of("a")])
    finally:
        words.open.set()


def test_a_caller_that_stops_waiting_gets_a_deadline(server: RunningServer, words: FakeEncoder) -> None:
    words.open.clear()
    stop = threading.Timer(5, words.open.set)
    stop.start()
    try:
        with Client(server.address, timeout_s=0.3) as hasty, pytest.raises(Exception, match="in time") as caught:
            hasty.embed(["a"], encoder="words")
        assert getattr(caught.value, "code", "") == "DEADLINE_EXCEEDED"
    finally:
        stop.cancel()
        words.open.set()
