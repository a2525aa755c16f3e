from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from models.bundle.encoder import Modality, Purpose
from models.bundle.load import load_bundle
from models.bundle.manifest import Prompts
from models.bundle.offline import OfflineConfig, embed_offline, stream_offline
from tests.models.bundle.tiny_bundle import make_image_bundle, make_text_bundle, words


@pytest.fixture
def text_bundle(tmp_path: Path) -> Path:
    make_text_bundle(tmp_path / "bundle", prompts=Prompts(query="query: "))
    return tmp_path / "bundle"


def alone(bundle: Path, text: str, purpose: Purpose = Purpose.DOCUMENT) -> NDArray[np.float32]:
    encoder = load_bundle(bundle).encoders["text"]
    (vector,) = encoder.run([encoder.prepare(text, purpose=purpose)])
    return np.asarray(vector, dtype=np.float32)


def test_every_line_of_a_text_is_an_input_in_order(text_bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("the cat\n\n  \na dog sat on the mat\n")
    (tmp_path / "b.txt").write_text("stars")

    result = embed_offline(text_bundle, [tmp_path / "a.txt", tmp_path / "b.txt"])

    assert result.ids == (f"{tmp_path}/a.txt:1", f"{tmp_path}/a.txt:4", f"{tmp_path}/b.txt:1")
    for row, text in enumerate(["the cat", "a dog sat on the mat", "stars"]):
        np.testing.assert_allclose(result.vectors[row], alone(text_bundle, text), atol=1e-6)
    assert result.errors == {}
    assert result.info.name == "tiny-text"


def test_json_lines_bring_their_ids(text_bundle: Path, tmp_path: Path) -> None:
    lines = [json.dumps({"id": "x", "text": "the cat"}), json.dumps("stars"), json.dumps({"id": "y"}), "{"]
    (tmp_path / "a.jsonl").write_text("\n".join(lines))

    result = embed_offline(text_bundle, [tmp_path / "a.jsonl"])

    assert result.ids == ("x", f"{tmp_path}/a.jsonl:2", f"{tmp_path}/a.jsonl:3", f"{tmp_path}/a.jsonl:4")
    np.testing.assert_allclose(result.vectors[0], alone(text_bundle, "the cat"), atol=1e-6)
    assert set(result.errors) == {2, 3}
    assert "an object with a string 'text'" in result.errors[2]
    assert "is no JSON" in result.errors[3]
    assert not result.vectors[2:].any()


def test_many_lines_of_mixed_length_keep_their_order(text_bundle: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    texts = [" ".join(rng.choice(words(), size=rng.integers(1, 12))) for _ in range(2_500)]
    (tmp_path / "a.txt").write_text("\n".join(texts))
    seen: list[int] = []

    result = embed_offline(text_bundle, [tmp_path / "a.txt"], OfflineConfig(batch_cost=64), progress=seen.append)

    assert seen == [1024, 2048, 2500]
    for row in (0, 1, 1023, 1024, 2048, 2499):
        np.testing.assert_allclose(result.vectors[row], alone(text_bundle, texts[row]), atol=1e-6)


def test_windows_come_one_by_one(text_bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("\n".join(["a cat"] * 1_500))
    windows = stream_offline(load_bundle(text_bundle).encoders["text"], [tmp_path / "a.txt"], OfflineConfig())
    assert [len(window.ids) for window in windows] == [1024, 476]


def test_purpose_chooses_the_prompt(text_bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("the cat")
    found = embed_offline(text_bundle, [tmp_path / "a.txt"], OfflineConfig(purpose=Purpose.QUERY)).vectors[0]
    np.testing.assert_allclose(found, alone(text_bundle, "the cat", Purpose.QUERY), atol=1e-6)
    assert np.abs(found - alone(text_bundle, "the cat")).max() > 0.01


def test_a_text_too_long_to_be_kept_whole_is_one_error(text_bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("the cat\none two three four five six seven\n")
    result = embed_offline(text_bundle, [tmp_path / "a.txt"], OfflineConfig(truncate=False))
    assert list(result.errors) == [1]
    assert "has 9 tokens, the limit is 8" in result.errors[1]
    assert result.vectors[0].any()


def test_one_bad_image_in_a_folder_is_one_error(tmp_path: Path) -> None:
    make_image_bundle(tmp_path / "bundle")
    pictures = tmp_path / "pictures"
    (pictures / "deep").mkdir(parents=True)
    golden = tmp_path / "bundle" / "golden"
    (pictures / "a.png").write_bytes((golden / "01.png").read_bytes())
    (pictures / "b.png").write_bytes(b"broken")
    (pictures / "deep" / "c.png").write_bytes((golden / "00.png").read_bytes())
    (pictures / ".hidden").write_bytes(b"")

    result = embed_offline(tmp_path / "bundle", [pictures])

    wanted = np.load(golden / "vectors.npy")
    assert [Path(name).name for name in result.ids] == ["a.png", "b.png", "c.png"]
    np.testing.assert_allclose(result.vectors[[0, 2]], wanted[[1, 0]], atol=1e-5)
    assert list(result.errors) == [1]
    assert "no JPEG, PNG" in result.errors[1]


def test_a_file_that_cannot_be_read_is_one_error(text_bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("the cat")
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9")
    result = embed_offline(text_bundle, [tmp_path / "gone.txt", tmp_path / "a.txt", tmp_path / "latin.txt"])
    assert set(result.errors) == {0, 2}
    assert "No such file" in result.errors[0]
    np.testing.assert_allclose(result.vectors[1], alone(text_bundle, "the cat"), atol=1e-6)


def test_no_input_at_all_is_refused(text_bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("\n\n")
    with pytest.raises(ValueError, match="the 1 files hold no input"):
        embed_offline(text_bundle, [tmp_path / "a.txt"])


def test_a_kind_the_bundle_does_not_read_is_refused(text_bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a cat")
    with pytest.raises(ValueError, match="the bundle reads text, 'image' was asked for; choose with --kind"):
        embed_offline(text_bundle, [tmp_path / "a.txt"], OfflineConfig(kind=Modality.IMAGE))
