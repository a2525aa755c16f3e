"""An encoder's way into the pool and out of it: loaded, swapped and unloaded while the others serve."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from models.bundle.encoder import EncoderInfo
from models.bundle.errors import BundleError
from serving.encoders.aliases import point_alias
from serving.encoders.batcher import Batcher
from serving.encoders.loading import BundleFolder, Stamp
from serving.encoders.pool import EncoderPool
from serving.encoders.state import EncoderPhase, EncoderState
from serving.errors import BundleTooLarge, EncoderRefused, InvalidInput, ServingError

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
        after_change: Called after each load and unload, whether it succeeded or not, before its caller hears of it.
    """

    def __init__(
        self, pool: EncoderPool, folder: BundleFolder, *, after_change: Callable[[], Awaitable[None]] | None = None
    ) -> None:
        self._pool = pool
        self._after_change = after_change
        self._folder = folder
        self._roster = pool.roster
        self._roster.is_loading = folder.path is not None
        self._changing = asyncio.Lock()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._threads = ThreadPoolExecutor(1, thread_name_prefix="load")

    async def start(self) -> None:
        """Loads every bundle; a refused one is reported by its state and leaves the others alone.

        Raises:
            ValueError: The folder does not exist, or its file of aliases is damaged.
        """
        folders = await self._in_thread(self._folder.find)
        self._roster.aliases = await self._in_thread(self._folder.aliases)
        for folder in folders:
            self._roster.set_state(folder.name, EncoderState(EncoderPhase.LOADING))
        for folder in folders:
            # What is wrong is in the state.
            with suppress(EncoderRefused, BundleTooLarge):
                async with self._changing:
                    await self._load(folder)
        self._roster.is_loading = False

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
            name: The encoder's, or its reference where several versions serve.

        Raises:
            EncoderNotFound: There is none of that name.
            InvalidInput: Several versions have that name, or it is an alias.
        """
        await self._to_the_end(self._unload_named(name))

    async def set_alias(self, alias: str, target: str | None) -> None:
        """Lets an alias mean an encoder from the next request on, and keeps that with the bundles.

        Args:
            alias: The further name; an encoder's own name holds that name to the version it is pointed at.
            target: A reference (`NAME@VERSION`) or a name (its newest version); None: the alias is no more.

        Raises:
            EncoderNotFound: The target does not serve, or there is no such alias to remove.
            InvalidInput: The alias is no good name, or the target is an alias.
            FailedPrecondition: The bundles folder cannot be written, or is a bundle itself.
        """
        await self._to_the_end(self._set_alias(alias, target))

    async def watch(self, every_s: float) -> None:
        """Loads what is put under the bundles folder, swaps what changes there, and unloads what is removed; for ever.

        A bundle is read once its files have been the same for two looks: one that is still being copied is not.

        Args:
            every_s: Seconds between two looks.
        """
        loaded = before = await self._look({})
        while True:
            await asyncio.sleep(every_s)
            await self._look_at_aliases()
            now = await self._look(before)
            for name in loaded.keys() - now.keys():
                logger.info("bundle is gone", extra={"bundle": name})
                for encoder in self._references_of(name) or [name]:
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
        task = asyncio.create_task(self._told(change))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return await asyncio.shield(task)

    async def _told(self, change: Coroutine[Any, Any, Result]) -> Result:
        try:
            return await change
        finally:
            if self._after_change is not None:
                await self._after_change()

    async def _load_named(self, name: str) -> EncoderInfo:
        async with self._changing:
            folder = await self._in_thread(self._folder.named, name)
            if not self._references_of(name):
                self._roster.set_state(name, EncoderState(EncoderPhase.LOADING))
            return await self._load(folder)

    async def _unload_named(self, name: str) -> None:
        async with self._changing:
            reference = self._reference_to_unload(name)
            batcher = self._roster.take(reference)
            if batcher is None:
                self._roster.state(reference)  # says that there is none
            else:
                await asyncio.to_thread(batcher.close, timeout_s=UNLOAD_S)
                logger.info("encoder unloaded", extra={"encoder": reference})
            self._roster.forget(reference)

    async def _set_alias(self, alias: str, target: str | None) -> None:
        async with self._changing:
            aliases = point_alias(self._roster.aliases, alias, target, serving=self._roster.infos())
            await self._in_thread(self._folder.write_aliases, aliases)
            self._take_up(aliases)

    async def _load(self, folder: Path) -> EncoderInfo:
        """Loads a bundle, and sets the state of what came of it."""
        serving, start_s = self._references_of(folder.name), time.monotonic()
        try:
            encoders = await self._in_thread(self._folder.load, folder)
            for encoder in encoders:
                self._check_reference(encoder.info, folder.name)
        except (BundleError, OSError, EncoderRefused, BundleTooLarge) as error:
            raise self._refuse(folder.name, error, stays=bool(serving)) from error
        for encoder in encoders:
            before = self._pool.put(encoder, folder.name)
            loaded = _loaded(encoder.info, folder.name, time.monotonic() - start_s)
            if before is None:
                logger.info("encoder loaded", extra=loaded)
            else:
                logger.info("encoder swapped", extra=loaded)
                self._finish(before)
        # What the bundle held before under another name or version, it holds no more; the new one answers already.
        for reference in set(serving) - {encoder.info.reference for encoder in encoders}:
            self._finish(self._roster.take(reference))
            self._roster.forget(reference)
            logger.info("encoder unloaded", extra={"encoder": reference})
        self._roster.forget(folder.name)
        return encoders[0].info

    def _refuse(self, folder: str, error: Exception, *, stays: bool) -> ServingError:
        """Takes note of a bundle that cannot serve; returns the error of who asked for it."""
        logger.warning("bundle refused", extra={"bundle": folder, "detail": str(error)})
        # Where what was loaded of it before still serves, or another bundle's encoder by the folder's name, the name is
        # that encoder's.
        if stays or any(info.name == folder for info in self._roster.infos()):
            self._roster.forget(folder)
        else:
            self._roster.set_state(folder, EncoderState(EncoderPhase.REFUSED, str(error)))
        if isinstance(error, ServingError):
            return error
        rest = "; what was loaded of it before still answers" if stays else ""
        return EncoderRefused(f"bundle '{folder}' was refused: {error}{rest}", encoder=folder)

    def _check_reference(self, info: EncoderInfo, folder: str) -> None:
        running = self._roster.running().get(info.reference)
        if running is not None and running.folder != folder:
            raise EncoderRefused(
                f"bundle '{folder}' is version {info.version} of encoder '{info.name}', as bundle '{running.folder}' "
                "is; give one another version or name",
                encoder=info.name,
                version=info.version,
            )

    def _reference_to_unload(self, name: str) -> str:
        found = sorted(info.reference for info in self._roster.infos() if name in (info.reference, info.name))
        if len(found) > 1:
            raise InvalidInput(f"encoder '{name}' serves in several versions: {', '.join(found)}; name one of them")
        if not found and name in self._roster.aliases:
            raise InvalidInput(f"'{name}' is an alias of '{self._roster.aliases[name]}'; name that")
        return found[0] if found else name

    async def _look_at_aliases(self) -> None:
        """Takes up a file of aliases that someone changed; one that is damaged changes nothing."""
        async with self._changing:
            try:
                found = await self._in_thread(self._folder.aliases)
            except (OSError, ValueError) as error:
                logger.warning("the aliases cannot be read", extra={"detail": str(error)})
                return
            if found == self._roster.aliases:
                return
            self._take_up(found)
        if self._after_change is not None:
            await self._after_change()

    def _take_up(self, aliases: Mapping[str, str]) -> None:
        before, self._roster.aliases = self._roster.aliases, aliases
        for alias in sorted({alias for alias, _ in aliases.items() ^ before.items()}):
            logger.info("alias changed", extra={"alias": alias, "encoder": aliases.get(alias, "")})

    async def _look(self, before: Mapping[str, Stamp]) -> Mapping[str, Stamp]:
        """Returns the bundles' stamps; those of the look before where they cannot be read just now."""
        try:
            return await self._in_thread(self._folder.stamps)
        except (OSError, ValueError) as error:
            logger.warning("the bundles folder cannot be read", extra={"detail": str(error)})
            return before

    def _references_of(self, folder: str) -> list[str]:
        return [reference for reference, running in self._roster.running().items() if running.folder == folder]

    def _finish(self, batcher: Batcher | None) -> None:
        """Lets a batcher, where there was one, finish what it accepted, while its successor answers."""
        if batcher is None:
            return
        closing = asyncio.create_task(asyncio.to_thread(batcher.close, timeout_s=UNLOAD_S))
        self._tasks.add(closing)
        closing.add_done_callback(self._tasks.discard)

    async def _in_thread(self, function: Callable[..., Result], *args: object) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._threads, partial(function, *args))

    async def close(self) -> None:
        """Waits for changes that were begun and for what was swapped out, and loads nothing more."""
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._threads.shutdown(wait=False, cancel_futures=True)


def _loaded(info: EncoderInfo, folder: str, elapsed_s: float) -> dict[str, object]:
    """Returns what the log says of an encoder that was loaded."""
    return {
        "encoder": info.reference,
        "bundle": folder,
        "fingerprint": info.fingerprint,
        "precision": info.precision,
        "duration_s": round(elapsed_s, 3),
    }
