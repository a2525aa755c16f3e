"""All collections of one data folder, which one server owns."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from serving.collections.catalogue_table import State
from serving.collections.collection import Collection
from serving.collections.data_folder import CATALOGUE_FILE, COLLECTIONS_FOLDER, DataFolder
from serving.collections.database import disk_error
from serving.collections.definition import Definition, check_spec
from serving.collections.definition_file import write_definition
from serving.collections.durable import sync_path
from serving.collections.types import CollectionInfo, CollectionSpec, FieldDefinition, IndexSpec
from serving.errors import CollectionExists, CollectionNotFound

__all__ = ["CATALOGUE_FILE", "COLLECTIONS_FOLDER", "CollectionCatalogue"]


class CollectionCatalogue(DataFolder):
    """Makes, changes and deletes the collections of a data folder; calls may come from any thread."""

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
            definition = self._register(spec, secrets.token_hex(8))
            return self._fill(definition, lambda folder: self._open(folder, definition, create=True))

    def create_filled(self, spec: CollectionSpec, uid: str, fill: Callable[[Path], None]) -> CollectionInfo:
        """Makes a new collection of files that are at hand; nobody sees it before it is whole.

        Args:
            spec: What it is.
            uid: A new one, which the files name already.
            fill: Writes the record into the collection's new folder; may take long.

        Returns:
            The collection as it stands.

        Raises:
            CollectionExists: There is one of that name, or one is being made.
            Corrupted: The files are not this collection's.
            StorageFull: The disk has no room.
        """
        check_spec(spec)
        with self._changing:
            definition = self._register(spec, uid)

        def fill_and_open(folder: Path) -> Collection:
            fill(folder)
            return self._open(folder, definition)

        info = self._fill(definition, fill_and_open)
        for welcomer in self._welcomers:
            welcomer(spec.name)
        return info

    def update(
        self,
        name: str,
        display_name: str | None = None,
        *,
        fields: Sequence[FieldDefinition] | None = None,
        index: IndexSpec | None = None,
    ) -> CollectionInfo:
        """Changes what a collection is called by people, what filters may name, and its index.

        Args:
            name: Its name.
            display_name: New display name; `None` leaves it.
            fields: All fields it shall declare; new ones are filled from the record before this returns, while the
                collection reads and writes as ever. `None` leaves them.
            index: Index it shall have, rebuilt in the background while the old one answers; `None` leaves it.

        Returns:
            The collection as it stands.

        Raises:
            CollectionNotFound: There is none of that name.
            InvalidInput: The display name cannot be shown, a field cannot be declared, or there is no such index.
            FailedPrecondition: A record contradicts a new field, or a field is declared with another type already.
            Corrupted: A record is damaged.
        """
        collection = self.get(name)
        with collection.redefining:
            old = collection.definition
            spec = replace(
                old.spec,
                display_name=old.spec.display_name if display_name is None else display_name,
                fields=old.spec.fields if fields is None else tuple(fields),
                index=old.spec.index if index is None else index,
            )
            check_spec(spec)
            collection.add_fields(spec.fields)
            try:
                self._redefine(collection, replace(old, spec=spec, update_time=self._clock()))
            except BaseException:
                collection.redefine(old)
                raise
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

    def _redefine(self, collection: Collection, definition: Definition) -> None:
        with self._changing:
            if self.get(definition.spec.name) is not collection:
                raise CollectionNotFound("the collection was deleted meanwhile", collection=definition.spec.name)
            # Fields are added before they are kept, and dropped after: what is kept was checked by every write.
            self._table.redefine(definition)
            collection.redefine(definition)
            write_definition(self._parent / definition.folder_name, definition)

    def _register(self, spec: CollectionSpec, uid: str) -> Definition:
        """Notes a collection as being made, which keeps its name."""
        self._check_open()
        if spec.name in self._collections or spec.name in self._damaged or spec.name in self._making:
            raise CollectionExists(
                f"there is a collection {spec.name!r} already; delete it or choose another name", collection=spec.name
            )
        now = self._clock()
        definition = Definition(spec=spec, uid=uid, create_time=now, update_time=now)
        self._table.add(definition)
        self._making.add(spec.name)
        return definition

    def _fill(self, definition: Definition, make: Callable[[Path], Collection]) -> CollectionInfo:
        """Makes a registered collection's folder and puts it into service, or leaves nothing."""
        name, folder = definition.spec.name, self._parent / definition.folder_name
        collection: Collection | None = None
        try:
            folder.mkdir()
            collection = make(folder)
            write_definition(folder, definition)
            sync_path(folder)
            sync_path(self._parent)
            with self._changing:
                self._table.set_state(definition.uid, State.ACTIVE)
                self._collections[name] = collection
            return collection.info()
        except BaseException as error:
            if collection is not None:
                self._replayer.remove(collection.recall)
                collection.close(deleted=True)
            with self._changing:
                self._clean_away(definition)
            if isinstance(error, OSError):
                raise disk_error(error, f"collection {name!r}") from error
            raise
        finally:
            self._making.discard(name)
