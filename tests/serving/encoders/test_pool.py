"""The pool: one bad bundle or item costs only itself; a request finds the encoder it means."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from models.bundle.encoder import Encoder, EncoderInfo, Modality, Prepared, Purpose
from models.bundle.load import BundleError
from serving.encoders.config import RuntimeConfig
from serving.encoders.lifecycle import EncoderLifecycle
from serving.encoders.loading import BundleFolder
from serving.encoders.pool import EncoderPool
from serving.encoders.state import EncoderPhase
from serving.errors import (
    EncoderNotFound,
    EncoderRefused,
    InvalidInput,
    ModalityNotServed,
    NotReady,
    Overloaded,
)

Start = Callable[[Path], Awaitable[EncoderPool]]
Load = Callable[[Path, RuntimeConfig], Sequence[Encoder]]
CONFIG = RuntimeConfig(threads=1, queue_tokens=8)


class FakeEncoder:
    """A text's vector is its length; the text 'bad' cannot be used."""

    def __init__(self, name: str, modality: Modality) -> None:
        self.info = EncoderInfo(
            name=name,
            version="1",
            modality=modality,
            dimension=3,
            metric="cosine",
            space="s",
            fingerprint="f",
            precision="fp32",
            max_tokens=20 if modality is Modality.TEXT else 0,
            image_size_px=4 if modality is Modality.IMAGE else 0,
        )
        self.gate = threading.Event()
        self.gate.set()

    def prepare(self, item: str | bytes, *, purpose: Purpose = Purpose.DOCUMENT, truncate: bool = True) -> Prepared:
        if item == "bad":
            raise ValueError("'bad' cannot be used")
        return Prepared(np.zeros(len(item), np.int64), len(item), truncated=len(item) > 20)

    def run(self, batch: Sequence[Prepared]) -> NDArray[np.float32]:
        assert self.gate.wait(10)
        return np.array([[item.cost] * 3 for item in batch], np.float32)


def bundles(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).mkdir()
        (folder / name / "diptych.json").write_text("{}")
    return folder


def load(bundle_dir: Path, _: RuntimeConfig) -> Sequence[Encoder]:
    if bundle_dir.name == "damaged":
        raise BundleError("diptych.json: sha256 of onnx/model.onnx is not the manifest's")
    modality = Modality.IMAGE if bundle_dir.name.startswith("image") else Modality.TEXT
    return [FakeEncoder("text" if bundle_dir.name in {"one", "two"} else bundle_dir.name, modality)]


@pytest.fixture
async def start() -> AsyncIterator[Start]:
    pools: list[EncoderPool] = []

    async def started(folder: Path) -> EncoderPool:
        pool, lifecycle = over(folder, load)
        pools.append(pool)
        await lifecycle.start()
        return pool

    yield started
    for pool in pools:
        await pool.close(drain_s=5)


def over(folder: Path, load: Load) -> tuple[EncoderPool, EncoderLifecycle]:
    """A pool over a folder of bundles."""
    pool = EncoderPool(CONFIG)
    return pool, EncoderLifecycle(pool, BundleFolder(folder, CONFIG, load=load))


async def test_embeds_in_order_and_one_bad_item_costs_only_itself(start: Start, tmp_path: Path) -> None:
    pool = await start(bundles(tmp_path, "text"))
    outcome = await pool.embed("text", ["four", "bad", "a"])
    assert outcome.vectors[:, 0].tolist() == [4, 0, 1]
    assert list(outcome.errors) == [1]
    assert isinstance(outcome.errors[1], InvalidInput)
    assert outcome.token_counts == [4, 0, 1]
    assert outcome.truncated == [False, False, False]
    assert outcome.queue_s >= 0


async def test_a_refused_bundle_leaves_the_others_serving(start: Start, tmp_path: Path) -> None:
    pool = await start(bundles(tmp_path, ".text.partial", "damaged", "one", "text"))
    phases = {name: state.phase for name, state in pool.roster.states().items()}
    assert phases == {"damaged": EncoderPhase.REFUSED, "text@1": EncoderPhase.SERVING}
    assert [info.name for info in pool.roster.infos()] == ["text"]
    with pytest.raises(EncoderRefused, match=r"sha256 of onnx/model\.onnx"):
        pool.roster.resolve("damaged")


