from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import apsw
import pytest

from serving.collections.catalogue import CollectionCatalogue
from serving.collections.catalogue_table import CatalogueTable, State
from serving.collections.definition import Definition, spec_from_json, spec_to_json
from serving.collections.index_types import IndexStructure, Quantiser
from serving.collections.types import (
    CollectionSpec,
    FieldDefinition,
    FieldType,
    IndexKind,
    IndexSpec,
    Metric,
    RecordWrite,
)
from serving.errors import (
    CollectionExists,
    CollectionNotFound,
    Corrupted,
    Draining,
    FailedPrecondition,
    InvalidInput,
    ServingError,
)

Open = Callable[..., CollectionCatalogue]
START = datetime(2026, 3, 1, tzinfo=UTC)

SPEC = CollectionSpec(
    name="notes",
    space="space-a",
    dimension=8,
    metric=Metric.L2,
    encoder="prose",
    index=IndexSpec.of_kind(IndexKind.EXACT),
    display_name="My notes",
    retain_source=True,
)


def clock() -> Iterator[datetime]:
    now = START
    while True:
        yield now
        now += timedelta(minutes=1)


def folders(tmp_path: Path) -> list[str]:
    return sorted(path.name for path in (tmp_path / "data" / "collections").iterdir())


def test_a_new_collection_is_empty_and_as_asked_for(open_catalogue: Open) -> None:
    info = open_catalogue().create(SPEC)
    assert info.spec == SPEC
    assert (info.record_count, info.sequence, info.indexed_count, info.index_kind) == (0, 0, 0, IndexKind.EXACT)


def test_collections_are_there_after_a_restart(open_catalogue: Open) -> None:
    first = open_catalogue()
    before = [first.create(SPEC), first.create(CollectionSpec(name="b", space="", dimension=3))]
    assert open_catalogue().list() == sorted(before, key=lambda info: info.spec.name)


def test_times_come_from_the_clock_and_an_update_moves_one(tmp_path: Path) -> None:
    times = clock()
    catalogue = CollectionCatalogue(tmp_path, clock=lambda: next(times))
    created = catalogue.create(SPEC)
    updated = catalogue.update("notes", "Other name")
    assert (created.create_time, created.update_time) == (START, START)
    assert (updated.create_time, updated.update_time) == (START, START + timedelta(minutes=1))
    assert updated.spec.display_name == "Other name"
    catalogue.close()
    catalogue = CollectionCatalogue(tmp_path)
    assert catalogue.list() == [updated]
    catalogue.close()


def test_a_name_is_taken_once(open_catalogue: Open) -> None:
    catalogue = open_catalogue()
    catalogue.create(SPEC)
    with pytest.raises(CollectionExists, match="'notes'"):
        catalogue.create(SPEC)


@pytest.mark.parametrize("name", ["", "Notes", "-a", "a-", "1a", "a" * 64, "a_b", "../a", "a\n"])
def test_bad_names_are_refused(open_catalogue: Open, name: str) -> None:
    with pytest.raises(InvalidInput, match="collection name"):
        open_catalogue().create(CollectionSpec(name=name, space="", dimension=3))


@pytest.mark.parametrize("name", ["a", "a1", "a-b", "a" * 63])
def test_good_names_pass(open_catalogue: Open, name: str) -> None:
    assert open_catalogue().create(CollectionSpec(name=name, space="", dimension=3)).spec.name == name


@pytest.mark.parametrize("dimension", [0, -1, 65_537])
def test_bad_dimensions_are_refused(open_catalogue: Open, dimension: int) -> None:
    with pytest.raises(InvalidInput, match="dimension"):
        open_catalogue().create(CollectionSpec(name="a", space="", dimension=dimension))


def test_a_deleted_collection_is_gone_and_its_name_free(
    open_catalogue: Open, write: Callable[..., RecordWrite], tmp_path: Path
) -> None:
    catalogue = open_catalogue()
    catalogue.create(SPEC)
    held = catalogue.get("notes")
    held.upsert([write("a")], space="space-a")
    catalogue.delete("notes")

    with pytest.raises(CollectionNotFound):
        catalogue.get("notes")
    with pytest.raises(CollectionNotFound):
        held.count()
    with pytest.raises(CollectionNotFound):
        catalogue.delete("notes")
    assert folders(tmp_path) == []
    assert catalogue.create(SPEC).record_count == 0


def test_a_half_created_collection_is_cleaned_away_at_the_next_start(open_catalogue: Open, tmp_path: Path) -> None:
    open_catalogue().close()
    table = CatalogueTable(tmp_path / "data" / "catalogue.sqlite")
    definition = Definition(spec=SPEC, uid="abc", create_time=START, update_time=START)
    table.add(definition)
    table.close()
    (tmp_path / "data" / "collections" / definition.folder_name).mkdir()
    (tmp_path / "data" / "collections" / definition.folder_name / "records.sqlite").write_bytes(b"half")

    catalogue = open_catalogue()

    assert catalogue.list() == []
    assert folders(tmp_path) == []
    assert catalogue.create(SPEC).spec == SPEC


