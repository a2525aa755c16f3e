from __future__ import annotations

import logging

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2

from serving import errors
from serving.rpc.status import DOMAIN, item_errors_to_wire, status_code, status_of


def every_error() -> list[type[errors.ServingError]]:
    found = [errors.ServingError]
    for cls in found:
        found.extend(cls.__subclasses__())
    return found[1:]


def make(cls: type[errors.ServingError], message: str = "what happened", **metadata: object) -> errors.ServingError:
    if issubclass(cls, errors.Overloaded):
        return cls(message, retry_after_s=0.25, **metadata)
    return cls(message, **metadata)


def info_of(status: status_pb2.Status) -> error_details_pb2.ErrorInfo:
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    return info


@pytest.mark.parametrize("cls", every_error(), ids=lambda cls: cls.__name__)
def test_every_error_has_a_status_and_says_its_reason(cls: type[errors.ServingError]) -> None:
    error = make(cls, limit=5)
    assert status_code(error) is not grpc.StatusCode.INTERNAL
    status = status_of(error)
    assert status.code == status_code(error).value[0]
    assert status.message == "what happened"
    info = info_of(status)
    assert (info.reason, info.domain) == (cls.reason, DOMAIN)
    assert info.metadata["limit"] == "5"


@pytest.mark.parametrize(
    ("cls", "code"),
    [
        (errors.DimensionMismatch, grpc.StatusCode.INVALID_ARGUMENT),
        (errors.CollectionNotFound, grpc.StatusCode.NOT_FOUND),
        (errors.CollectionExists, grpc.StatusCode.ALREADY_EXISTS),
        (errors.SpaceMismatch, grpc.StatusCode.FAILED_PRECONDITION),
        (errors.VersionMismatch, grpc.StatusCode.ABORTED),
        (errors.Overloaded, grpc.StatusCode.RESOURCE_EXHAUSTED),
        (errors.StorageFull, grpc.StatusCode.RESOURCE_EXHAUSTED),
        (errors.NotReady, grpc.StatusCode.UNAVAILABLE),
        (errors.DeadlineExceeded, grpc.StatusCode.DEADLINE_EXCEEDED),
        (errors.Cancelled, grpc.StatusCode.CANCELLED),
        (errors.Corrupted, grpc.StatusCode.DATA_LOSS),
        (errors.Unsupported, grpc.StatusCode.UNIMPLEMENTED),
    ],
)
def test_the_table_is_the_published_one(cls: type[errors.ServingError], code: grpc.StatusCode) -> None:
    assert status_code(make(cls)) is code


def test_only_a_full_queue_says_when_to_come_back() -> None:
    retry = error_details_pb2.RetryInfo()
    status = status_of(make(errors.Overloaded))
    assert status.details[1].Unpack(retry)
    assert retry.retry_delay.ToMilliseconds() == 250
    others = [make(cls) for cls in every_error() if not issubclass(cls, errors.Overloaded)]
    assert not any(detail.Unpack(retry) for error in others for detail in status_of(error).details)


def test_what_is_not_ours_says_nothing_but_goes_to_the_log(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR):
        status = status_of(ZeroDivisionError("secret path /srv/keys"))
    assert status.code == grpc.StatusCode.INTERNAL.value[0]
    assert info_of(status).reason == "INTERNAL"
    assert b"secret" not in status.SerializeToString()
    assert "secret path /srv/keys" in caplog.text


def test_a_refused_batch_names_its_bad_items() -> None:
    bad = {3: errors.DimensionMismatch("row of 4"), 1: errors.InvalidInput("NaN")}
    error = errors.InvalidInput("2 of 9 are bad")
    error.item_errors = bad
    status = status_of(error)
    violations = error_details_pb2.BadRequest()
    assert status.details[1].Unpack(violations)
    assert [(one.field, one.reason, one.description) for one in violations.field_violations] == [
        ("items[1]", "INVALID_INPUT", "NaN"),
        ("items[3]", "DIMENSION_MISMATCH", "row of 4"),
    ]
    assert info_of(status).metadata["item_error_count"] == "2"


def test_a_status_fits_the_headers_whatever_the_caller_sent() -> None:
    long = "ä" * 100_000
    bad = {index: errors.InvalidInput(long) for index in range(10_000)}
    error = errors.InvalidInput(long, name=long)
    error.item_errors = bad
    status = status_of(error)
    # In headers the details are base64, and the message is there twice, percent-encoded.
    assert len(status.SerializeToString()) * 4 / 3 + len(status.message.encode()) * 3 < 8_192
    assert info_of(status).metadata["item_error_count"] == "10000"


def test_item_errors_come_by_rising_index() -> None:
    messages = item_errors_to_wire({5: errors.UndecodableImage("no image"), 2: errors.NotReady("wait")})
    assert [(one.index, one.status.code) for one in messages] == [
        (2, grpc.StatusCode.UNAVAILABLE.value[0]),
        (5, grpc.StatusCode.INVALID_ARGUMENT.value[0]),
    ]
