from __future__ import annotations

import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROTOS = ROOT / "protos"
BUF = Path(sys.executable).with_name("buf")

needs_buf = pytest.mark.skipif(not BUF.exists(), reason="buf-bin is a dev dependency")


def buf(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(BUF), *arguments], cwd=PROTOS, capture_output=True, text=True, check=False)


def test_the_generated_code_is_what_the_protos_say() -> None:
    command = [sys.executable, str(PROTOS / "generate.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@needs_buf
def test_the_wire_follows_its_rules_without_exception() -> None:
    done = buf("lint")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    text = (PROTOS / "buf.yaml").read_text()
    assert "except" not in text
    assert not any("buf:lint:ignore" in path.read_text() for path in (PROTOS / "diptych").rglob("*.proto"))


@needs_buf
def test_the_protos_are_formatted() -> None:
    done = buf("format", "--diff", "--exit-code", "--path", "diptych")
    assert (done.returncode, done.stdout) == (0, "")


@needs_buf
def test_the_wire_breaks_no_client_of_the_baseline() -> None:
    done = buf("breaking", "--path", "diptych", "--against", "baseline.binpb")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_copy_of_a_foreign_proto_is_the_package_s() -> None:
    # The Python module comes from googleapis-common-protos; the copy is only there for buf and other languages.
    published = (files("google.rpc") / "status.proto").read_text()
    assert (PROTOS / "third_party/google/rpc/status.proto").read_text() == published
