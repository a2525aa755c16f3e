"""Encoders come and go while others, and their own predecessors, answer."""

from __future__ import annotations

import asyncio
import json
import shutil
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from models.bundle.encoder import Encoder, EncoderInfo, Modality, Prepared, Purpose
from models.bundle.errors import BundleError
from serving.encoders.config import RuntimeConfig
from serving.encoders.lifecycle import EncoderLifecycle
from serving.encoders.loading import BundleFolder
from serving.encoders.pool import EncoderPool
from serving.encoders.roster import version_key
from serving.encoders.state import EncoderPhase
from serving.errors import (
    BundleTooLarge,
    Draining,
    EncoderNotFound,
    EncoderRefused,
    FailedPrecondition,
    InvalidInput,
    NotReady,
)

INFO = EncoderInfo(
    name="", version="1", modality=Modality.TEXT, dimension=1, metric="cosine", space="s", fingerprint="f",
    precision="fp32", max_tokens=20, image_size_px=0,
)  # fmt: skip
LOOK_S = 0.01


class Constant:
    """Gives the number that its bundle holds; may be held."""

    def __init__(self, name: str, version: str, number: float) -> None:
        self.info = replace(INFO, name=name, version=version, space=f"space of {number}")
        self._number = number
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Event()

    def prepare(self, item: str | bytes, *, purpose: Purpose = Purpose.DOCUMENT, truncate: bool = True) -> Prepared:
        return Prepared(np.zeros(len(item), np.int64), len(item))

    def run(self, batch: Sequence[Prepared]) -> NDArray[np.float32]:
        self.entered.set()
        assert self.gate.wait(10)
        return np.full((len(batch), 1), self._number, np.float32)


