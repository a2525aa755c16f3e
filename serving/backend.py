"""What the services stand on: the encoders, the collections, and the threads that collections block on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import ParamSpec, TypeVar

from serving.collections.catalogue import CollectionCatalogue
from serving.collections.collection import Collection
from serving.collections.config import CollectionsConfig
from serving.encoders.lifecycle import EncoderLifecycle
from serving.encoders.pool import EncoderPool
from serving.errors import NotReady
from serving.jobs.config import JobsConfig
from serving.jobs.kinds import JOB_KINDS
from serving.jobs.runner import JOBS_FILE, JobRunner
from serving.jobs.workplace import Workplace
from serving.snapshots.store import SNAPSHOTS_FOLDER, SnapshotStore
from serving.telemetry.call import note_call

__all__ = ["Backend"]

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


class Backend:
    """The encoders and the collections of one server.

    Args:
        pool: The encoders.
        lifecycle: Loads and unloads them.
        data_dir: The data folder.
        config: How the collections are kept.
        read_threads: Threads for searches and reads.
        write_threads: Threads for writes; apart, so that slow commits hold up no search.
        jobs: How jobs are run.
    """

    def __init__(
        self,
        pool: EncoderPool,
        lifecycle: EncoderLifecycle,
        data_dir: Path,
        config: CollectionsConfig,
        *,
        read_threads: int,
        write_threads: int,
        jobs: JobsConfig | None = None,
    ) -> None:
        self.pool = pool
        self.lifecycle = lifecycle
        self._data_dir = data_dir
        self._config = config
        self._jobs_config = jobs
        self._catalogue: CollectionCatalogue | None = None
        self._jobs: JobRunner | None = None
        self._snapshots: SnapshotStore | None = None
        self._readers = ThreadPoolExecutor(read_threads, thread_name_prefix="read")
        self._writers = ThreadPoolExecutor(write_threads, thread_name_prefix="write")

    @property
    def catalogue(self) -> CollectionCatalogue:
        """The collections.

        Raises:
            NotReady: They are still being opened.
        """
        if self._catalogue is None:
            raise NotReady("the collections are still being opened; try again in a moment")
        return self._catalogue

    @property
    def jobs(self) -> JobRunner:
        """Long work.

        Raises:
            NotReady: The data folder is still being opened.
        """
        if self._jobs is None:
            raise NotReady("the data folder is still being opened; try again in a moment")
        return self._jobs

    @property
    def snapshots(self) -> SnapshotStore:
        """Copies of collections.

        Raises:
            NotReady: The data folder is still being opened.
        """
        if self._snapshots is None:
            raise NotReady("the data folder is still being opened; try again in a moment")
        return self._snapshots

    async def open_collections(self) -> CollectionCatalogue:
        """Opens the data folder.

        Returns:
            The collections.

        Raises:
            FailedPrecondition: Another server holds the folder.
        """
        self._catalogue = await self.write(CollectionCatalogue, self._data_dir, self._config)
        await self.write(self._open_jobs, self._catalogue)
        return self._catalogue

    def collection(self, name: str) -> Collection:
        """Returns a collection by name; a look-up in memory, so it does not block.

        Args:
            name: Its name.

        Returns:
            The collection.
        """
        collection = self.catalogue.get(name)
        note_call(collection=name)
        return collection

    async def read(
        self, function: Callable[Parameters, Result], *args: Parameters.args, **kwargs: Parameters.kwargs
    ) -> Result:
        """Calls a blocking function that reads, in a thread.

        Args:
            function: What to call.
            *args: Its positional arguments.
            **kwargs: Its keyword arguments.

        Returns:
            What it returned.
        """
        return await asyncio.get_running_loop().run_in_executor(self._readers, partial(function, *args, **kwargs))

    async def write(
        self, function: Callable[Parameters, Result], *args: Parameters.args, **kwargs: Parameters.kwargs
    ) -> Result:
        """Calls a blocking function that writes, in a thread.

        Args:
            function: What to call.
            *args: Its positional arguments.
            **kwargs: Its keyword arguments.

        Returns:
            What it returned.
        """
        return await asyncio.get_running_loop().run_in_executor(self._writers, partial(function, *args, **kwargs))

    async def close(self, *, drain_s: float) -> bool:
        """Finishes what was accepted and closes the collections, flushed.

        Args:
            drain_s: Longest wait for the encoders.

        Returns:
            Whether the encoders finished in time.
        """
        finished = await self.pool.close(drain_s=drain_s)
        await self.lifecycle.close()
        if self._jobs is not None:
            await self.write(self._jobs.close)
        if self._catalogue is not None:
            await self.write(self._catalogue.close)
        self._readers.shutdown(cancel_futures=True)
        self._writers.shutdown(cancel_futures=True)
        return finished

    def _open_jobs(self, catalogue: CollectionCatalogue) -> None:
        self._snapshots = SnapshotStore(self._data_dir / SNAPSHOTS_FOLDER)
        workplace = Workplace(catalogue=catalogue, snapshots=self._snapshots)
        self._jobs = JobRunner(self._data_dir / JOBS_FILE, JOB_KINDS, workplace, self._jobs_config)
