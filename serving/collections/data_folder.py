"""A data folder that is open: its collections in service, those out of it, and what runs beside them."""

from __future__ import annotations

import logging
import shutil
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path

from serving.collections.catalogue_table import CatalogueTable, State
from serving.collections.clock import SteadyClock, utc_now
from serving.collections.collection import Collection
from serving.collections.config import CollectionsConfig
from serving.collections.database import disk_error
from serving.collections.definition import Definition
from serving.collections.definition_file import write_definition
from serving.collections.durable import make_folder, sync_path
from serving.collections.lock import FolderLock
from serving.collections.recall import RecallReplayer
from serving.collections.scrub import Scrubber
from serving.collections.sweeper import Sweeper
from serving.collections.types import CollectionInfo
from serving.errors import CollectionNotFound, Draining, ServingError

__all__ = ["CATALOGUE_FILE", "COLLECTIONS_FOLDER", "DataFolder"]

logger = logging.getLogger(__name__)

CATALOGUE_FILE = "catalogue.sqlite"
COLLECTIONS_FOLDER = "collections"


class DataFolder:
    """Opens a data folder and every collection in it; calls may come from any thread.

    A collection whose creation or deletion was cut short is cleaned away. One that is damaged is left as it is and out
    of service (`damaged`), and the others serve.

    Args:
        data_dir: The data folder; created where missing.
        config: How collections are kept.
        clock: Tells the time, in UTC: of creation and update, and whether a record has expired.

    Raises:
        FailedPrecondition: Another server holds the folder, or a newer diptych wrote it.
        Corrupted: The catalogue itself is damaged.
        OSError: The folder cannot be made or written.
    """

    def __init__(
        self,
        data_dir: Path,
        config: CollectionsConfig | None = None,
        *,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        self._config = config or CollectionsConfig()
        self._clock = clock
        self._steady_clock = SteadyClock(clock)
        self._parent = data_dir / COLLECTIONS_FOLDER
        make_folder(self._parent)
        self._lock = FolderLock(data_dir)
        self._changing = threading.RLock()
        self._collections: dict[str, Collection] = {}
        self._damaged: dict[str, tuple[Definition, ServingError]] = {}
        self._making: set[str] = set()
        self._welcomers: list[Callable[[str], None]] = []
        self._closed = False
        self._listeners: list[Callable[[str, bool], None]] = []
        self._scrubber = Scrubber(self._config.scrub_bytes_per_s)
        self._replayer = RecallReplayer(self._config.recall_cpu_share)
        self._builders = ThreadPoolExecutor(max_workers=1, thread_name_prefix="index-builder")
        with ExitStack() as opened:
            opened.callback(self._lock.release)
            opened.callback(self._scrubber.close)
            opened.callback(self._replayer.close)
            self._table = CatalogueTable(data_dir / CATALOGUE_FILE)
            opened.callback(self._table.close)
            sync_path(data_dir)
            opened.callback(self._close_collections)
            self._open_all()
            sweeper = Sweeper(lambda: list(self._collections.values()), pause_s=self._config.expiry_sweep_s)
            opened.callback(sweeper.close)
            self._opened = opened.pop_all()

    def has_uid(self, uid: str) -> bool:
        """Says whether a collection of that uid is in service.

        Args:
            uid: Any.

        Returns:
            False while it is being made.
        """
        return any(collection.definition.uid == uid for collection in list(self._collections.values()))

    def listen(self, listener: Callable[[str], None]) -> None:
        """Tells a listener the name of every collection that `create_filled` makes, in that thread.

        Args:
            listener: Must return at once.
        """
        self._welcomers.append(listener)

    def get(self, name: str) -> Collection:
        """Returns a collection.

        Args:
            name: Its name.

        Returns:
            The collection, in service.

        Raises:
            CollectionNotFound: There is none of that name.
            Corrupted: It is damaged and out of service.
        """
        self._check_open()
        collection = self._collections.get(name)
        if collection is not None:
            return collection
        if name in self._damaged:
            _, error = self._damaged[name]
            raise type(error)(error.message, **error.metadata)
        raise CollectionNotFound(f"there is no collection {name!r}; create it first", collection=name)

    def damaged(self) -> Mapping[str, ServingError]:
        """Returns the collections that are out of service, and why."""
        return {name: error for name, (_, error) in self._damaged.items()}

    def add_listener(self, listener: Callable[[str, bool], None]) -> None:
        """Has someone told when a collection goes out of service, or comes back.

        Args:
            listener: Gets the name and whether all of it answers, from any thread.
        """
        self._listeners.append(listener)

    def close(self) -> None:
        """Finishes accepted writes, closes every collection and gives the folder back; closing twice is harmless."""
        with self._changing:
            if self._closed:
                return
            self._closed = True
            self._opened.close()

    def list(self) -> list[CollectionInfo]:
        """Returns the collections in service, by name."""
        self._check_open()
        return [collection.info() for _, collection in sorted(self._collections.items())]

    def _open_all(self) -> None:
        known = set()
        for entry in self._table.entries():
            definition = entry.definition
            known.add(definition.folder_name)
            if entry.state is not State.ACTIVE:
                self._clean_away(definition)
                continue
            name = definition.spec.name
            try:
                folder = self._parent / definition.folder_name
                self._collections[name] = collection = self._open(folder, definition)
                write_definition(folder, definition)
                self._scrubber.add(collection.scrub)
            except (ServingError, OSError) as error:
                known_error = error if isinstance(error, ServingError) else disk_error(error, f"collection {name!r}")
                detail = {"collection": name, "detail": known_error.message}
                logger.exception("collection is out of service", extra=detail)
                self._damaged[name] = (definition, known_error)
        for folder in self._parent.iterdir():
            if folder.name not in known:
                # Not ours to remove: someone may have put it there.
                logger.warning("folder belongs to no collection", extra={"folder": str(folder)})

    def _open(self, folder: Path, definition: Definition, *, create: bool = False) -> Collection:
        collection = Collection(
            folder,
            definition,
            config=self._config,
            builders=self._builders,
            clock=self._steady_clock,
            create=create,
            on_health=self._tell,
        )
        self._replayer.add(collection.recall)
        return collection

    def _clean_away(self, definition: Definition) -> None:
        folder = self._parent / definition.folder_name
        shutil.rmtree(folder, ignore_errors=True)
        if folder.exists():
            # The row stays and says what to do at the next start.
            logger.warning("folder cannot be removed", extra={"folder": str(folder)})
            return
        self._table.remove(definition.uid)

    def _tell(self, name: str, healthy: bool) -> None:
        for listener in self._listeners:
            listener(name, healthy)

    def _close_collections(self) -> None:
        self._scrubber.close()
        self._replayer.close()
        for collection in self._collections.values():
            collection.close()
        self._builders.shutdown()

    def _check_open(self) -> None:
        if self._closed:
            raise Draining("the server is shutting down; repeat the call elsewhere or later")
