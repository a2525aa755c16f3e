"""Run in the environment of sentence-transformers: for each number of seconds on stdin, texts a second on stdout."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from sentence_transformers import SentenceTransformer

WINDOW = 256


def main(model_dir: str, texts_file: str) -> None:
    model = SentenceTransformer(model_dir, device="cpu")
    texts = json.loads(Path(texts_file).read_text(encoding="utf-8"))
    windows = [texts[start : start + WINDOW] for start in range(0, len(texts) - WINDOW + 1, WINDOW)]
    model.encode(windows[0], batch_size=32)
    print("ready", flush=True)
    for line in sys.stdin:
        count, place, start_s = 0, 0, time.perf_counter()
        while time.perf_counter() - start_s < float(line):
            model.encode(windows[place % len(windows)], batch_size=32, normalize_embeddings=True)
            count, place = count + WINDOW, place + 1
        print(count / (time.perf_counter() - start_s), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
