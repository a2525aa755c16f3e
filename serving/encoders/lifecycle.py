"""An encoder's way into the pool and out of it: loaded, swapped and unloaded while the others serve."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from models.bundle.encoder import EncoderInfo
from models.bundle.errors import BundleError
from serving.encoders.batcher import Batcher
from serving.encoders.loading import BundleFolder, Stamp
from serving.encoders.pool import EncoderPool
from serving.encoders.state import EncoderPhase, EncoderState
from serving.errors import BundleTooLarge, EncoderRefused, ServingError

__all__ = ["EncoderLifecycle"]

logger = logging.getLogger(__name__)

Result = TypeVar("Result")

UNLOAD_S = 30.0
"""Longest time in which an encoder that is unloaded or swapped finishes what it accepted."""


class EncoderLifecycle:
    """Keeps a pool in step with a folder of bundles.

    All of it runs on the event loop, but for what blocks.

    Args:
        pool: Where encoders serve.
        folder: Where their bundles lie.
    """

    def __init__(self, pool: EncoderPool, folder: BundleFolder) -> None:
        self._pool = pool
        self._folder = folder
        pool.is_loading = folder.path is not None
        self._changing = asyncio.Lock()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._threads = ThreadPoolExecutor(1, thread_name_prefix="load")

    async def start(self) -> None:
        """Loads every bundle; a refused one is reported by its state and leaves the others alone."""
        folders = await self._in_thread(self._folder.find)
        for folder in folders:
            self._pool.set_state(folder.name, EncoderState(EncoderPhase.LOADING))
        for folder in folders:
            # What is wrong is in the state.
            with suppress(EncoderRefused, BundleTooLarge):
                async with self._changing:
                    await self._load(folder)
        self._pool.is_loading = False

    async def load(self, name: str) -> EncoderInfo:
        """Loads a bundle's encoder, or swaps it for what the folder holds now.

        The old one answers until the new one is checked, and finishes what it accepted; where the new one is refused,
        the old one stays.

        Args:
            name: Of the bundle's folder, never a path.

        Returns:
            The encoder that serves.

        Raises:
            EncoderNotFound: There is no such bundle.
            EncoderRefused: It is damaged, or computes something else on this machine.
            BundleTooLarge: It would take more memory than there is.
        """
        return await self._to_the_end(self._load_named(name))

    async def unload(self, name: str) -> None:
        """Takes an encoder out of service once it has finished what it accepted.

        Args:
            name: The encoder's.

        Raises:
            EncoderNotFound: There is none of that name.
        """
        await self._to_the_end(self._unload_named(name))

    async def watch(self, every_s: float) -> None:
        """Loads what is put under the bundles folder, swaps what changes there, and unloads what is removed; for ever.

        A bundle is read once its files have been the same for two looks: one that is still being copied is not.

        Args:
            every_s: Seconds between two looks.
        """
        loaded = before = await self._look({})
        while True:
            await asyncio.sleep(every_s)
            now = await self._look(before)
            for name in loaded.keys() - now.keys():
                logger.info("bundle is gone", extra={"bundle": name})
                for encoder in self._names_of(name) or [name]:
                    with suppress(ServingError):
                        await self.unload(encoder)
            for name in (name for name, stamp in now.items() if before.get(name) == stamp != loaded.get(name)):
                logger.info("bundle is new or has changed", extra={"bundle": name})
                with suppress(ServingError):
                    await self.load(name)
            # A bundle that is being copied keeps its old stamp, so that it is seen to differ at the next look.
            settled = {name: stamp for name, stamp in now.items() if before.get(name) == stamp}
            loaded = {name: settled.get(name, loaded.get(name, ())) for name in now}
            before = now

    async def _to_the_end(self, change: Coroutine[Any, Any, Result]) -> Result:
        """Makes a change even where its caller leaves meanwhile: half a change is no state to be in."""
        task = asyncio.create_task(change)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return await asyncio.shield(task)

    async def _load_named(self, name: str) -> EncoderInfo:
        async with self._changing:
            folder = await self._in_thread(self._folder.named, name)
            if name not in self._pool.running():
                self._pool.set_state(name, EncoderState(EncoderPhase.LOADING))
            return await self._load(folder)

    async def _unload_named(self, name: str) -> None:
        async with self._changing:
            batcher = self._pool.take(name)
            if batcher is None:
                self._pool.state(name)  # says that there is none
            else:
                await asyncio.to_thread(batcher.close, timeout_s=UNLOAD_S)
            self._pool.forget(name)

    async def _load(self, folder: Path) -> EncoderInfo:
        """Loads a bundle, and sets the state of what came of it."""
        serving = self._names_of(folder.name)
        try:
            encoders = await self._in_thread(self._folder.load, folder)
            for encoder in encoders:
                self._check_name(encoder.info.name, folder.name)
        except (BundleError, OSError, EncoderRefused, BundleTooLarge) as error:
            raise self._refuse(folder.name, error, stays=bool(serving)) from error
        if folder.name not in {encoder.info.name for encoder in encoders} | self._pool.running().keys():
            self._pool.forget(folder.name)
        for encoder in encoders:
            before = self._pool.put(encoder, folder.name)
            if before is not None:
                self._finish(before)
        # A bundle whose encoder got another name holds the old one no more.
        for name in set(serving) - {encoder.info.name for encoder in encoders}:
            gone = self._pool.take(name)
            if gone is not None:
                self._finish(gone)
            self._pool.forget(name)
        return encoders[0].info

    def _refuse(self, folder: str, error: Exception, *, stays: bool) -> ServingError:
        """Takes note of a bundle that cannot serve; returns the error of who asked for it."""
        logger.warning("bundle refused", extra={"bundle": folder, "detail": str(error)})
        # A folder that bears the name of an encoder that serves must not take that encoder's state.
        if folder not in self._pool.running():
            self._pool.set_state(folder, EncoderState(EncoderPhase.REFUSED, str(error)))
        if isinstance(error, ServingError):
            return error
        rest = "; what was loaded of it before still answers" if stays else ""
        return EncoderRefused(f"bundle '{folder}' was refused: {error}{rest}", encoder=folder)

    def _check_name(self, name: str, folder: str) -> None:
        running = self._pool.running().get(name)
        if running is not None and running.folder != folder:
            raise EncoderRefused(
                f"bundle '{folder}' names its encoder '{name}', as bundle '{running.folder}' does; rename one",
                encoder=name,
            )

    async def _look(self, before: Mapping[str, Stamp]) -> Mapping[str, Stamp]:
        """Returns the bundles' stamps; those of the look before where they cannot be read just now."""
        try:
            return await self._in_thread(self._folder.stamps)
        except (OSError, ValueError) as error:
            logger.warning("the bundles folder cannot be read", extra={"detail": str(error)})
            return before

    def _names_of(self, folder: str) -> list[str]:
        return [name for name, running in self._pool.running().items() if running.folder == folder]

    def _finish(self, batcher: Batcher) -> None:
        """Lets a batcher finish what it accepted, while its successor answers."""
        closing = asyncio.create_task(asyncio.to_thread(batcher.close, timeout_s=UNLOAD_S))
        self._tasks.add(closing)
        closing.add_done_callback(self._tasks.discard)

    async def _in_thread(self, function: Callable[..., Result], *args: object) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._threads, partial(function, *args))

    async def close(self) -> None:
        """Waits for changes that were begun and for what was swapped out, and loads nothing more."""
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._threads.shutdown(wait=False, cancel_futures=True)
