"""All encoders of a server, which embed what requests bring."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from models.bundle.encoder import Encoder, Modality, Purpose
from serving.encoders.batcher import Batcher
from serving.encoders.cache import KnownItem, VectorCache
from serving.encoders.config import RuntimeConfig
from serving.encoders.preparing import ReadyItem, estimated_cost, prepare_all
from serving.encoders.request import EmbedOutcome, PendingItem, PendingRequest
from serving.encoders.roster import Roster
from serving.encoders.stages import tell_stages
from serving.encoders.state import EncoderPhase, EncoderState
from serving.errors import Draining, InvalidInput, ServingError
from serving.telemetry.call import note_call, stage, stage_listener

__all__ = ["EncoderPool"]


class EncoderPool:
    """Every encoder that serves, each with a batcher of its own.

    All of it runs on the event loop, but for what blocks. `EncoderLifecycle` puts encoders in and takes them out.

    Args:
        config: Threads, budgets and bounds.
    """

    def __init__(self, config: RuntimeConfig) -> None:
        self._config = config
        self.roster = Roster()
        """Who is there, by which names."""
        self._is_closed = False
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
        self._is_closed = True
        running = self.roster.running()
        closing = (asyncio.to_thread(each.batcher.close, timeout_s=drain_s) for each in running.values())
        finished = all(await asyncio.gather(*closing))
        for reference in running:
            self.roster.set_state(reference, EncoderState(EncoderPhase.STOPPED))
        self._prepare_threads.shutdown(wait=False, cancel_futures=True)
        return finished

    async def embed(
        self,
        name: str,
        items: Sequence[str | bytes],
        *,
        purpose: Purpose = Purpose.DOCUMENT,
        truncate: bool = True,
        deadline_s: float | None = None,
        space: str = "",
    ) -> EmbedOutcome:
        """Embeds texts or encoded images with one encoder.

        Args:
            name: The encoder's reference, or another name of it.
            items: Texts, or images' encoded bytes; at least one.
            purpose: Chooses the prompt, where the encoder has any.
            truncate: Whether over-long texts are cut; otherwise they fail.
            deadline_s: The event loop's time after which nobody waits for the answer.
            space: Of the encoder's versions those of this embedding space come first.

        Returns:
            Vectors and, per failed item, an error.

        Raises:
            Overloaded: The queue is at its bound.
            DeadlineExceeded: The deadline passed before all was computed.
            Draining: The server is shutting down.
        """
        running = self.roster.find(name, space=space)
        note_call(encoder=running.encoder.info.reference)
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
        with stage("prepare", encoder=encoder.info.reference, items=len(items)):
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
            batches=None if stage_listener() is None else [],
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
            finally:
                tell_stages(encoder.info.reference, request)
        note_call(failed_items=len(errors))
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

    def put(self, encoder: Encoder, folder: str) -> Batcher | None:
        """Lets an encoder answer.

        Args:
            encoder: The encoder.
            folder: Name of its bundle's folder.

        Returns:
            The batcher of the one of its reference that answered until now, which has to finish what it accepted.

        Raises:
            Draining: The pool was closed meanwhile; nobody would close the encoder.
        """
        if self._is_closed:
            raise Draining(f"the server is shutting down; encoder '{encoder.info.name}' was not loaded")
        is_text, config = encoder.info.modality is Modality.TEXT, self._config
        batcher = Batcher(
            encoder,
            batch_budget=config.batch_tokens if is_text else config.batch_pixels,
            queue_bound=config.queue_tokens if is_text else config.queue_pixels,
            cache=self.cache if config.cache_mb else None,
        )
        return self.roster.put(encoder, batcher, folder)
