from __future__ import annotations

from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from models.bundle.encoder import Modality
from tests.serving.fake_encoders import DIMENSION, FakeEncoder, vector_of
from tests.serving.rpc.protocols.calls import call, call_stream, message
from tests.serving.running_server import running_server

INFO, EMBED = "tei.v1.Info", "tei.v1.Embed"


def test_info_describes_the_encoder(channel: grpc.Channel) -> None:
    found = call(channel, INFO, "Info")
    assert (found.model_id, found.model_sha) == ("words", "fingerprint-of-words")
    assert (found.model_dtype, found.model_type, found.max_input_length) == ("float32", 0, 6)
    assert (found.max_batch_tokens, found.max_client_batch_size, found.tokenization_workers) == (8192, 10_000, 2)


def test_a_text_becomes_a_vector_and_what_it_cost(channel: grpc.Channel) -> None:
    found = call(channel, EMBED, "Embed", inputs="a river")
    np.testing.assert_array_equal(np.array(found.embeddings, np.float32), vector_of("a river"))
    metadata = found.metadata
    assert (metadata.compute_chars, metadata.compute_tokens) == (7, 2)
    parts = metadata.tokenization_time_ns + metadata.queue_time_ns + metadata.inference_time_ns
    assert 0 < metadata.inference_time_ns <= parts <= metadata.total_time_ns * 1.001 + 1000


def test_a_stream_is_answered_in_order(channel: grpc.Channel) -> None:
    texts = [f"text {'long ' * (number % 3)}{number}" for number in range(700)]  # more than are in work at a time
    request = message("tei.v1.EmbedRequest")
    replies = call_stream(channel, EMBED, "EmbedStream", (request(inputs=text) for text in texts))
    np.testing.assert_array_equal(
        np.array([reply.embeddings for reply in replies], np.float32), np.stack([vector_of(text) for text in texts])
    )


def test_dimensions_cut_the_vector(channel: grpc.Channel) -> None:
    found = call(channel, EMBED, "Embed", inputs="a river", dimensions=4)
    kept = vector_of("a river")[:4]
    np.testing.assert_allclose(found.embeddings, kept / np.linalg.norm(kept), rtol=1e-6)
    assert len(call(channel, EMBED, "Embed", inputs="a river", normalize=False).embeddings) == DIMENSION


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"inputs": ""}, "inputs is empty"),
        ({"inputs": "one two three four five six seven"}, "tokens"),
        ({"inputs": "a", "truncation_direction": 1}, "truncation_direction must be right"),
        ({"inputs": "a", "prompt_name": "poem"}, "prompt_name ('poem') must be one of document, passage, query"),
        ({"inputs": "a", "dimensions": 3}, "must be one of 4, 8"),
    ],
)
def test_what_cannot_be_embedded_is_told_why(channel: grpc.Channel, fields: dict[str, Any], told: str) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        call(channel, EMBED, "Embed", **fields)
    error: Any = caught.value
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert told in error.details()


def test_an_over_long_text_is_cut_where_the_request_says_so(channel: grpc.Channel) -> None:
    found = call(channel, EMBED, "Embed", inputs="one two three four five six seven", truncate=True)
    assert found.metadata.compute_tokens == 6


def test_one_of_several_text_encoders_is_named_at_the_start(tmp_path: Path) -> None:
    encoders = [FakeEncoder("one"), FakeEncoder("other"), FakeEncoder("pictures", Modality.IMAGE)]
    named = running_server(tmp_path, encoders, tei_encoder="other")
    with named as running, grpc.insecure_channel(running.address) as channel:
        assert call(channel, INFO, "Info").model_id == "other"
    with running_server(tmp_path, encoders) as running, grpc.insecure_channel(running.address) as channel:
        with pytest.raises(grpc.RpcError) as caught:
            call(channel, EMBED, "Embed", inputs="a")
        assert "several encoders fit (one, other); name one" in str(caught.value)
