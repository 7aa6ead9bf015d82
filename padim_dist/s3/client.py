"""obstore's client of a bucket, with the settings and credentials that s3fs has found."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from fsspec.asyn import sync

from padim_dist.s3.access import ClientSettings, access_of

if TYPE_CHECKING:
    from obstore.store import S3Credential, S3Store

_TRUSTED = timedelta(minutes=10)
"""For how long credentials are said to be good; obstore asks again five minutes before.

botocore renews them when they are good for less than ten minutes.
"""
_IDLE = timedelta(seconds=10)
"""How long a connection is kept: firewalls forget those that are idle, and requests would hang."""


def open_store(fs: Any, bucket: str, timeout: float, patience: float) -> S3Store | None:
    """Return obstore's client with the settings of s3fs.

    Parameters
    ----------
    fs : S3FileSystem
        It has read an object, so that it is connected.
    bucket : str
        Name of the bucket.
    timeout, patience : float
        Seconds that a read may take, and that it may wait for a connection or the next piece.

    Returns
    -------
    S3Store or None
        None where only s3fs is known to do what is asked.
    """
    from botocore.utils import get_environ_proxies
    from obstore.store import S3Store

    meta = fs.s3.meta
    settings = ClientSettings(
        fs.storage_options,
        meta.endpoint_url,
        meta.region_name,
        meta.config.s3 or {},
        fs.session.get_config_variable("ca_bundle") or os.environ.get("REQUESTS_CA_BUNDLE"),
        bool(meta.config.proxies or get_environ_proxies(meta.endpoint_url)),
        bool(meta.config.use_fips_endpoint or meta.config.use_dualstack_endpoint),
    )
    if (access := access_of(settings)) is None:
        return None
    # Each setting explicitly: obstore finds others in the environment.
    return S3Store(
        bucket,
        endpoint=access.endpoint,
        aws_endpoint_url_s3=access.endpoint,
        region=access.region,
        virtual_hosted_style_request=False,
        skip_signature=not access.is_signed,
        request_payer=access.requester_pays,
        s3_express=False,
        credential_provider=credentials_of(fs, patience) if access.is_signed else None,
        client_options={
            "allow_http": access.endpoint.startswith("http://"),
            "allow_invalid_certificates": False,
            "timeout": timedelta(seconds=timeout),
            "connect_timeout": timedelta(seconds=patience),
            "read_timeout": timedelta(seconds=patience),
            "pool_idle_timeout": _IDLE,
        },
        retry_config={"max_retries": 0},
    )


def credentials_of(fs: Any, timeout: float) -> Callable[[], S3Credential]:
    """Return what gives obstore the credentials of s3fs: those of its options, or botocore's."""

    async def find() -> tuple[str, str, str | None]:
        found = await fs.session.get_credentials()
        frozen = await found.get_frozen_credentials()
        return frozen.access_key, frozen.secret_key, frozen.token

    def credentials() -> S3Credential:
        is_given = bool(fs.key)
        given = (fs.key, fs.secret, fs.token)
        key, secret, token = given if is_given else sync(fs.loop, find, timeout=timeout)
        return {
            "access_key_id": key,
            "secret_access_key": secret,
            "token": token,
            "expires_at": None if is_given else datetime.now(UTC) + _TRUSTED,
        }

    return credentials
