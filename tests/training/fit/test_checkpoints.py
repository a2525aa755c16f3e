from __future__ import annotations

from pathlib import Path

import pytest
import torch

from training.fit.checkpoints import AtomicCheckpointIO, read_checkpoint


class Payload:
    """Stands for any object that would be built by unpickling."""


def test_a_checkpoint_comes_back_equal(tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint({"tensor": torch.arange(3), "step": 4}, path)

    found = AtomicCheckpointIO().load_checkpoint(path)

    assert found["step"] == 4
    assert found["tensor"].tolist() == [0, 1, 2]


def test_objects_are_never_unpickled_even_if_the_trainer_asks(tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    torch.save({"object": Payload()}, path)

    with pytest.raises(ValueError, match="damaged or no checkpoint"):
        AtomicCheckpointIO().load_checkpoint(path, weights_only=False)


def test_a_truncated_checkpoint_is_refused_with_a_remedy(tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    torch.save({"tensor": torch.zeros(1000)}, path)
    path.write_bytes(path.read_bytes()[:500])

    with pytest.raises(ValueError, match=r"last\.ckpt is damaged.*--overwrite"):
        read_checkpoint(path)
