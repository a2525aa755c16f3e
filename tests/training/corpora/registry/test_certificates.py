"""Which authorities are trusted; a certificate is public, so one is written here."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest
from requests.adapters import HTTPAdapter

from training.corpora.registry.certificates import Network, open_session

CERTIFICATE = """-----BEGIN CERTIFICATE-----
MIIBnDCCAUGgAwIBAgIUGzojYeZi/IsDt1QRVxQ7+v/jT/0wCgYIKoZIzj0EAwIw
FDESMBAGA1UEAwwJbG9jYWxob3N0MCAXDTI2MTEyMzAwNTcwMFoYDzIxMjYxMDMw
MDA1NzAwWjAUMRIwEAYDVQQDDAlsb2NhbGhvc3QwWTATBgcqhkjOPQIBBggqhkjO
PQMBBwNCAAS5B3tqtrAsJ04GahzO4yJb+2JknyDpTd9/BxRWATtVRt0c/QfBtI9a
y0UJbBMbyPLuhGYHiCJhpWQAhGBZ4jKDo28wbTAdBgNVHQ4EFgQU1Xl8OnKPGrjc
A6dG8YldG7Z7YnMwHwYDVR0jBBgwFoAU1Xl8OnKPGrjcA6dG8YldG7Z7YnMwDwYD
VR0TAQH/BAUwAwEB/zAaBgNVHREEEzARgglsb2NhbGhvc3SHBH8AAAEwCgYIKoZI
zj0EAwIDSQAwRgIhAPENupT5uL5Wloy61Y7sSUrHd84vrH6WlJnVAjBwPYpyAiEA
nJff3WzJCim6k2FD6kYyVQ/mqOmGXIL6/QhFYH9ETWY=
-----END CERTIFICATE-----
"""


@pytest.fixture
def ca_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for variable in ("PIP_CERT", "SSL_CERT_FILE", "CURL_CA_BUNDLE", "NODE_EXTRA_CA_CERTS", "NPM_CONFIG_CAFILE"):
        monkeypatch.delenv(variable, raising=False)
    file = tmp_path / "ca.pem"
    file.write_text(CERTIFICATE)
    return file


def trusts(network: Network) -> bool:
    """Whether a connection to an HTTPS address would trust the certificate above."""
    with open_session(network) as session:
        adapter = session.get_adapter("https://anywhere")
        assert isinstance(adapter, HTTPAdapter)
        context = adapter.poolmanager.connection_pool_kw["ssl_context"]
    assert isinstance(context, ssl.SSLContext)
    assert context.verify_mode is ssl.CERT_REQUIRED
    return ssl.PEM_cert_to_DER_cert(CERTIFICATE) in context.get_ca_certs(binary_form=True)


def test_nothing_named_nothing_added(ca_file: Path) -> None:
    assert not trusts(Network())


def test_the_file_of_the_client_is_trusted(ca_file: Path) -> None:
    assert trusts(Network(ca_file=str(ca_file)))


@pytest.mark.parametrize("variable", ["PIP_CERT", "SSL_CERT_FILE", "CURL_CA_BUNDLE", "NODE_EXTRA_CA_CERTS"])
def test_the_file_of_a_variable_is_trusted(ca_file: Path, monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    monkeypatch.setenv(variable, str(ca_file))
    assert trusts(Network())


def test_a_named_file_that_is_gone_does_not_stop_it(ca_file: Path) -> None:
    assert not trusts(Network(ca_file=f"{ca_file}.gone"))


def test_the_proxy_of_the_client_is_taken() -> None:
    with open_session(Network(proxy="http://proxy:3128")) as session:
        assert session.proxies == {"http": "http://proxy:3128", "https": "http://proxy:3128"}
