"""TLS of Dask's connections: files of the operator, or a key that a local cluster makes itself."""

from __future__ import annotations

import datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from distributed.security import Security

from padim_dist.config import TlsConfig
from padim_dist.errors import ConfigError

_ROLES = ("scheduler", "worker", "client")


def security_of(tls: TlsConfig | None) -> Security | None:
    """Return Dask's TLS settings, the same for scheduler, worker and client.

    Raises
    ------
    ConfigError
        If a file is missing.
    """
    if tls is None:
        return None
    for path in (tls.ca, tls.cert, tls.key):
        if not Path(path).is_file():
            raise ConfigError(f"cluster.tls: there is no file {path}")
    return _security(tls.ca, tls.cert, tls.key)


def own_security() -> Security:
    """Return TLS settings with a new key, which only this process and its workers know.

    Anybody who can connect to a scheduler can run code as its user, also another user of this
    machine. The key is in memory, and workers get it through the pipe that starts them. OpenSSL
    reads keys only from files: Dask writes one into a folder of mode 0700, and removes it at once.
    """
    # Not Security.temporary(): an RSA key takes 50 ms, and its certificate is not valid any more
    # when the clock is set back.
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "padim-dist")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC))
        .not_valid_after(now + datetime.timedelta(days=3650))
        .sign(key, hashes.SHA256())
    )
    public = certificate.public_bytes(serialization.Encoding.PEM).decode()
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    ).decode()
    return _security(public, public, private)


def _security(authority: str, certificate: str, key: str) -> Security:
    """Return settings by paths or PEM texts."""
    given = {f"tls_{role}_cert": certificate for role in _ROLES}
    given |= {f"tls_{role}_key": key for role in _ROLES}
    return Security(require_encryption=True, tls_ca_file=authority, **given)