class Shelf:
    """A folder of bundles that hold a number each, and what was loaded of them."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.loaded: list[Constant] = []
        self.free_bytes: int | None = None

    def write(self, folder: str, content: object, *, name: str | None = None, version: str = "1") -> None:
        (self.path / folder).mkdir(exist_ok=True)
        manifest = {"number": content, "name": name or folder, "version": version}
        (self.path / folder / "diptych.json").write_text(json.dumps(manifest))

    def load(self, folder: Path, _: RuntimeConfig) -> Sequence[Encoder]:
        manifest = json.loads((folder / "diptych.json").read_text())
        if not isinstance(manifest["number"], int):
            raise BundleError("diptych.json: no number")
        encoder = Constant(manifest["name"], manifest["version"], manifest["number"])
        self.loaded.append(encoder)
        return [encoder]


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path)


@asynccontextmanager
async def started(shelf: Shelf) -> AsyncIterator[tuple[EncoderPool, EncoderLifecycle]]:
    config = RuntimeConfig(threads=1)
    pool = EncoderPool(config)
    folder = BundleFolder(shelf.path, config, load=shelf.load, available=lambda: shelf.free_bytes)
    lifecycle = EncoderLifecycle(pool, folder)
    await lifecycle.start()
    yield pool, lifecycle
    await pool.close(drain_s=5)
    await lifecycle.close()


async def ask(pool: EncoderPool, name: str) -> float:
    return float((await pool.embed(name, ["x"])).vectors[0, 0])


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(LOOK_S)


def phases(pool: EncoderPool) -> dict[str, str]:
    return {name: str(state.phase) for name, state in pool.roster.states().items()}


async def test_a_swap_lets_the_old_one_finish_and_the_others_alone(shelf: Shelf) -> None:
    shelf.write("one", 1)
    shelf.write("other", 7)
    async with started(shelf) as (pool, lifecycle):
        heard: list[object] = []
        pool.roster.add_listener(lambda: heard.append(pool.roster.names()["one"].phase))
        old = shelf.loaded[0]
        old.gate.clear()
        accepted = asyncio.create_task(ask(pool, "one"))
        assert await asyncio.to_thread(old.entered.wait, 10)

        shelf.write("one", 2)
        info = await lifecycle.load("one")

        assert info.space == "space of 2"
        assert await ask(pool, "one") == 2  # while the old one is still at work
        old.gate.set()
        assert await accepted == 1
        assert await ask(pool, "other") == 7
        assert set(heard) == {EncoderPhase.SERVING}  # it never ceased to serve


async def test_a_stream_of_requests_sees_no_error_through_many_swaps(shelf: Shelf) -> None:
    shelf.write("one", 0)
    async with started(shelf) as (pool, lifecycle):
        found: list[float] = []
        stop = asyncio.Event()

        async def go_on_asking() -> None:
            while not stop.is_set():
                found.append(await ask(pool, "one"))
                await asyncio.sleep(0)

        asking = [asyncio.create_task(go_on_asking()) for _ in range(4)]
        for number in range(1, 15):
            shelf.write("one", number)
            await lifecycle.load("one")
        stop.set()
        await asyncio.gather(*asking)
        assert await ask(pool, "one") == 14
        assert set(found) <= set(range(15))
        assert len(set(found)) > 3


async def test_a_bundle_that_is_refused_leaves_the_old_one_in_place(shelf: Shelf) -> None:
    shelf.write("one", 1)
    async with started(shelf) as (pool, lifecycle):
        shelf.write("one", "nothing")
        with pytest.raises(EncoderRefused, match=r"no number; what was loaded of it before still answers"):
            await lifecycle.load("one")
        assert await ask(pool, "one") == 1
        assert phases(pool) == {"one@1": "serving"}

        shelf.write("new", "nothing")
        with pytest.raises(EncoderRefused, match=r"no number$"):
            await lifecycle.load("new")
        assert phases(pool) == {"new": "refused", "one@1": "serving"}
        shelf.write("new", 3)
        await lifecycle.load("new")
        assert await ask(pool, "new") == 3

        shelf.write("thief", 9, name="one")
        with pytest.raises(EncoderRefused, match="'thief' is version 1 of encoder 'one', as bundle 'one' is"):
            await lifecycle.load("thief")
        assert await ask(pool, "one") == 1


async def test_a_bundle_whose_encoder_got_another_name_holds_the_old_one_no_more(shelf: Shelf) -> None:
    shelf.write("folder", 1, name="old")
    async with started(shelf) as (pool, lifecycle):
        shelf.write("folder", 2, name="new")
        await lifecycle.load("folder")
        assert phases(pool) == {"new@1": "serving"}
        assert await ask(pool, "new") == 2


async def test_a_name_means_the_newest_version_and_a_reference_one(shelf: Shelf) -> None:
    shelf.write("a", 9, name="one", version="9")
    shelf.write("b", 10, name="one", version="10")
    async with started(shelf) as (pool, lifecycle):
        assert [await ask(pool, name) for name in ("one", "one@9", "one@10")] == [10, 9, 10]
        assert pool.roster.resolve("").reference == "one@10"  # one name, so nothing is unclear
        assert [pool.roster.aliases_of(info) for info in pool.roster.infos()] == [["one"], []]
        with pytest.raises(EncoderNotFound, match="no encoder named 'one@11'"):
            await ask(pool, "one@11")
        with pytest.raises(InvalidInput, match="several versions: one@10, one@9; name one of them"):
            await lifecycle.unload("one")
        await lifecycle.unload("one@10")
        assert await ask(pool, "one") == 9
        shelf.write("a", 11, name="one", version="11")
        await lifecycle.load("a")
        assert phases(pool) == {"one@11": "serving"}


async def test_the_version_of_the_space_that_is_wanted_answers(shelf: Shelf) -> None:
    shelf.write("a", 9, name="one", version="9")
    shelf.write("b", 10, name="one", version="10")
    async with started(shelf) as (pool, _):
        for name in ("one", "one@10"):
            outcome = await pool.embed(name, ["x"], space="space of 9")
            assert outcome.info.reference == "one@9"
        assert (await pool.embed("one", ["x"], space="another")).info.reference == "one@10"


async def test_an_alias_moves_its_callers_and_outlives_the_server(shelf: Shelf) -> None:
    shelf.write("a", 1, name="one", version="1")
    shelf.write("b", 2, name="one", version="2")
    async with started(shelf) as (pool, lifecycle):
        await lifecycle.set_alias("live", "one@1")
        assert await ask(pool, "live") == 1
        await lifecycle.set_alias("live", "one@2")
        assert await ask(pool, "live") == 2
        await lifecycle.set_alias("one", "one@1")  # holds the name to a version
        assert await ask(pool, "one") == 1
        assert [pool.roster.aliases_of(info) for info in pool.roster.infos()] == [["one"], ["live"]]
    async with started(shelf) as (pool, lifecycle):
        assert [await ask(pool, name) for name in ("live", "one")] == [2, 1]
        await lifecycle.set_alias("one", None)
        assert await ask(pool, "one") == 2
        await lifecycle.unload("one@2")
        assert pool.roster.names()["live"].phase is EncoderPhase.REFUSED
        with pytest.raises(EncoderRefused, match="the alias means 'one@2', which is not loaded"):
            await ask(pool, "live")
        assert json.loads((shelf.path / "aliases.json").read_text()) == {"live": "one@2"}


async def test_an_alias_is_not_ready_while_its_encoder_may_still_come(shelf: Shelf) -> None:
    shelf.write("one", 1)
    (shelf.path / "aliases.json").write_text('{"live": "one@1", "gone": "two"}')
    async with started(shelf) as (pool, _):
        assert await ask(pool, "live") == 1
        with pytest.raises(EncoderRefused):
            pool.roster.find("gone")
        pool.roster.is_loading = True
        with pytest.raises(NotReady):
            pool.roster.find("gone")


async def test_aliases_that_would_mislead_are_refused(shelf: Shelf) -> None:
    shelf.write("one", 1)
    async with started(shelf) as (pool, lifecycle):
        await lifecycle.set_alias("live", "one")
        with pytest.raises(InvalidInput, match="'live' is an alias itself; point 'best' at 'one'"):
            await lifecycle.set_alias("best", "live")
        with pytest.raises(EncoderNotFound, match="no encoder 'two' serves; load it first"):
            await lifecycle.set_alias("best", "two")
        with pytest.raises(InvalidInput, match=r"the alias 'one@1' must be 1 to 63 of a-z"):
            await lifecycle.set_alias("one@1", "one")
        with pytest.raises(EncoderNotFound, match="there is no alias 'best'"):
            await lifecycle.set_alias("best", None)
        with pytest.raises(InvalidInput, match="'live' is an alias of 'one'; name that"):
            await lifecycle.unload("live")
        assert pool.roster.aliases == {"live": "one"}


@pytest.mark.parametrize("content", ["[]", "{", '{"a": 1}', '{"A b": "one"}', '{"a": ""}'])
async def test_a_damaged_file_of_aliases_is_named(shelf: Shelf, content: str) -> None:
    shelf.write("one", 1)
    (shelf.path / "aliases.json").write_text(content)
    with pytest.raises(ValueError, match=r"aliases\.json"):
        async with started(shelf):
            pass


async def test_aliases_need_a_folder_of_bundles(shelf: Shelf) -> None:
    shelf.write("one", 1)
    shelf.path = shelf.path / "one"
    async with started(shelf) as (_, lifecycle):
        with pytest.raises(FailedPrecondition, match="no folder of bundles"):
            await lifecycle.set_alias("live", "one")


async def test_aliases_of_a_watched_folder_are_followed(shelf: Shelf) -> None:
    shelf.write("one", 1)
    async with started(shelf) as (pool, lifecycle):
        watching = asyncio.create_task(lifecycle.watch(LOOK_S))
        (shelf.path / "aliases.json").write_text('{"live": "one"}')
        await until(lambda: "live" in pool.roster.names())
        (shelf.path / "aliases.json").write_text("damaged")
        await asyncio.sleep(5 * LOOK_S)
        assert await ask(pool, "live") == 1
        (shelf.path / "aliases.json").unlink()
        await until(lambda: "live" not in pool.roster.names())
        watching.cancel()


def test_versions_are_sorted_as_people_do() -> None:
    rising = ["", "1", "1.9", "1.10", "2-beta", "2", "2.0.1", "10"]
    assert sorted(reversed(rising), key=version_key) == rising


async def test_an_unloaded_encoder_finishes_first_and_is_then_unknown(shelf: Shelf) -> None:
    shelf.write("one", 1)
    async with started(shelf) as (pool, lifecycle):
        heard: list[object] = []
        pool.roster.add_listener(lambda: heard.append(phases(pool).get("one@1")))
        [encoder] = shelf.loaded
        encoder.gate.clear()
        accepted = asyncio.create_task(ask(pool, "one"))
        assert await asyncio.to_thread(encoder.entered.wait, 10)
        unloading = asyncio.create_task(lifecycle.unload("one"))
        await until(lambda: bool(heard))
        with pytest.raises(EncoderNotFound, match="is being unloaded"):
            await ask(pool, "one")
        encoder.gate.set()
        await unloading
        assert await accepted == 1
        assert heard == ["draining", None]
        with pytest.raises(EncoderNotFound, match="no encoder named 'one'"):
            await lifecycle.unload("one")
        with pytest.raises(EncoderNotFound, match="no encoder named 'one'"):
            pool.roster.state("one")
        await lifecycle.load("one")
        assert await ask(pool, "one") == 1


@pytest.mark.parametrize("name", ["missing", "../outside", "one/..", "", "."])
async def test_only_a_folder_of_the_shelf_is_loaded(shelf: Shelf, name: str) -> None:
    shelf.write("one", 1)
    (shelf.path.parent / "outside").mkdir(exist_ok=True)
    (shelf.path.parent / "outside" / "diptych.json").write_text("{}")
    async with started(shelf) as (pool, lifecycle):
        with pytest.raises(EncoderNotFound, match="give its folder's name alone"):
            await lifecycle.load(name)
        assert phases(pool) == {"one@1": "serving"}


async def test_a_bundle_that_does_not_fit_the_memory_is_not_read(shelf: Shelf) -> None:
    shelf.write("one", 1)
    async with started(shelf) as (pool, lifecycle):
        shelf.write("large", 2)
        (shelf.path / "large" / "onnx").mkdir()
        (shelf.path / "large" / "onnx" / "model.onnx").write_bytes(bytes(3_000_000))
        shelf.free_bytes = 5_999_999
        with pytest.raises(BundleTooLarge, match="'large' takes about 6 MB and 6 MB are free; unload another"):
            await lifecycle.load("large")
        assert len(shelf.loaded) == 1
        assert phases(pool) == {"large": "refused", "one@1": "serving"}
        shelf.free_bytes = 6_000_000
        await lifecycle.load("large")
        assert await ask(pool, "large") == 2


def test_there_must_be_room_in_every_process(shelf: Shelf) -> None:
    shelf.write("large", 2)
    (shelf.path / "large" / "model.onnx").write_bytes(bytes(3_000_000))
    shelf.free_bytes = 17_000_000
    folder = BundleFolder(shelf.path, RuntimeConfig(), processes=3, load=shelf.load, available=lambda: shelf.free_bytes)
    with pytest.raises(BundleTooLarge, match="takes about 18 MB in 3 processes and 17 MB are free"):
        folder.load(shelf.path / "large")
    shelf.free_bytes = 18_000_000
    assert len(folder.load(shelf.path / "large")) == 1


async def test_others_follow_a_change_before_its_caller_hears_of_it(shelf: Shelf) -> None:
    shelf.write("one", 1)
    shelf.write("bad", "no number")
    pool, seen = EncoderPool(RuntimeConfig()), list[dict[str, str]]()

    async def follow() -> None:
        await asyncio.sleep(LOOK_S)
        seen.append(phases(pool))

    folder = BundleFolder(shelf.path, RuntimeConfig(), load=shelf.load)
    lifecycle = EncoderLifecycle(pool, folder, after_change=follow)
    await lifecycle.load("one")
    assert seen == [{"one@1": "serving"}]
    with pytest.raises(EncoderRefused):
        await lifecycle.load("bad")
    assert seen[1:] == [{"one@1": "serving", "bad": "refused"}]
    await lifecycle.unload("one")
    assert seen[2:] == [{"bad": "refused"}]
    await pool.close(drain_s=5)
    await lifecycle.close()


async def test_a_watched_folder_is_followed(shelf: Shelf, tmp_path: Path) -> None:
    shelf.write("one", 1)
    async with started(shelf) as (pool, lifecycle):
        watching = asyncio.create_task(lifecycle.watch(LOOK_S))
        await asyncio.sleep(5 * LOOK_S)
        assert len(shelf.loaded) == 1  # nothing is read again

        shelf.write("two", 2)
        await until(lambda: phases(pool).get("two@1") == "serving")
        shelf.write("two", 22)
        await until(lambda: pool.roster.running()["two@1"].encoder.info.space == "space of 22")
        shelf.write("bad", "nothing")
        await until(lambda: phases(pool).get("bad") == "refused")
        reads = len(shelf.loaded)
        await asyncio.sleep(5 * LOOK_S)
        assert len(shelf.loaded) == reads  # a refused one is not tried for ever
        shelf.write("bad", 3)
        await until(lambda: phases(pool).get("bad@1") == "serving")
        shutil.rmtree(tmp_path / "two")
        shutil.rmtree(tmp_path / "bad")
        await until(lambda: phases(pool) == {"one@1": "serving"})
        assert await ask(pool, "one") == 1
        assert not watching.done()
        watching.cancel()


async def test_a_bundle_that_is_still_being_copied_is_not_read(shelf: Shelf) -> None:
    async with started(shelf) as (pool, lifecycle):
        watching = asyncio.create_task(lifecycle.watch(5 * LOOK_S))
        shelf.write("slow", "half of it")
        for size in range(20):  # a file that grows faster than the looks come
            (shelf.path / "slow" / "weights").write_bytes(bytes(size + 1))
            await asyncio.sleep(LOOK_S)
        shelf.write("slow", 5)
        await until(lambda: phases(pool).get("slow@1") == "serving")
        assert await ask(pool, "slow") == 5
        assert len(shelf.loaded) == 1
        watching.cancel()


async def test_nothing_is_loaded_into_a_pool_that_was_closed_meanwhile(shelf: Shelf) -> None:
    shelf.write("one", 1)
    async with started(shelf) as (pool, lifecycle):
        shelf.write("new", 2)
        await pool.close(drain_s=5)
        threads = threading.active_count()
        with pytest.raises(Draining, match="encoder 'new' was not loaded"):
            await lifecycle.load("new")
        assert threading.active_count() == threads
        assert "new@1" not in pool.roster.running()


async def test_a_load_whose_caller_leaves_is_finished_all_the_same(shelf: Shelf) -> None:
    shelf.write("one", 1)
    async with started(shelf) as (pool, lifecycle):
        shelf.write("new", 2)
        loading = asyncio.create_task(lifecycle.load("new"))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        loading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await loading
        await until(lambda: phases(pool).get("new@1") == "serving")
