"""Environments of their own for tests that must not see this one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

__all__ = ["ROOT", "UV", "build_wheel", "make_environment", "run"]

ROOT = Path(__file__).resolve().parents[2]
UV = Path(sys.executable).parent / "uv"


def run(
    *command: str | Path, cwd: Path, check: bool = True, timeout_s: float = 900
) -> subprocess.CompletedProcess[str]:
    """Runs a command with nothing of this environment's paths; its output is shown where it fails."""
    result = subprocess.run(
        [str(word) for word in command], cwd=cwd, capture_output=True, text=True, timeout=timeout_s, check=False
    )
    if check and result.returncode != 0:
        raise AssertionError(f"{command} exited with {result.returncode}\n{result.stdout}\n{result.stderr}")
    return result


def build_wheel(destination: Path) -> Path:
    """Builds the project's wheel and returns its path."""
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", destination, ROOT, cwd=destination)
    return next(destination.glob("diptych-*.whl"))


def make_environment(folder: Path, *requirements: str | Path, options: tuple[str | Path, ...] = ()) -> Path:
    """Makes a virtual environment with what is required and returns its folder of programs."""
    run(UV, "venv", "--quiet", "--python", sys.executable, folder, cwd=folder.parent)
    python = folder / "bin" / "python"
    run(UV, "pip", "install", "--quiet", "--python", python, *options, *requirements, cwd=folder.parent)
    return folder / "bin"
