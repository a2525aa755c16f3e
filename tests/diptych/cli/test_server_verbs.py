"""The verbs that speak to a server, run as the command runs them, against a real server over fake encoders."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from diptych.cli.main import main
from diptych.client.sync import Client
from models.bundle.encoder import Modality
from tests.serving.fake_encoders import FakeEncoder, vector_of
from tests.serving.running_server import RunningServer, running_server

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    encoders = [FakeEncoder("words"), FakeEncoder("pictures", Modality.IMAGE)]
    with running_server(tmp_path_factory.mktemp("server"), encoders) as running:
        yield running


@pytest.fixture
def run(server: RunningServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Run]:
    """Runs the command; gives exit code, stdout, stderr."""
    monkeypatch.setenv("DIPTYCH_SERVER", server.address)

    def call(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main(arguments)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    yield call
    with Client(server.address) as client:
        for collection in client.collections():
            client.delete_collection(collection.name)


def as_json(result: tuple[int, str, str]) -> Any:
    code, out, _ = result
    assert code == 0
    return json.loads(out)


def test_collections_are_created_shown_and_deleted(run: Run) -> None:
    made = as_json(run("collections", "create", "notes", "--encoder", "words", "--json"))
    assert (made["name"], made["space"], made["dimension"]) == ("notes", "space-of-words", 8)
    run("collections", "create", "raw", "--dimension", "2", "--metric", "inner-product")
    assert [one["metric"] for one in as_json(run("collections", "list", "--json"))] == ["cosine", "inner_product"]
    code, out, err = run("collections", "list")
    assert (code, err) == (0, "")
    assert "notes" in out
    assert "inner_product" in out
    assert as_json(run("collections", "get", "raw", "--json"))["dimension"] == 2
    assert run("collections", "delete", "raw")[:2] == (0, "deleted collection 'raw'\n")
    assert run("collections", "get", "raw")[::2] == (1, "error: there is no collection 'raw'; create it first\n")


def test_filters_are_written_as_text(run: Run, tmp_path: Path) -> None:
    run("collections", "create", "notes", "--encoder", "words", "--field", "n:integer", "--field", "tags:string-list")
    lines = [
        json.dumps({"id": f"r{n}", "text": f"t{n}", "metadata": {"n": n, "tags": ["x"][: n % 2]}}) for n in range(9)
    ]
    file = tmp_path / "notes.jsonl"
    file.write_text("\n".join(lines))
    run("records", "upsert", "notes", str(file))
    odd = ["--filter", "tags contains 'x' and n < 6"]
    assert sorted(as_json(run("search", "notes", "--text", "t1", *odd, "--json"))["ids"]) == ["r1", "r3", "r5"]
    assert [one["id"] for one in as_json(run("records", "list", "notes", *odd, "--json"))] == ["r1", "r3", "r5"]
    assert run("records", "count", "notes", *odd)[:2] == (0, "3\n")
    assert run("records", "delete", "notes", *odd)[:2] == (0, "deleted 3 records of 'notes'\n")
    code, _, err = run("records", "count", "notes", "--filter", "n <")
    assert (code, err.strip()[-27:]) == (1, "), at the end (character 4)")
    assert run("records", "delete", "notes")[::2] == (1, "error: give exactly one of ids, filter (given: none)\n")


def test_fields_are_added_and_dropped(run: Run) -> None:
    run("collections", "create", "notes", "--dimension", "2", "--field", "n:integer")
    changed = as_json(run("collections", "update", "notes", "--field", "s:string", "--drop-field", "n", "--json"))
    assert changed["fields"] == {"s": "string"}
    assert "s:string" in run("collections", "list")[1]
    for arguments, message in (
        (["--drop-field", "n"], "error: 'notes' declares no field 'n'\n"),
        (["--field", "n"], "error: --field 'n' must be NAME:TYPE, as price:float\n"),
        ([], "error: there is nothing to change: give a display_name, fields or an index\n"),
    ):
        assert run("collections", "update", "notes", *arguments)[::2] == (1, message)


def test_an_index_is_chosen_in_detail_and_changed(run: Run) -> None:
    run("collections", "create", "raw", "--dimension", "32", "--structure", "ivf", "--quantiser", "sq8", "--lists", "8")
    _, out, _ = run("collections", "get", "raw")
    assert "index exact: 0 records are fewer than the 1,000 from which an index pays" in out
    run("collections", "update", "raw", "--structure", "hnsw", "--display-name", "Raw")
    found = as_json(run("collections", "get", "raw", "--json"))
    assert (found["index"], found["display_name"], found["index_status"]["active"]) == ("hnsw", "Raw", "exact")
    run("collections", "update", "raw", "--index", "exact")
    assert as_json(run("collections", "get", "raw", "--json"))["index"] == "exact"
    code, _, err = run("collections", "update", "raw", "--structure", "hnsw", "--probes", "3")
    assert (code, err) == (1, "error: index probes means nothing for hnsw; leave it 0, or choose ivf or ivf_hnsw\n")


def test_texts_become_records_and_are_found(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "notes.txt"
    file.write_text("one\n\ntwo\n")
    run("collections", "create", "notes", "--encoder", "words", "--retain-sources")
    assert run("records", "upsert", "notes", str(file))[:2] == (0, "wrote 2 records to 'notes' (sequence 2)\n")
    found = as_json(run("search", "notes", "--text", "two", "-k", "1", "--json"))
    assert found["ids"] == [f"{file}:3"]
    code, out, _ = run("search", "notes", "--text", "two", "--sources")
    assert code == 0
    first = next(line for line in out.splitlines() if line.split()[:1] == ["1"])
    assert "1.0000" in first
    assert first.rstrip().endswith("two")


def test_json_lines_carry_ids_vectors_and_metadata(run: Run, tmp_path: Path) -> None:
    metadata = {
        "n": 2**60,
        "at": {"timestamp": "2026-01-02T03:04:05+00:00"},
        "where": {"latitude_deg": 1.5, "longitude_deg": 2.5},
        "tags": ["a"],
    }
    file = tmp_path / "records.jsonl"
    rows = [{"id": "a", "vector": [1, 0], "metadata": metadata}, {"id": "b", "vector": [0, 3]}]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    run("collections", "create", "raw", "--dimension", "2", "--metric", "inner-product")
    assert as_json(run("records", "upsert", "raw", str(file), "--json")) == {"written": 2, "sequence": 2}
    shown = as_json(run("records", "get", "raw", "a", "--vectors", "--json"))
    assert (shown[0]["metadata"], shown[0]["vector"]) == (metadata, [1.0, 0.0])
    np.save(tmp_path / "query.npy", np.array([[1.0, 1.0]]))
    found = as_json(run("search", "raw", "--vector-file", str(tmp_path / "query.npy"), "--json"))
    assert (found["ids"], found["scores"]) == (["b", "a"], [3.0, 1.0])


def test_images_become_records_by_their_path(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "album"
    (folder / ".hidden").mkdir(parents=True)
    (folder / "a.png").write_bytes(b"IMG one")
    (folder / ".hidden" / "b.png").write_bytes(b"IMG two")
    run("collections", "create", "album", "--encoder", "pictures")
    assert run("records", "upsert", "album", str(folder))[0] == 0
    found = as_json(run("search", "album", "--image", str(folder / "a.png"), "--json"))
    assert found["ids"] == [str(folder / "a.png")]


def test_records_are_listed_counted_and_deleted(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "records.jsonl"
    file.write_text(
        '{"id": "b", "text": "two"}\n{"id": "a", "text": "one", "metadata": {"n": 1}}\n{"id": "c", "text": "x"}'
    )
    run("collections", "create", "notes", "--encoder", "words")
    run("records", "upsert", "notes", str(file))
    assert [one["id"] for one in as_json(run("records", "list", "notes", "--limit", "2", "--json"))] == ["a", "b"]
    assert run("records", "count", "notes")[:2] == (0, "3\n")
    code, out, err = run("records", "get", "notes", "a", "nobody")
    assert (code, err) == (1, "not in 'notes': nobody\n")
    assert "{'n': 1}" in out
    assert run("records", "delete", "notes", "a", "nobody")[:2] == (0, "deleted 1 records of 'notes'\n")
    assert as_json(run("records", "count", "notes", "--json")) == {"collection": "notes", "record_count": 2}


def test_what_users_store_is_not_read_as_markup(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "records.jsonl"
    file.write_text('{"id": "[bold]x[/]", "text": "one"}\n')
    run("collections", "create", "notes", "--encoder", "words")
    run("records", "upsert", "notes", str(file))
    assert "[bold]x[/]" in run("records", "list", "notes")[1]


def test_texts_are_embedded_from_flags_files_and_stdin(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "a.txt"
    file.write_text("two\n")
    shown = as_json(run("embed", str(file), "--text", "one", "--encoder", "words", "--json"))
    assert shown["ids"] == ["text:1", f"{file}:1"]
    np.testing.assert_allclose(shown["vectors"], [vector_of("one"), vector_of("two")], rtol=1e-6)
    monkeypatch.setattr(sys, "stdin", io.StringIO("three\n"))
    assert as_json(run("embed", "--json"))["ids"] == ["stdin:1"]
    code, out, _ = run("embed", "--text", "one")
    assert code == 0
    assert "text:1" in out


def test_vectors_are_written_whole_and_failures_named(run: Run, tmp_path: Path) -> None:
    good, bad = tmp_path / "a.png", tmp_path / "b.png"
    good.write_bytes(b"IMG one")
    bad.write_bytes(b"broken")
    out = tmp_path / "vectors.npy"
    code, printed, err = run("embed", str(good), str(bad), "--out", str(out))
    assert (code, err) == (1, f"{bad}: these bytes are no image\n")
    assert printed == f"wrote {out}: 2 x 8 float32, by 'pictures'\n"
    np.testing.assert_array_equal(np.load(out), [vector_of(b"IMG one"), np.zeros(8)])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "b.png", "vectors.npy"]


def test_kinds_are_not_mixed(run: Run, tmp_path: Path) -> None:
    image = tmp_path / "a.png"
    image.write_bytes(b"IMG")
    code, _, err = run("embed", str(image), "--text", "one")
    assert (code, err) == (1, "error: the inputs must be texts only, or images only; embed them by two commands\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["search", "notes"], "give exactly one of --text, --image, --record and --vector-file"),
        (["search", "notes", "--text", "a", "--record", "b"], "give exactly one of --text"),
        (["embed", "no-such-file"], "there is no file 'no-such-file'; for a text itself use --text"),
        (["embed", "--text", "a", "--bundle", "b"], "--bundle takes files"),
        (["records", "upsert", "notes"], "the files hold no record"),
        (["collections", "list", "--server", "127.0.0.1:1", "--timeout-s", "0.2"], "no server answers at 127.0.0.1:1"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(run: Run, arguments: list[str], message: str) -> None:
    code, out, err = run(*arguments)
    assert (code, out) == (1, "")
    assert err.startswith(f"error: {message}")
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"id": "a"}', "each object needs exactly one of text, image and vector"),
        ("[1]", "each line must be an object or a string"),
        ("{", "the line is no JSON"),
    ],
)
def test_a_bad_line_is_named_by_file_and_number(run: Run, tmp_path: Path, line: str, message: str) -> None:
    file = tmp_path / "records.jsonl"
    file.write_text(f'"fine"\n{line}\n')
    code, _, err = run("embed", str(file))
    assert code == 1
    assert err.startswith(f"error: {file}:2: {message}")


def test_the_client_s_import_stays_light() -> None:
    code = (
        "import sys, diptych\n"
        "assert not {'torch', 'numpy', 'grpc'} & {name.split('.')[0] for name in sys.modules}\n"
        "diptych.Client, diptych.AsyncClient\n"
        "heavy = {'torch', 'models', 'serving', 'training', 'onnxruntime', 'faiss', 'rich', 'tyro'}\n"
        "print(sorted(heavy & {name.split('.')[0] for name in sys.modules}))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_encoders_are_listed_unloaded_and_loaded(run: Run) -> None:
    code, out, _ = run("encoders", "list")
    assert code == 0
    assert "pictures" in out
    assert run("encoders", "unload", "words")[0] == 0
    assert [one["name"] for one in as_json(run("encoders", "list", "--json"))] == ["pictures"]
    assert as_json(run("encoders", "load", "words", "--json"))["state"] == "serving"
    code, _, err = run("encoders", "load", "nobody")
    assert code == 1
    assert "no bundle named 'nobody'" in err


def test_top_shows_what_the_server_does(run: Run, server: RunningServer) -> None:
    done = threading.Event()

    def work() -> None:
        with Client(server.address) as client:
            while not done.is_set():
                client.embed(["a b c", "d"], encoder="words")

    worker = threading.Thread(target=work)
    worker.start()
    try:
        found = as_json(run("top", "--json", "--interval-s", "0.3"))
        code, out, _ = run("top", "--interval-s", "0.3")
    finally:
        done.set()
        worker.join()
    words = next(encoder for encoder in found["encoders"] if encoder["name"] == "words@1")
    assert words["is_serving"]
    assert words["items_per_s"] > 1
    assert words["cost_per_s"] == pytest.approx(2 * words["items_per_s"], rel=0.2)
    assert 0.3 < words["padding"] < 0.4  # of three and three tokens four are read
    assert words["batch_items"] == pytest.approx(2.0)
    assert any(call["method"].endswith("EncoderService/Embed") and call["calls_per_s"] > 1 for call in found["calls"])
    assert found["memory_bytes"] > 1e7
    assert code == 0
    assert "items/s" in out
    assert "diptych.v1.EncoderService/Embed" in out
    code, _, err = run("top", "--interval-s", "0")
    assert code == 1
    assert "--interval-s (0.0) must be above 0" in err
