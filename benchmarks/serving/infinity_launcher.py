"""Run in the environment of infinity-emb: its command, made to open a local directory.

Of a local directory it finds the ONNX file by its whole path and then looks for that path inside the directory; given
the file's name alone it works.
"""

from __future__ import annotations

from pathlib import Path

import infinity_emb.transformer.embedder.optimum as optimum
from infinity_emb.cli import cli


def _model_file(**_: object) -> Path:
    return Path("model.onnx")


if __name__ == "__main__":
    optimum.get_onnx_files = _model_file
    cli()
