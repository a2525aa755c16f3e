"""The descriptors of other protocols, in pools of their own.

A process that has imported another library's stubs of the same protobuf package, such as `tritonclient`'s, refuses a
second definition of it; a pool of our own meets none.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from importlib.resources import files
from typing import Any

from google.protobuf.descriptor import FileDescriptor, ServiceDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass

__all__ = ["INFERENCE", "TEI_EMBED", "TEI_INFO", "message_class", "protocol_service", "reflected_pool"]

INFERENCE = "inference.GRPCInferenceService"
TEI_EMBED = "tei.v1.Embed"
TEI_INFO = "tei.v1.Info"


def protocol_service(name: str) -> ServiceDescriptor:
    """Returns a service of another protocol.

    Args:
        name: Its full name.

    Returns:
        Its descriptor.
    """
    return _pool().FindServiceByName(name)


@cache
def message_class(name: str) -> Any:
    """Returns a message of another protocol.

    Args:
        name: Its full name, such as `tei.v1.EmbedRequest`.

    Returns:
        The class.
    """
    return GetMessageClass(_pool().FindMessageTypeByName(name))


def reflected_pool(services: Iterable[ServiceDescriptor]) -> DescriptorPool:
    """Returns one pool of all that reflection shall tell of.

    Args:
        services: From any pools.

    Returns:
        A pool with their files, and the files that these import.
    """
    pool, known = DescriptorPool(), set[str]()

    def add(file: FileDescriptor) -> None:
        if file.name in known:
            return
        known.add(file.name)
        for imported in file.dependencies:
            add(imported)
        pool.AddSerializedFile(file.serialized_pb)

    for service in services:
        add(service.file)
    return pool


@cache
def _pool() -> DescriptorPool:
    pool = DescriptorPool()
    written = files("serving.rpc.protocols").joinpath("descriptors.binpb").read_bytes()
    for file in FileDescriptorSet.FromString(written).file:
        pool.Add(file)
    return pool
