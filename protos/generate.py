"""Writes the Python wire types of `protos/diptych/v1` into `diptych/v1`, and other protocols' descriptors.

    python protos/generate.py            writes them
    python protos/generate.py --check    fails where they differ from what is written

Needs the `dev` dependencies: grpcio-tools (its version decides which protobuf the code runs on) and mypy-protobuf.
"""

from __future__ import annotations

import filecmp
import os
import shutil
import subprocess
import sys
import tempfile
from importlib.resources import files
from pathlib import Path

__all__ = ["differences", "generate", "main"]

ROOT = Path(__file__).resolve().parent.parent
PROTOS = ROOT / "protos"
PACKAGE = Path("diptych/v1")
"""The proto path is the Python package's path, so that the generated imports are right as they are."""
PROTOCOLS = ("inference/open_inference.proto", "tei/v1/tei.proto")
"""Protocols of others that the server speaks."""
DESCRIPTORS = Path("serving/rpc/protocols/descriptors.binpb")
"""Their descriptors: loaded apart from all others, so no Python is generated."""
GENERATED = ("*_pb2.py", "*_pb2.pyi", "*_pb2_grpc.py", "*_pb2_grpc.pyi")


def generate(destination: Path) -> None:
    """Writes messages, services and their typed stubs under a folder.

    Args:
        destination: Root that receives `diptych/v1/*` and the descriptors.

    Raises:
        subprocess.CalledProcessError: The compiler refused a file; it has said why on stderr.
    """
    sources = sorted(str(path.relative_to(PROTOS)) for path in (PROTOS / PACKAGE).glob("*.proto"))
    _compile(
        f"--proto_path={PROTOS}",
        f"--proto_path={PROTOS / 'third_party'}",
        f"--proto_path={files('grpc_tools') / '_proto'}",
        f"--python_out={destination}",
        f"--grpc_python_out={destination}",
        f"--mypy_out=quiet:{destination}",
        f"--mypy_grpc_out=quiet:{destination}",
        *sources,
    )
    (destination / DESCRIPTORS).parent.mkdir(parents=True, exist_ok=True)
    descriptors = f"--descriptor_set_out={destination / DESCRIPTORS}"
    _compile(f"--proto_path={PROTOS / 'third_party'}", descriptors, *PROTOCOLS)
    for path in (destination / PACKAGE).glob("*_pb2_grpc.py*"):
        # A file of messages only has an empty service module.
        if f"service {_service_name(path)}" not in (PROTOS / PACKAGE / _proto_name(path)).read_text():
            path.unlink()


def _compile(*arguments: str) -> None:
    scripts = Path(sys.executable).parent
    # The compiler finds the mypy plugins on the path; they live beside this interpreter.
    environment = {**os.environ, "PATH": f"{scripts}{os.pathsep}{os.environ.get('PATH', '')}"}
    subprocess.run([sys.executable, "-m", "grpc_tools.protoc", *arguments], check=True, env=environment)


def _proto_name(generated: Path) -> str:
    return f"{generated.name.split('_pb2_grpc')[0]}.proto"


def _service_name(generated: Path) -> str:
    return "".join(word.capitalize() for word in generated.name.split("_pb2_grpc")[0].split("_"))


def differences(fresh: Path, committed: Path) -> list[str]:
    """Returns the names of generated files that differ, are missing, or are left over, sorted.

    Args:
        fresh: Folder with newly generated files.
        committed: Folder with those in use.

    Returns:
        File names; empty where both hold the same.
    """
    names = {path.name for folder in (fresh, committed) for pattern in GENERATED for path in folder.glob(pattern)}
    _, different, missing = filecmp.cmpfiles(fresh, committed, sorted(names), shallow=False)
    return sorted([*different, *missing])


def _equal(one: Path, other: Path) -> bool:
    return one.is_file() and other.is_file() and one.read_bytes() == other.read_bytes()


def main(arguments: list[str]) -> int:
    """Generates, or checks what is generated; returns the exit code.

    Args:
        arguments: `--check`, or nothing.

    Returns:
        0 where the committed code is current, 1 otherwise.
    """
    with tempfile.TemporaryDirectory() as folder:
        generate(Path(folder))
        fresh = Path(folder)
        stale = [str(PACKAGE / name) for name in differences(fresh / PACKAGE, ROOT / PACKAGE)]
        if not _equal(fresh / DESCRIPTORS, ROOT / DESCRIPTORS):
            stale.append(str(DESCRIPTORS))
        if "--check" in arguments:
            for name in stale:
                sys.stderr.write(f"error: {name} is not what the protos say; run: python protos/generate.py\n")
            return 1 if stale else 0
        for name in stale:
            (ROOT / name).unlink(missing_ok=True)
            if (fresh / name).exists():
                shutil.copyfile(fresh / name, ROOT / name)
        sys.stderr.write(f"{len(stale)} files changed\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
