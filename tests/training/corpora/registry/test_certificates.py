"""Which authorities are trusted; a certificate is public, so one is written here."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest
from requests.adapters import HTTPAdapter

from training.corpora.registry.certificates import Network, open_session

CERTIFICATE = bytes.fromhex(
    """
    3082019c30820141a00302010202141b3a2361e662fc8b03b7541157143bfaffe34ffd300a06082a8648ce3d040302301431123010060355
    04030c096c6f63616c686f73743020170d3236313132333030353730305a180f32313236313033303030353730305a301431123010060355
    04030c096c6f63616c686f73743059301306072a8648ce3d020106082a8648ce3d03010703420004b9077b6ab6b02c274e066a1ccee3225b
    fb62649f20e94ddf7f071456013b5546dd1cfd07c1b48f5acb45096c131bc8f2ee846607882261a56400846059e23283a36f306d301d0603
    551d0e04160414d5797c3a728f1ab8dc03a746f1895d1bb67b6273301f0603551d23041830168014d5797c3a728f1ab8dc03a746f1895d1b
    b67b6273300f0603551d130101ff040530030101ff301a0603551d110413301182096c6f63616c686f737487047f000001300a06082a8648
    ce3d0403020349003046022100f10dba94f9b8be56968cbad58eec494ac777ce2fac7e969499d50230703d8a720221009c97dfdd6cc90a29
    ba936143ea4632550fe6a8e9865c82fafd0845607f444d66
    """
)


@pytest.fixture
def ca_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for variable in ("PIP_CERT", "SSL_CERT_FILE", "CURL_CA_BUNDLE", "NODE_EXTRA_CA_CERTS", "NPM_CONFIG_CAFILE"):
        monkeypatch.delenv(variable, raising=False)
    file = tmp_path / "ca.pem"
    file.write_text(ssl.DER_cert_to_PEM_cert(CERTIFICATE))
    return file


def trusts(network: Network) -> bool:
    """Whether a connection to an HTTPS address would trust the certificate above."""
    with open_session(network) as session:
        adapter = session.get_adapter("https://anywhere")
        assert isinstance(adapter, HTTPAdapter)
        context = adapter.poolmanager.connection_pool_kw["ssl_context"]
    assert isinstance(context, ssl.SSLContext)
    assert context.verify_mode is ssl.CERT_REQUIRED
    return CERTIFICATE in context.get_ca_certs(binary_form=True)


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
