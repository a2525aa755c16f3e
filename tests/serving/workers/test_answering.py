"""A worker follows its owner's encoders, or forwards."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from models.bundle.encoder import EncoderInfo
from models.bundle.load import load_bundle
from models.bundle.manifest import read_manifest, write_manifest
from serving.encoders.config import RuntimeConfig
from serving.workers.answering import WorkerServer
from serving.workers.control import Step, WantedEncoder, description
from serving.workers.settings import WorkerSettings
from serving.workers.sockets import SocketFolder
from tests.models.bundle.tiny_bundle import make_image_bundle, make_text_bundle


@pytest.fixture
async def worker(tmp_path: Path) -> AsyncIterator[WorkerServer]:
    """Its owner is away, so that what it forwards fails."""
    make_text_bundle(tmp_path / "bundles" / "text-folder", name="words")
    make_image_bundle(tmp_path / "bundles" / "pictures", name="pictures")
    sockets = SocketFolder()
    server = WorkerServer(
        WorkerSettings(
            number=1,
            owner_socket=sockets.owner,
            control_socket=sockets.worker(1, 1),
            host="127.0.0.1",
            port=0,
            bundles=tmp_path / "bundles",
            tei_encoder=None,
            drain_timeout_s=1.0,
            runtime=RuntimeConfig(threads=1),
        )
    )
    await server.listen()
    yield server
    assert await server.close()
    sockets.remove()


def info(tmp_path: Path, folder: str) -> EncoderInfo:
    [encoder] = load_bundle(tmp_path / "bundles" / folder, threads=1).encoders.values()
    return encoder.info


def wanted(tmp_path: Path, *folders: str, **states: tuple[str, str]) -> Step:
    found = {folder: info(tmp_path, folder) for folder in folders}
    encoders = {one.reference: WantedEncoder(folder, description(one)) for folder, one in found.items()}
    return Step(encoders=encoders, states=states)


def states(worker: WorkerServer) -> dict[str, str]:
    return {name: state.phase.value for name, state in worker._pool.roster.states().items()}


async def test_it_holds_what_the_owner_holds(worker: WorkerServer, tmp_path: Path) -> None:
    both = wanted(tmp_path, "text-folder", "pictures", broken=("refused", "a byte was flipped"))
    assert (await worker.keep_step(both)).apart == {}
    assert states(worker) == {"words@1": "serving", "pictures@1": "serving", "broken": "refused"}
    encoder = worker._pool.roster.running()["words@1"].encoder
    assert (await worker.keep_step(wanted(tmp_path, "text-folder"))).apart == {}
    assert states(worker) == {"words@1": "serving"}
    assert worker._pool.roster.running()["words@1"].encoder is encoder


async def test_it_does_not_answer_for_an_encoder_that_it_cannot_load(worker: WorkerServer, tmp_path: Path) -> None:
    step = wanted(tmp_path, "text-folder", "pictures")
    graph = tmp_path / "bundles" / "pictures" / "onnx" / "model.onnx"
    graph.write_bytes(graph.read_bytes()[:-1])
    outcome = await worker.keep_step(step)
    assert list(outcome.apart) == ["pictures@1"]
    assert "bundle 'pictures' was refused" in outcome.apart["pictures@1"]
    assert not worker._is_local("/diptych.v1.EncoderService/Embed")
    assert (await worker.keep_step(wanted(tmp_path, "text-folder"))).apart == {}
    assert worker._is_local("/diptych.v1.EncoderService/Embed")
    assert not worker._is_local("/diptych.v1.SearchService/Search")


async def test_what_it_holds_beyond_the_owner_sets_it_apart(worker: WorkerServer, tmp_path: Path) -> None:
    other = Step(encoders={"words@1": WantedEncoder("text-folder", {"fingerprint": "another"})}, states={})
    outcome = await worker.keep_step(other)
    assert outcome.apart == {"words@1": "its bundle holds another encoder now than the one that serves"}


async def test_aliases_mean_what_they_mean_to_the_owner(worker: WorkerServer, tmp_path: Path) -> None:
    step = wanted(tmp_path, "text-folder")
    await worker.keep_step(replace(step, aliases={"live": "words@1"}))
    assert worker._pool.roster.resolve("live").name == "words"
    await worker.keep_step(step)
    assert worker._pool.roster.aliases == {}


async def test_a_new_version_in_the_same_folder_is_swapped_in(worker: WorkerServer, tmp_path: Path) -> None:
    await worker.keep_step(wanted(tmp_path, "text-folder"))
    folder = tmp_path / "bundles" / "text-folder"
    write_manifest(replace(read_manifest(folder), version="2"), folder)
    assert (await worker.keep_step(wanted(tmp_path, "text-folder"))).apart == {}
    assert states(worker) == {"words@2": "serving"}


async def test_the_messages_between_both_are_what_they_were(tmp_path: Path) -> None:
    make_text_bundle(tmp_path / "bundles" / "text-folder", name="words")
    step = wanted(tmp_path, "text-folder", broken=("refused", "ü"))
    assert Step.from_bytes(step.to_bytes()) == step
