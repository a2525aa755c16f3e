from __future__ import annotations

import subprocess
import sys


def test_collections_load_neither_grpc_nor_torch() -> None:
    code = "import serving.collections.catalogue, sys; print([m for m in ('grpc', 'torch') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout == "[]\n"


def test_the_configuration_loads_nothing_heavy() -> None:
    code = "import serving.collections.config, sys; print([m for m in ('numpy', 'faiss', 'apsw') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout == "[]\n"
