"""All encoders of a server: loads them from the bundles folder, finds the one a request means, embeds with it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from models.bundle.encoder import Encoder, EncoderInfo, Modality, Prepared, Purpose
from models.bundle.load import BundleError, load_bundle
from models.bundle.pixels import ImageError, ImageTooLargeError
from serving.encoders.batcher import Batcher
from serving.encoders.config import RuntimeConfig
from serving.encoders.request import EmbedOutcome, PendingItem, PendingRequest
from serving.encoders.state import EncoderPhase, EncoderState
from serving.encoders.statistics import EncoderStatistics
from serving.errors import (
    DeadlineExceeded,
    EncoderNotFound,
    EncoderRefused,
    InputTooLarge,
    InvalidInput,
    ModalityNotServed,
    NotReady,
    ServingError,
    UndecodableImage,
)

__all__ = ["EncoderPool", "load_encoders"]

logger = logging.getLogger(__name__)

StateListener = Callable[[str, EncoderState], None]


def load_encoders(bundle_dir: Path, config: RuntimeConfig) -> list[Encoder]:
    """Loads and checks the encoders of one bundle.

    Args:
        bundle_dir: The bundle.
        config: Precision and threads.

    Returns:
        Its encoders, each having reproduced its golden vectors here.

    Raises:
        BundleError: The bundle is damaged, incomplete, or computes something else on this machine.
    """
    bundle = load_bundle(bundle_dir, precision=config.precision, threads=config.graph_threads)
    return list(bundle.encoders.values())


class EncoderPool:
    """Every encoder under one folder, each with a batcher of its own.

    Args:
        bundles_dir: A folder of bundles, or one bundle; None serves no encoder.
        config: Threads, budgets and bounds.
        load: Turns a bundle's folder into encoders; tests give another.
    """

    def __init__(
        self,
        bundles_dir: Path | None,
        config: RuntimeConfig,
        *,
        load: Callable[[Path, RuntimeConfig], Sequence[Encoder]] = load_encoders,
    ) -> None:
        self._bundles_dir = bundles_dir
        self._config = config
        self._load = load
        self._encoders: dict[str, Encoder] = {}
        self._batchers: dict[str, Batcher] = {}
        self._states: dict[str, EncoderState] = {}
        # From the first moment, before the folder has been read: nobody knows yet which names there will be.
        self._is_loading = bundles_dir is not None
        self._listeners: list[StateListener] = []
        self._prepare_threads = ThreadPoolExecutor(config.prepare_threads, thread_name_prefix="prepare")
        self._loading_threads = ThreadPoolExecutor(1, thread_name_prefix="load")

    async def start(self) -> None:
        """Loads every bundle; a refused one is reported by its state and leaves the others alone."""
        loop = asyncio.get_running_loop()
        bundle_dirs = await loop.run_in_executor(self._loading_threads, self._find_bundles)
        for bundle_dir in bundle_dirs:
            self._set_state(bundle_dir.name, EncoderState(EncoderPhase.LOADING))
        for bundle_dir in bundle_dirs:
            try:
                encoders = await loop.run_in_executor(self._loading_threads, self._load, bundle_dir, self._config)
            except (BundleError, OSError) as error:
                logger.warning("bundle refused", extra={"bundle": bundle_dir.name, "detail": str(error)})
                self._set_state(bundle_dir.name, EncoderState(EncoderPhase.REFUSED, str(error)))
                continue
            if bundle_dir.name not in {encoder.info.name for encoder in encoders}:
                self._states.pop(bundle_dir.name)
            for encoder in encoders:
                self._add(encoder, bundle_dir)
        self._is_loading = False

    async def close(self, *, drain_s: float) -> bool:
        """Finishes admitted work and stops.

        Args:
            drain_s: Longest wait.

        Returns:
            Whether all admitted work was finished.
        """
        names = list(self._batchers)
        closing = (asyncio.to_thread(self._batchers[name].close, timeout_s=drain_s) for name in names)
        finished = all(await asyncio.gather(*closing))
        for name in names:
            self._set_state(name, EncoderState(EncoderPhase.STOPPED))
        self._prepare_threads.shutdown(wait=False, cancel_futures=True)
        self._loading_threads.shutdown(wait=False, cancel_futures=True)
        return finished

    def infos(self) -> list[EncoderInfo]:
        """Returns the encoders that serve, by name."""
        return [self._encoders[name].info for name in sorted(self._encoders)]

    def statistics(self) -> Mapping[str, EncoderStatistics]:
        """Returns what each encoder that serves has done."""
        return {name: batcher.statistics for name, batcher in self._batchers.items()}

    def queued_costs(self) -> Mapping[str, int]:
        """Returns the tokens or pixels that each encoder has admitted and not answered."""
        return {name: batcher.queued_cost for name, batcher in self._batchers.items()}

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
        if self._is_loading:
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
            info = self._named(name).info
            if modality is not None and info.modality is not modality:
                raise ModalityNotServed(
                    f"encoder '{name}' reads {info.modality}, not {modality}",
                    encoder=name,
                    modality=modality,
                )
            return info
        fitting = [info for info in self.infos() if modality is None or info.modality is modality]
        if not fitting:
            if self._is_loading:
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
        encoder = self._named(name)
        if not items:
            raise InvalidInput("a request needs at least one item")
        batcher = self._batchers[name]
        cost = sum(_estimated_cost(item, encoder.info) for item in items)
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
            self._prepare_threads, _prepare_all, encoder, items, purpose, truncate, deadline_s
        )
        prepared = {row: result for row, result in enumerate(results) if isinstance(result, Prepared)}
        errors = {row: result for row, result in enumerate(results) if isinstance(result, ServingError)}
        request = PendingRequest(
            vectors=np.zeros((len(items), encoder.info.dimension), np.float32),
            remaining=len(prepared),
            done=loop.create_future(),
            loop=loop,
            arrival_s=arrival_s,
            queued_s=time.monotonic(),
            deadline_s=deadline_s,
        )
        batcher.statistics.prepare_s.add(request.queued_s - arrival_s)
        if prepared:
            batcher.enqueue([PendingItem(request, row, item) for row, item in prepared.items()])
            try:
                await request.done
            except asyncio.CancelledError:
                request.abandoned = True
                raise
        is_text = encoder.info.modality is Modality.TEXT
        return EmbedOutcome(
            info=encoder.info,
            vectors=request.vectors,
            errors=errors,
            token_counts=[prepared[row].cost if is_text and row in prepared else 0 for row in range(len(items))],
            truncated=[row in prepared and prepared[row].truncated for row in range(len(items))],
            queue_s=(request.first_batch_s or time.monotonic()) - arrival_s,
            compute_s=request.compute_s,
        )

    def _find_bundles(self) -> list[Path]:
        if self._bundles_dir is None:
            return []
        if not self._bundles_dir.is_dir():
            raise ValueError(f"bundles folder '{self._bundles_dir}' does not exist; create it or name another")
        if (self._bundles_dir / "diptych.json").is_file():
            return [self._bundles_dir]
        # A name that begins with a dot is a bundle that is still being written.
        found = (path.parent for path in self._bundles_dir.glob("*/diptych.json"))
        return sorted(folder for folder in found if not folder.name.startswith("."))

    def _add(self, encoder: Encoder, bundle_dir: Path) -> None:
        name = encoder.info.name
        if name in self._encoders:
            detail = f"bundle '{bundle_dir.name}' names its encoder '{name}', as another bundle does; rename one"
            logger.warning("bundle refused", extra={"bundle": bundle_dir.name, "detail": detail})
            # A folder that bears the name of an encoder that serves must not take that encoder's state.
            if bundle_dir.name not in self._encoders:
                self._set_state(bundle_dir.name, EncoderState(EncoderPhase.REFUSED, detail))
            return
        is_text = encoder.info.modality is Modality.TEXT
        config = self._config
        self._encoders[name] = encoder
        self._batchers[name] = Batcher(
            encoder,
            batch_budget=config.batch_tokens if is_text else config.batch_pixels,
            queue_bound=config.queue_tokens if is_text else config.queue_pixels,
        )
        self._set_state(name, EncoderState(EncoderPhase.SERVING))

    def _named(self, name: str) -> Encoder:
        encoder = self._encoders.get(name)
        if encoder is not None:
            return encoder
        state = self.state(name)
        if state.phase is EncoderPhase.LOADING:
            raise NotReady(f"encoder '{name}' is still loading; try again in a moment", encoder=name)
        raise EncoderRefused(f"encoder '{name}' was refused: {state.detail}", encoder=name)

    def _set_state(self, name: str, state: EncoderState) -> None:
        self._states[name] = state
        for listener in self._listeners:
            listener(name, state)


def _estimated_cost(item: str | bytes, info: EncoderInfo) -> int:
    """Estimates an item's cost before it is prepared: a token is about four characters, an image is what it becomes."""
    if isinstance(item, str):
        return min(len(item) // 4 + 2, info.max_tokens)
    return info.image_size_px**2


def _prepare_all(
    encoder: Encoder, items: Sequence[str | bytes], purpose: Purpose, truncate: bool, deadline_s: float | None
) -> list[Prepared | ServingError]:
    results: list[Prepared | ServingError] = []
    for item in items:
        if deadline_s is not None and time.monotonic() >= deadline_s:
            raise DeadlineExceeded("the deadline passed while the request was prepared; allow more time or send less")
        results.append(_prepare(encoder, item, purpose, truncate))
    return results


def _prepare(encoder: Encoder, item: str | bytes, purpose: Purpose, truncate: bool) -> Prepared | ServingError:
    expected: type = str if encoder.info.modality is Modality.TEXT else bytes
    if not isinstance(item, expected):
        return ModalityNotServed(f"encoder '{encoder.info.name}' reads {encoder.info.modality} only")
    try:
        return encoder.prepare(item, purpose=purpose, truncate=truncate)
    except ImageTooLargeError as error:
        return InputTooLarge(str(error))
    except ImageError as error:
        return UndecodableImage(str(error))
    except ValueError as error:
        return InvalidInput(str(error))
