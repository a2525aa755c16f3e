from __future__ import annotations

import json
import pkgutil
import subprocess
import sys

import models.bundle

_PROGRAM = """
import importlib, json, sys
for name in json.loads(sys.argv[1]):
    importlib.import_module(name)
print(json.dumps(sorted({name.split(".")[0] for name in sys.modules})))
"""


def test_nothing_in_the_bundle_loads_torch() -> None:
    names = [found.name for found in pkgutil.walk_packages(models.bundle.__path__, "models.bundle.")]
    assert {"models.bundle.load", "models.bundle.offline", "models.bundle.verify"} <= set(names)

    result = subprocess.run(
        [sys.executable, "-c", _PROGRAM, json.dumps(names)], capture_output=True, text=True, check=True
    )

    loaded = set(json.loads(result.stdout))
    assert {"onnxruntime", "tokenizers", "PIL"} <= loaded
    assert not loaded & {"torch", "torchvision", "transformers", "training", "serving", "safetensors", "onnx"}
