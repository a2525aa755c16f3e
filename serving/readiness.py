"""Keeps health in step with the encoders and the collections."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress

from serving.backend import Backend
from serving.collections.catalogue import CollectionCatalogue
from serving.encoders.state import EncoderPhase
from serving.rpc.assembly import Wire, service_names

__all__ = ["Readiness"]


class Readiness:
    """Decides which health names serve; everything runs on the event loop.

    A refused encoder takes nothing but itself out of service: the encoder service serves as soon as loading has ended
    and, where there are bundles at all, one of them answers.

    Args:
        wire: Whose health it sets.
        backend: What is watched.
    """

    def __init__(self, wire: Wire, backend: Backend) -> None:
        self._health = wire.health
        self._roster = backend.pool.roster
        self._encoder_names: set[str] = set()
        self._encoders_loaded = False
        self._collections_open = False
        self._roster.add_listener(self._on_encoders)
        self._set("admin", serving=True)

    def on_encoders_loaded(self) -> None:
        """Takes note that every bundle was loaded or refused."""
        self._encoders_loaded = True
        self._publish()

    def on_collections_open(self, catalogue: CollectionCatalogue) -> None:
        """Takes note of the collections.

        Args:
            catalogue: All of them; damaged ones do not serve.
        """
        # Scrubbing and writing happen in other threads; health lives on the event loop.
        loop = asyncio.get_running_loop()
        catalogue.add_listener(lambda name, healthy: _call_in(loop, self._on_collection, name, healthy))
        catalogue.listen(lambda name: _call_in(loop, self._on_new_collection, name))
        for info in catalogue.list():
            self._health.set(f"collection/{info.spec.name}", serving=catalogue.get(info.spec.name).is_healthy)
        for name in catalogue.damaged():
            self._health.set(f"collection/{name}", serving=False)
        self._collections_open = True
        self._publish()

    @property
    def ready(self) -> bool:
        """Whether everything that was to be loaded is loaded."""
        return self._encoders_loaded and self._collections_open

    def _on_collection(self, name: str, healthy: bool) -> None:
        # It may have been deleted meanwhile, and must not come back.
        if self._health.status(f"collection/{name}") is not None:
            self._health.set(f"collection/{name}", serving=healthy)

    def _on_new_collection(self, name: str) -> None:
        self._health.set(f"collection/{name}", serving=True)

    def _on_encoders(self) -> None:
        names = self._roster.names()
        for name, state in names.items():
            self._health.set(f"encoder/{name}", serving=state.phase is EncoderPhase.SERVING)
        for name in self._encoder_names - names.keys():
            self._health.forget(f"encoder/{name}")
        self._encoder_names = set(names)
        self._publish()

    def _publish(self) -> None:
        states = self._roster.states().values()
        encoders = self._encoders_loaded and (
            not states or any(state.phase is EncoderPhase.SERVING for state in states)
        )
        self._set("encoders", serving=encoders)
        self._set("collections", serving=self._collections_open)
        self._health.set("", serving=encoders and self._collections_open)

    def _set(self, need: str, *, serving: bool) -> None:
        for name in service_names()[need]:
            self._health.set(name, serving=serving)


def _call_in(loop: asyncio.AbstractEventLoop, call: Callable[..., None], *arguments: object) -> None:
    with suppress(RuntimeError):  # The server has closed.
        loop.call_soon_threadsafe(call, *arguments)