def test_a_half_deleted_collection_is_finished_at_the_next_start(open_catalogue: Open, tmp_path: Path) -> None:
    first = open_catalogue()
    first.create(SPEC)
    definition = first.get("notes").definition
    first.close()
    table = CatalogueTable(tmp_path / "data" / "catalogue.sqlite")
    table.set_state(definition.uid, State.DELETING)
    table.close()

    assert open_catalogue().list() == []
    assert folders(tmp_path) == []


def test_a_folder_of_no_collection_is_left_alone(open_catalogue: Open, tmp_path: Path) -> None:
    open_catalogue().close()
    (tmp_path / "data" / "collections" / "precious").mkdir()
    open_catalogue()
    assert folders(tmp_path) == ["precious"]


@pytest.mark.parametrize("lost", ["missing", "empty", "no database"])
def test_a_lost_database_never_comes_back_empty(open_catalogue: Open, tmp_path: Path, lost: str) -> None:
    first = open_catalogue()
    first.create(SPEC)
    first.create(CollectionSpec(name="other", space="", dimension=3))
    first.close()
    (path,) = (tmp_path / "data" / "collections").glob("notes.*/records.sqlite")
    if lost == "missing":
        path.unlink()
    else:
        path.write_bytes(b"" if lost == "empty" else b"no database at all, whatever its name says" * 100)

    catalogue = open_catalogue()

    with pytest.raises(Corrupted, match="damaged" if lost == "no database" else "missing or empty"):
        catalogue.get("notes")
    assert list(catalogue.damaged()) == ["notes"]
    assert [info.spec.name for info in catalogue.list()] == ["other"]
    with pytest.raises(CollectionExists):
        catalogue.create(SPEC)
    catalogue.delete("notes")
    assert not catalogue.damaged()


def test_a_database_of_another_collection_is_refused(open_catalogue: Open, tmp_path: Path) -> None:
    first = open_catalogue()
    first.create(SPEC)
    first.create(CollectionSpec(name="other", space="space-b", dimension=8))
    first.close()
    (mine,) = (tmp_path / "data" / "collections").glob("notes.*/records.sqlite")
    (theirs,) = (tmp_path / "data" / "collections").glob("other.*/records.sqlite")
    mine.write_bytes(theirs.read_bytes())
    with pytest.raises(Corrupted, match="not the database of collection 'notes'"):
        open_catalogue().get("notes")


def set_version(path: Path, version: int) -> None:
    connection = apsw.Connection(str(path))
    connection.execute(f"PRAGMA user_version={version}")
    connection.close()


def test_a_catalogue_of_a_newer_format_is_refused_with_both_versions(open_catalogue: Open, tmp_path: Path) -> None:
    open_catalogue().close()
    set_version(tmp_path / "data" / "catalogue.sqlite", 9)
    with pytest.raises(FailedPrecondition, match="data format 9, this diptych reads up to 2") as caught:
        CollectionCatalogue(tmp_path / "data")
    assert caught.value.metadata["found_version"] == "9"
    set_version(tmp_path / "data" / "catalogue.sqlite", 1)
    open_catalogue()  # the refusal gave the lock back


def test_a_collection_of_a_newer_format_is_out_of_service_and_untouched(open_catalogue: Open, tmp_path: Path) -> None:
    first = open_catalogue()
    first.create(SPEC)
    first.close()
    (path,) = (tmp_path / "data" / "collections").glob("notes.*/records.sqlite")
    set_version(path, 9)
    with pytest.raises(FailedPrecondition, match="data format 9"):
        open_catalogue().get("notes")


def test_a_closed_catalogue_says_it_is_shutting_down(open_catalogue: Open) -> None:
    catalogue = open_catalogue()
    catalogue.create(SPEC)
    held = catalogue.get("notes")
    catalogue.close()
    catalogue.close()
    for call in (catalogue.list, held.count, lambda: catalogue.get("notes"), lambda: catalogue.create(SPEC)):
        with pytest.raises(Draining):
            call()


def test_a_collection_that_cannot_be_made_leaves_nothing(
    open_catalogue: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    catalogue = open_catalogue()

    def fail(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("serving.collections.catalogue.sync_path", fail)
        with pytest.raises(ServingError) as caught:
            catalogue.create(SPEC)
    assert caught.value.reason == "STORAGE_FULL"
    assert folders(tmp_path) == []
    assert catalogue.create(SPEC).spec == SPEC


def test_a_definition_goes_to_json_and_back_with_fields_and_an_index_in_detail() -> None:
    spec = CollectionSpec(
        name="a",
        space="s",
        dimension=32,
        index=IndexSpec(structure=IndexStructure.IVF, quantiser=Quantiser.SQ8, lists=4, target_recall=0.9),
        fields=(FieldDefinition("n", FieldType.INTEGER), FieldDefinition("place", FieldType.GEO_POINT)),
    )
    assert spec_from_json(spec_to_json(spec)) == spec
