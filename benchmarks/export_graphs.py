"""Compares forms of one sentence encoder's ONNX graph: exporter, opset, attention, precision (docs/adr/0007).

Run: `python benchmarks/export_graphs.py` (MiniLM and Wikipedia sentences are fetched once).
Each form embeds the same length-sorted batches in turn, round after round, so that a busy machine slows all alike; the
ratio to the chosen form is the median over rounds.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime  # type: ignore[import-untyped]  # has no stubs
import torch
from numpy.typing import NDArray
from transformers import PreTrainedModel

from models.bundle.tokens import Tokenizer
from models.text.build import load_pretrained_text
from models.text.served import ServedTextEncoder
from training.corpora.catalogue import fetch
from training.corpora.readers.packaged_texts import read_wiki
from training.export.graph import export_text_graph
from training.export.quantise import calibrate_graph, quantise_graph

BATCH_SIZE = 32
INPUTS = ["input_ids", "attention_mask"]
OUTPUTS = ["last_hidden_state", "sentence_embedding"]
CHOSEN = "chosen"
CALIBRATION_COUNT = 128

Batch = tuple[NDArray[np.int64], NDArray[np.int64]]


@dataclass(frozen=True, slots=True)
class Form:
    """One way to write the graph with torch's exporters."""

    dynamo: bool
    opset: int
    attention: str

    @property
    def name(self) -> str:
        """What the table calls it."""
        return f"{'dynamo' if self.dynamo else 'tracer'} opset {self.opset}, attention {self.attention}"


FORMS = (
    Form(True, 20, "sdpa"),
    Form(True, 23, "sdpa"),
    Form(False, 17, "eager"),
    Form(False, 17, "sdpa"),
    Form(False, 20, "eager"),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--texts", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    directory = fetch("minilm")
    directory = next(path.parent for path in directory.rglob("modules.json"))
    encoder, config = load_pretrained_text(directory)
    served = ServedTextEncoder([encoder]).eval()
    texts = read_ids(directory, CALIBRATION_COUNT + arguments.texts, config.max_tokens)
    batches = make_batches(directory, texts[CALIBRATION_COUNT:])
    expected = embed_with_torch(served, batches)
    with tempfile.TemporaryDirectory() as folder:
        graphs = write_graphs(served, Path(folder), texts[:CALIBRATION_COUNT])
        report(graphs, batches, expected, rounds=arguments.rounds, threads=arguments.threads)


def read_ids(directory: Path, count: int, max_tokens: int) -> list[NDArray[np.int64]]:
    tokenizer = Tokenizer.load(directory)
    sentences = chain.from_iterable(document.sentences for document in read_wiki(fetch("wiki")))
    return [tokenizer.encode(text, max_tokens=max_tokens).ids for text in islice(sentences, count)]


def make_batches(directory: Path, texts: Sequence[NDArray[np.int64]]) -> list[Batch]:
    tokenizer = Tokenizer.load(directory)
    ids = sorted(texts, key=len)
    return [tokenizer.pad(ids[start : start + BATCH_SIZE]) for start in range(0, len(ids), BATCH_SIZE)]


def embed_with_torch(served: ServedTextEncoder, batches: Sequence[Batch]) -> NDArray[np.float32]:
    with torch.inference_mode():
        rows = [served(torch.from_numpy(ids), torch.from_numpy(mask))[1].numpy() for ids, mask in batches]
    return np.concatenate(rows)


def write_graphs(served: ServedTextEncoder, folder: Path, calibration: Sequence[NDArray[np.int64]]) -> dict[str, Path]:
    graphs = {CHOSEN: folder / "chosen.onnx", f"{CHOSEN}, int8": folder / "chosen_int8.onnx"}
    export_text_graph(served, graphs[CHOSEN])
    quantise_graph(graphs[CHOSEN], graphs[f"{CHOSEN}, int8"])
    graphs[f"{CHOSEN}, static int8"] = folder / "chosen_static.onnx"
    feeds = (dict(zip(INPUTS, (ids[None], np.ones_like(ids[None])), strict=True)) for ids in calibration)
    calibrate_graph(graphs[CHOSEN], graphs[f"{CHOSEN}, static int8"], feeds)
    for number, form in enumerate(FORMS):
        graphs[form.name] = folder / f"{number}.onnx"
        write_form(served, form, graphs[form.name])
    graphs["dynamo opset 23, attention sdpa, int8"] = folder / "23_int8.onnx"
    quantise_graph(graphs[FORMS[1].name], graphs["dynamo opset 23, attention sdpa, int8"])
    return graphs


def write_form(served: ServedTextEncoder, form: Form, path: Path) -> None:
    for module in served.modules():
        if isinstance(module, PreTrainedModel):
            module.set_attn_implementation(form.attention)
    example = (torch.ones(3, 7, dtype=torch.int64), torch.ones(3, 7, dtype=torch.int64))
    axes = {0: "batch", 1: "tokens"}
    options: dict[str, Any]
    if form.dynamo:
        sizes = {axis: torch.export.Dim(name) for axis, name in axes.items()}
        options = {"dynamic_shapes": (sizes, sizes), "external_data": False, "verbose": False}
    else:
        options = {"dynamic_axes": {**dict.fromkeys([*INPUTS, OUTPUTS[0]], axes), OUTPUTS[1]: {0: "batch"}}}
    options |= {"dynamo": form.dynamo, "opset_version": form.opset, "input_names": INPUTS, "output_names": OUTPUTS}
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        torch.onnx.export(served, example, path, **options)


def open_graph(path: Path, threads: int) -> Callable[[Batch], NDArray[np.float32]]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def embed(batch: Batch) -> NDArray[np.float32]:
        rows: NDArray[np.float32] = session.run(
            ["sentence_embedding"], {"input_ids": batch[0], "attention_mask": batch[1]}
        )[0]
        return rows

    return embed


def report(
    graphs: dict[str, Path], batches: Sequence[Batch], expected: NDArray[np.float32], *, rounds: int, threads: int
) -> None:
    sessions = {name: open_graph(path, threads) for name, path in graphs.items()}
    found = {name: np.concatenate([embed(batch) for batch in batches]) for name, embed in sessions.items()}
    seconds: dict[str, list[float]] = {name: [] for name in graphs}
    for _ in range(rounds):
        for name, embed in sessions.items():
            start = time.perf_counter()
            for batch in batches:
                embed(batch)
            seconds[name].append(time.perf_counter() - start)
    print(f"{len(expected)} sentences, batches of {BATCH_SIZE}, {threads} threads, {rounds} rounds\n")
    print("| form | nodes | MB | sentences/s | of chosen | largest difference | smallest cosine |")
    print("|---|---|---|---|---|---|---|")
    for name, path in graphs.items():
        nodes = len(onnx.load(path).graph.node)
        ratio = statistics.median(a / b for a, b in zip(seconds[CHOSEN], seconds[name], strict=True))
        difference = np.abs(found[name] - expected).max()
        cosine = (found[name] * expected).sum(axis=1).min()
        print(
            f"| {name} | {nodes} | {path.stat().st_size / 1e6:.1f} | {len(expected) / min(seconds[name]):.0f} "
            f"| {ratio:.2f} | {difference:.1e} | {cosine:.4f} |"
        )


if __name__ == "__main__":
    main()