async def test_the_second_bundle_of_one_name_is_refused(start: Start, tmp_path: Path) -> None:
    pool = await start(bundles(tmp_path, "one", "two"))
    assert {name: state.phase for name, state in pool.roster.states().items()} == {
        "text@1": EncoderPhase.SERVING,
        "two": EncoderPhase.REFUSED,
    }


async def test_resolves_by_name_or_by_modality_where_only_one_fits(start: Start, tmp_path: Path) -> None:
    pool = await start(bundles(tmp_path, "image-a", "image-b", "text"))
    assert pool.roster.resolve("", Modality.TEXT).name == "text"
    assert pool.roster.resolve("image-b", Modality.IMAGE).name == "image-b"
    with pytest.raises(InvalidInput, match="image-a, image-b"):
        pool.roster.resolve("", Modality.IMAGE)
    with pytest.raises(ModalityNotServed):
        pool.roster.resolve("text", Modality.IMAGE)
    with pytest.raises(EncoderNotFound):
        pool.roster.resolve("missing")


async def test_says_not_ready_while_loading(tmp_path: Path) -> None:
    gate = threading.Event()

    def slow_load(bundle_dir: Path, config: RuntimeConfig) -> Sequence[Encoder]:
        assert gate.wait(10)
        return load(bundle_dir, config)

    pool, lifecycle = over(bundles(tmp_path, "text"), slow_load)
    seen: list[EncoderPhase] = []
    loading = asyncio.Event()

    def listen() -> None:
        if "text" in pool.roster.names():
            seen.append(pool.roster.names()["text"].phase)
            loading.set()

    pool.roster.add_listener(listen)
    for ask in (pool.roster.state, pool.roster.resolve):
        with pytest.raises(NotReady):  # before the folder is read
            ask("text")
    starting = asyncio.create_task(lifecycle.start())
    await asyncio.wait_for(loading.wait(), 10)
    with pytest.raises(NotReady):
        pool.roster.resolve("", Modality.TEXT)
    with pytest.raises(NotReady):
        await pool.embed("text", ["a"])
    gate.set()
    await starting
    assert list(dict.fromkeys(seen)) == [EncoderPhase.LOADING, EncoderPhase.SERVING]
    with pytest.raises(EncoderNotFound):
        pool.roster.state("missing")
    await pool.close(drain_s=5)


async def test_one_item_and_many_are_admitted_by_the_same_rule(tmp_path: Path) -> None:
    encoder = FakeEncoder("text", Modality.TEXT)
    encoder.gate.clear()
    pool, lifecycle = over(bundles(tmp_path, "text"), lambda *_: [encoder])
    await lifecycle.start()
    held = asyncio.create_task(pool.embed("text", ["x" * 20] * 10))
    await asyncio.sleep(0)
    with pytest.raises(Overloaded):
        await pool.embed("text", ["a"])
    encoder.gate.set()
    assert (await held).vectors[:, 0].tolist() == [20] * 10
    assert (await pool.embed("text", ["a"])).vectors[0, 0] == 1
    await pool.close(drain_s=5)


async def test_what_is_cached_is_not_run_again(tmp_path: Path) -> None:
    encoder = FakeEncoder("text", Modality.TEXT)
    runs: list[int] = []
    run = encoder.run

    def counted(batch: Sequence[Prepared]) -> NDArray[np.float32]:
        runs.append(len(batch))
        return run(batch)

    encoder.run = counted  # type: ignore[method-assign]  # watched
    config = RuntimeConfig(threads=1, cache_mb=1)
    pool = EncoderPool(config)
    await EncoderLifecycle(pool, BundleFolder(bundles(tmp_path, "text"), config, load=lambda *_: [encoder])).start()

    first = await pool.embed("text", ["four", "five!", "four"])
    again = await pool.embed("text", ["five!", "new", "x" * 30, "bad"])
    for purpose in (Purpose.QUERY, Purpose.QUERY):
        await pool.embed("text", ["four"], purpose=purpose)
    assert runs == [2, 2, 1]  # the batch's own double is one; a query is another item than a document
    assert first.vectors[:, 0].tolist() == [4, 5, 4]
    assert again.vectors[:, 0].tolist() == [5, 3, 30, 0]
    assert again.token_counts == [5, 3, 30, 0]
    assert again.truncated == [False, False, True, False]
    assert list(again.errors) == [3]
    third = await pool.embed("text", ["x" * 30])
    assert (third.truncated, third.token_counts) == ([True], [30])
    assert (pool.cache.hit_count, len(runs)) == (3, 3)
    await pool.close(drain_s=5)
