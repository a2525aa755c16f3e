"""All collections of one data folder, which one server owns."""

from __future__ import annotations

import logging
import secrets
import shutil
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from serving.collections.catalogue_table import CatalogueTable, State
from serving.collections.collection import Collection
from serving.collections.config import CollectionsConfig
from serving.collections.database import disk_error
from serving.collections.definition import Definition, check_spec
from serving.collections.durable import sync_path
from serving.collections.lock import FolderLock
from serving.collections.recall import RecallReplayer
from serving.collections.scrub import Scrubber
from serving.collections.types import CollectionInfo, CollectionSpec, IndexSpec
from serving.errors import CollectionExists, CollectionNotFound, Draining, ServingError

__all__ = ["CollectionCatalogue"]

logger = logging.getLogger(__name__)

CATALOGUE_FILE = "catalogue.sqlite"
COLLECTIONS_FOLDER = "collections"


def _now() -> datetime:
    return datetime.now(UTC)


class CollectionCatalogue:
    """Opens a data folder and every collection in it; calls may come from any thread.

    A collection whose creation or deletion was cut short is cleaned away. One that is damaged is left as it is and out
    of service (`damaged`), and the others serve.

    Args:
        data_dir: The data folder; created where missing.
        config: How collections are kept.
        clock: Tells the time of creation and update, in UTC.

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
        clock: Callable[[], datetime] = _now,
    ) -> None:
        self._config = config or CollectionsConfig()
        self._clock = clock
        self._parent = data_dir / COLLECTIONS_FOLDER
        self._parent.mkdir(parents=True, exist_ok=True)
        self._lock = FolderLock(data_dir)
        self._changing = threading.RLock()
        self._collections: dict[str, Collection] = {}
        self._damaged: dict[str, tuple[Definition, ServingError]] = {}
        self._closed = False
        self._listeners: list[Callable[[str, bool], None]] = []
        self._scrubber = Scrubber(self._config.scrub_bytes_per_s)
        self._replayer = RecallReplayer(self._config.recall_cpu_share)
        self._builders = ThreadPoolExecutor(max_workers=1, thread_name_prefix="index-builder")
        try:
            self._table = CatalogueTable(data_dir / CATALOGUE_FILE)
            sync_path(data_dir)
            self._open_all()
        except BaseException:
            self._close_collections()
            self._lock.release()
            raise

    def create(self, spec: CollectionSpec) -> CollectionInfo:
        """Makes a new, empty collection.

        Args:
            spec: What it is.

        Returns:
            The collection as it stands.

        Raises:
            InvalidInput: The spec is out of bounds.
            CollectionExists: There is one of that name.
            StorageFull: The disk has no room.
        """
        check_spec(spec)
        with self._changing:
            self._check_open()
            if spec.name in self._collections or spec.name in self._damaged:
                raise CollectionExists(
                    f"there is a collection {spec.name!r} already; delete it or choose another name",
                    collection=spec.name,
                )
            now = self._clock()
            definition = Definition(spec=spec, uid=secrets.token_hex(8), create_time=now, update_time=now)
            self._table.add(definition)
            try:
                collection = self._make(definition)
                self._table.set_state(definition.uid, State.ACTIVE)
            except OSError as error:
                self._clean_away(definition)
                raise disk_error(error, f"collection {spec.name!r}") from error
            except BaseException:
                self._clean_away(definition)
                raise
            self._collections[spec.name] = collection
            return collection.info()

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

    def update(self, name: str, display_name: str | None = None, *, index: IndexSpec | None = None) -> CollectionInfo:
        """Changes what a collection is called by people, or its index, which is rebuilt in the background.

        Args:
            name: Its name.
            display_name: New display name; `None` leaves it.
            index: Index it shall have; `None` leaves it.

        Returns:
            The collection as it stands.

        Raises:
            CollectionNotFound: There is none of that name.
            InvalidInput: The display name cannot be shown, or there is no such index.
        """
        with self._changing:
            collection = self.get(name)
            old = collection.definition
            spec = old.spec
            if display_name is not None:
                spec = replace(spec, display_name=display_name)
            if index is not None:
                spec = replace(spec, index=index)
            check_spec(spec)
            new = replace(old, spec=spec, update_time=self._clock())
            self._table.redefine(new)
            collection.redefine(new)
            return collection.info()

    def delete(self, name: str) -> None:
        """Deletes a collection and everything in it; once it is marked, no crash brings it back.

        Args:
            name: Its name; a damaged one may be deleted too.

        Raises:
            CollectionNotFound: There is none of that name.
            StorageFull: The disk has no room even to say so.
        """
        with self._changing:
            definition = self._damaged[name][0] if name in self._damaged else self.get(name).definition
            self._table.set_state(definition.uid, State.DELETING)
            self._damaged.pop(name, None)
            collection = self._collections.pop(name, None)
            if collection is not None:
                self._replayer.remove(collection.recall)
                collection.close(deleted=True)
            self._clean_away(definition)

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
            self._close_collections()
            self._table.close()
            self._lock.release()

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
                self._collections[name] = collection = self._open(definition)
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

    def _open(self, definition: Definition, *, create: bool = False) -> Collection:
        folder = self._parent / definition.folder_name
        collection = Collection(
            folder, definition, config=self._config, builders=self._builders, create=create, on_health=self._tell
        )
        self._replayer.add(collection.recall)
        return collection

    def _make(self, definition: Definition) -> Collection:
        folder = self._parent / definition.folder_name
        folder.mkdir()
        collection = self._open(definition, create=True)
        sync_path(folder)
        sync_path(self._parent)
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
