"""What is switched off in TLS, as RFC 9325 asks for."""

import ssl
from pathlib import Path

import pytest

from mailsrv.host.certificates import self_signed
from mailsrv.host.tls import CERTIFICATE, PRIVATE_KEY, Certificates


@pytest.fixture
def context(tmp_path: Path) -> ssl.SSLContext:
    certificate, private_key = self_signed("mail.example.org")
    (tmp_path / CERTIFICATE).write_bytes(certificate)
    (tmp_path / PRIVATE_KEY).write_bytes(private_key)
    context = Certificates(tmp_path).context()
    assert context is not None
    return context


def test_nothing_older_than_tls_1_2_is_negotiated(context: ssl.SSLContext) -> None:
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2  # RFC 8996: a client's refusal may have other reasons


@pytest.mark.parametrize("option", [ssl.OP_NO_COMPRESSION, ssl.OP_NO_RENEGOTIATION, ssl.OP_CIPHER_SERVER_PREFERENCE])
def test_compression_and_renegotiation_are_off_and_our_order_of_ciphers_counts(
    option: ssl.Options, context: ssl.SSLContext
) -> None:
    assert context.options & option
