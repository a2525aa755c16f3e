from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from serving.config import ServerConfig
from serving.encoders.config import RuntimeConfig
from serving.workers.settings import WorkerSettings, share_of_cores
from serving.workers.sockets import MAX_PATH_BYTES, SocketFolder, check_port_is_free


def test_settings_survive_their_way_to_the_worker() -> None:
    settings = WorkerSettings(
        number=3,
        owner_socket=Path("/tmp/x/owner.sock"),
        control_socket=Path("/tmp/x/worker-3-1.sock"),
        host="::1",
        port=50051,
        bundles=Path("büro bundles"),
        tei_encoder=None,
        drain_timeout_s=1.5,
        runtime=RuntimeConfig(precision="int8", threads=2, cache_mb=7),
    )
    line = settings.to_line()
    assert line.count(b"\n") == 1
    assert WorkerSettings.from_line(line) == settings


@pytest.mark.parametrize(
    ("cores", "workers", "threads", "expected"), [(8, 1, 0, 0), (8, 2, 0, 4), (8, 3, 0, 2), (2, 4, 0, 1), (8, 2, 6, 6)]
)
def test_processes_share_the_cores(
    monkeypatch: pytest.MonkeyPatch, cores: int, workers: int, threads: int, expected: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cores)))
    config = ServerConfig(workers=workers, runtime=RuntimeConfig(threads=threads))
    assert share_of_cores(config).runtime.threads == expected


def test_there_is_at_least_one_process() -> None:
    with pytest.raises(ValueError, match=r"workers \(0\) must be at least 1"):
        ServerConfig(workers=0)


def test_a_socket_has_a_path_that_the_kernel_takes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deep = tmp_path / ("d" * 100)
    deep.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(deep))
    folder = SocketFolder()
    try:
        assert len(bytes(folder.worker(999, 99_999_999))) <= MAX_PATH_BYTES
        assert list(deep.iterdir()) == []
    finally:
        folder.remove()
    assert not folder.path.exists()


def test_a_port_where_somebody_listens_is_not_free() -> None:
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        with pytest.raises(OSError, match="in use"):
            check_port_is_free("127.0.0.1", port)
        with pytest.raises(OSError, match="in use"):
            check_port_is_free("0.0.0.0", port)
    check_port_is_free("127.0.0.1", port)
    check_port_is_free("127.0.0.1", 0)
