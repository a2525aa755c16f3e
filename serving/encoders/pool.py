"""All encoders of a server: finds the one a request means, and embeds with it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from models.bundle.encoder import Encoder, EncoderInfo, Modality, Purpose
from serving.encoders.batcher import Batcher
from serving.encoders.cache import KnownItem, VectorCache
from serving.encoders.config import RuntimeConfig
from serving.encoders.preparing import ReadyItem, estimated_cost, prepare_all
from serving.encoders.request import EmbedOutcome, PendingItem, PendingRequest
from serving.encoders.state import EncoderPhase, EncoderState
from serving.encoders.statistics import EncoderStatistics
from serving.errors import (
    EncoderNotFound,
    EncoderRefused,
    InvalidInput,
    ModalityNotServed,
    NotReady,
    ServingError,
)

__all__ = ["EncoderPool", "RunningEncoder", "StateListener"]

logger = logging.getLogger(__name__)

StateListener = Callable[[str, EncoderState | None], None]
"""Hears of an encoder's name and state; None: it is no more."""


@dataclass(frozen=True, slots=True)
class RunningEncoder:
    """An encoder that serves."""

    encoder: Encoder
    batcher: Batcher
    folder: str
    """Name of its bundle's folder."""


class EncoderPool:
    """Every encoder that serves, each with a batcher of its own, and where those stand that do not.

    All of it runs on the event loop, but for what blocks. `EncoderLifecycle` puts encoders in and takes them out.

    Args:
        config: Threads, budgets and bounds.
    """

    def __init__(self, config: RuntimeConfig) -> None:
        self._config = config
        self._running: dict[str, RunningEncoder] = {}
        self._states: dict[str, EncoderState] = {}
        self.is_loading = False
        """Whether further encoders may come by themselves: nobody knows yet which names there will be."""
        self._listeners: list[StateListener] = []
        self.cache = VectorCache(config.cache_mb * 1_000_000)
        """Vectors of the items asked for last."""
        self._prepare_threads = ThreadPoolExecutor(config.prepare_threads, thread_name_prefix="prepare")

    async def close(self, *, drain_s: float) -> bool:
        """Finishes admitted work and stops.

        Args:
            drain_s: Longest wait.

        Returns:
            Whether all admitted work was finished.
        """
        running = dict(self._running)
        closing = (asyncio.to_thread(each.batcher.close, timeout_s=drain_s) for each in running.values())
        finished = all(await asyncio.gather(*closing))
        for name in running:
            self.set_state(name, EncoderState(EncoderPhase.STOPPED))
        self._prepare_threads.shutdown(wait=False, cancel_futures=True)
        return finished

    def infos(self) -> list[EncoderInfo]:
        """Returns the encoders that serve, by name."""
        return [self._running[name].encoder.info for name in sorted(self._running)]

    def statistics(self) -> Mapping[str, EncoderStatistics]:
        """Returns what each encoder that serves has done."""
        return {name: running.batcher.statistics for name, running in self._running.items()}

    def queued_costs(self) -> Mapping[str, int]:
        """Returns the tokens or pixels that each encoder has admitted and not answered."""
        return {name: running.batcher.queued_cost for name, running in self._running.items()}

    def states(self) -> Mapping[str, EncoderState]:
        """Returns where each encoder stands; a bundle that was refused is listed by its folder's name."""
        return dict(self._states)

    def state(self, name: str) -> EncoderState:
        """Returns where one encoder stands.

        Args:
            name: The encoder's, or a refused bundle's folder's.

        Returns:
            Its state.

        Raises:
            NotReady: None of that name is known yet, and bundles are still being loaded.
            EncoderNotFound: There is none.
        """
        if name in self._states:
            return self._states[name]
        if self.is_loading:
            raise NotReady(f"no encoder named '{name}' is loaded yet; try again in a moment", encoder=name)
        raise EncoderNotFound(f"no encoder named '{name}' is under the bundles folder", encoder=name)

    def add_listener(self, listener: StateListener) -> None:
        """Calls `listener` on the event loop at every change of a state."""
        self._listeners.append(listener)

    def resolve(self, name: str, modality: Modality | None = None) -> EncoderInfo:
        """Finds the encoder a request means.

        Args:
            name: Its name, or empty where only one fits.
            modality: What the request holds; None where any does.

        Returns:
            The encoder.

        Raises:
            EncoderNotFound: There is none of that name.
            NotReady: It is still loading.
            EncoderRefused: Its bundle was refused.
            ModalityNotServed: It reads something else, or none is loaded that reads this.
            InvalidInput: No name was given and several fit.
        """
        if name:
            info = self._named(name).encoder.info
            if modality is not None and info.modality is not modality:
                raise ModalityNotServed(
                    f"encoder '{name}' reads {info.modality}, not {modality}",
                    encoder=name,
                    modality=modality,
                )
            return info
        fitting = [info for info in self.infos() if modality is None or info.modality is modality]
        if not fitting:
            if self.is_loading:
                raise NotReady("the encoders are still loading; try again in a moment")
            kind = modality or "any input"
            raise ModalityNotServed(f"no loaded encoder reads {kind}", modality=kind)
        if len(fitting) > 1:
            names = ", ".join(info.name for info in fitting)
            raise InvalidInput(f"several encoders fit ({names}); name one", encoders=names)
        return fitting[0]

    async def embed(
        self,
        name: str,
        items: Sequence[str | bytes],
        *,
        purpose: Purpose = Purpose.DOCUMENT,
        truncate: bool = True,
        deadline_s: float | None = None,
    ) -> EmbedOutcome:
        """Embeds texts or encoded images with one encoder.

        Args:
            name: The encoder's name, as `resolve` gave it.
            items: Texts, or images' encoded bytes; at least one.
            purpose: Chooses the prompt, where the encoder has any.
            truncate: Whether over-long texts are cut; otherwise they fail.
            deadline_s: The event loop's time after which nobody waits for the answer.

        Returns:
            Vectors and, per failed item, an error.

        Raises:
            Overloaded: The queue is at its bound.
            DeadlineExceeded: The deadline passed before all was computed.
            Draining: The server is shutting down.
        """
        running = self._named(name)
        encoder, batcher = running.encoder, running.batcher
        if not items:
            raise InvalidInput("a request needs at least one item")
        cost = sum(estimated_cost(item, encoder.info) for item in items)
        batcher.admit(cost)
        try:
            return await self._embed_admitted(encoder, batcher, items, purpose, truncate, deadline_s)
        finally:
            batcher.release(cost)

    async def _embed_admitted(
        self,
        encoder: Encoder,
        batcher: Batcher,
        items: Sequence[str | bytes],
        purpose: Purpose,
        truncate: bool,
        deadline_s: float | None,
    ) -> EmbedOutcome:
        loop = asyncio.get_running_loop()
        arrival_s = time.monotonic()
        results = await loop.run_in_executor(
            self._prepare_threads, prepare_all, encoder, items, purpose, truncate, deadline_s, self.cache
        )
        ready = {row: result for row, result in enumerate(results) if isinstance(result, ReadyItem)}
        known = {row: result for row, result in enumerate(results) if isinstance(result, KnownItem)}
        errors = {row: result for row, result in enumerate(results) if isinstance(result, ServingError)}
        request = PendingRequest(
            vectors=np.zeros((len(items), encoder.info.dimension), np.float32),
            remaining=len(ready),
            done=loop.create_future(),
            loop=loop,
            arrival_s=arrival_s,
            queued_s=time.monotonic(),
            deadline_s=deadline_s,
        )
        batcher.statistics.prepare_s.add(request.queued_s - arrival_s)
        for row, item in known.items():
            request.vectors[row] = item.vector
        if ready:
            batcher.enqueue([PendingItem(request, row, item.key, item.prepared) for row, item in ready.items()])
            try:
                await request.done
            except asyncio.CancelledError:
                request.abandoned = True
                raise
        is_text = encoder.info.modality is Modality.TEXT
        told = {row: item.prepared for row, item in ready.items()} | known
        return EmbedOutcome(
            info=encoder.info,
            vectors=request.vectors,
            errors=errors,
            token_counts=[told[row].cost if is_text and row in told else 0 for row in range(len(items))],
            truncated=[row in told and told[row].truncated for row in range(len(items))],
            queue_s=(request.first_batch_s or time.monotonic()) - arrival_s,
            compute_s=request.compute_s,
        )

    def _named(self, name: str) -> RunningEncoder:
        running = self._running.get(name)
        if running is not None:
            return running
        state = self.state(name)
        if state.phase is EncoderPhase.LOADING:
            raise NotReady(f"encoder '{name}' is still loading; try again in a moment", encoder=name)
        if state.phase is EncoderPhase.REFUSED:
            raise EncoderRefused(f"encoder '{name}' was refused: {state.detail}", encoder=name)
        raise EncoderNotFound(f"encoder '{name}' is being unloaded", encoder=name)

    def running(self) -> Mapping[str, RunningEncoder]:
        """Returns the encoders that serve, by name."""
        return dict(self._running)

    def put(self, encoder: Encoder, folder: str) -> Batcher | None:
        """Lets an encoder answer.

        Args:
            encoder: The encoder.
            folder: Name of its bundle's folder.

        Returns:
            The batcher of the one of its name that answered until now, which has to finish what it accepted.
        """
        name, is_text = encoder.info.name, encoder.info.modality is Modality.TEXT
        before, config = self._running.get(name), self._config
        batcher = Batcher(
            encoder,
            batch_budget=config.batch_tokens if is_text else config.batch_pixels,
            queue_bound=config.queue_tokens if is_text else config.queue_pixels,
            cache=self.cache if config.cache_mb else None,
        )
        self._running[name] = RunningEncoder(encoder, batcher, folder)
        self.set_state(name, EncoderState(EncoderPhase.SERVING))
        return None if before is None else before.batcher

    def take(self, name: str) -> Batcher | None:
        """Lets an encoder answer no longer.

        Args:
            name: The encoder's.

        Returns:
            Its batcher, which has to finish what it accepted; None where it did not answer.
        """
        running = self._running.pop(name, None)
        if running is None:
            return None
        self.set_state(name, EncoderState(EncoderPhase.DRAINING))
        return running.batcher

    def set_state(self, name: str, state: EncoderState) -> None:
        """Takes note of where an encoder stands, or a bundle by its folder's name.

        Args:
            name: Its name.
            state: The state.
        """
        self._states[name] = state
        for listener in self._listeners:
            listener(name, state)

    def forget(self, name: str) -> None:
        """Drops the name of what is no more.

        Args:
            name: An encoder's, or a bundle's folder's.
        """
        self._states.pop(name, None)
        for listener in self._listeners:
            listener(name, None)
