"""Run in an environment of its own: opens a bundle with sentence-transformers and saves what it makes of texts."""

from __future__ import annotations

import json
import sys
from pathlib import Path


def main(bundle: str, texts_file: str, out: str) -> None:
    import numpy as np
    from sentence_transformers import SentenceTransformer

    texts = json.loads(Path(texts_file).read_text(encoding="utf-8"))
    options = {"onnx": {"file_name": "onnx/model.onnx", "provider": "CPUExecutionProvider"}, "torch": {}}
    for backend, model_kwargs in options.items():
        model = SentenceTransformer(
            bundle, device="cpu", backend=backend, local_files_only=True, model_kwargs=model_kwargs
        )
        np.save(Path(out) / f"{backend}.npy", model.encode(texts, batch_size=16))
        np.save(Path(out) / f"{backend}-query.npy", model.encode(texts, batch_size=16, prompt_name="query"))
        described = {"max_seq_length": model.max_seq_length, "similarity": str(model.similarity_fn_name)}
        (Path(out) / f"{backend}.json").write_text(json.dumps(described), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
