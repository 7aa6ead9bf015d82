"""Reads of S3 objects: by obstore where it is sure to do the same as s3fs, else by s3fs.

obstore takes a quarter of the processor time. s3fs has the last word: it reads the first object
of a bucket, and whatever obstore cannot read. So errors, and what they mean, are those of s3fs.
"""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from fsspec.asyn import AsyncFileSystem, sync

from padim_dist.bodies import Body, object_tag
from padim_dist.redaction import redacted

if TYPE_CHECKING:
    from obstore.store import S3Credential, S3Store

logger = logging.getLogger("padim_dist")

_OPTIONS = {
    *("anon", "endpoint_url", "key", "secret", "token", "profile", "requester_pays"),
    *("client_kwargs", "config_kwargs", "use_listings_cache", "use_ssl", "max_concurrency"),
    *("default_block_size", "default_fill_cache", "default_cache_type"),
}
_CLIENT = {"endpoint_url", "region_name"}
_CONFIG = {
    *("retries", "max_pool_connections", "parameter_validation", "connect_timeout"),
    *("read_timeout", "response_checksum_validation", "request_checksum_calculation", "s3"),
    *("tcp_keepalive", "user_agent_extra", "signature_version"),
}
_S3_CONFIG = {"addressing_style", "payload_signing_enabled", "us_east_1_regional_endpoint"}
"""Options of s3fs, of botocore's client and of its configuration that leave obstore the choice."""
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(?<!--x-s3)")
"""Names of ordinary buckets: no access points, tenants or directory buckets."""
_TRUSTED = timedelta(minutes=5)
"""How long credentials are used until botocore is asked again; it renews them 10 minutes early."""
_MOST_FAILURES, _REST = 3, 300.0
"""Reads in a row that only s3fs can do, until obstore rests, and the seconds of the rest."""


@dataclass(frozen=True)
class ClientSettings:
    """What decides about a client of S3.

    Attributes
    ----------
    options : mapping
        Options of s3fs.
    endpoint : str
        Address that botocore found for the service.
    region : str
        Region that botocore found.
    s3 : mapping
        Section ``s3`` of botocore's configuration, with the profile's.
    ca_bundle : str or None
        File of authorities, from the environment or a profile.
    has_proxy : bool
        Whether requests go through a proxy.
    is_variant : bool
        Whether endpoints for FIPS or IPv6 are asked for.
    """

    options: Mapping[str, Any]
    endpoint: str
    region: str
    s3: Mapping[str, Any] = field(default_factory=dict)
    ca_bundle: str | None = None
    has_proxy: bool = False
    is_variant: bool = False


@dataclass(frozen=True)
class Access:
    """Settings of obstore; unsigned requests for a public bucket."""

    endpoint: str
    region: str
    is_signed: bool
    requester_pays: bool


def access_of(settings: ClientSettings) -> Access | None:
    """Return obstore's settings; None where only s3fs is known to do what is asked.

    Examples
    --------
    >>> access_of(ClientSettings({"anon": True}, "https://s3.example.org", "eu-west-1"))
    Access(endpoint='https://s3.example.org', region='eu-west-1', is_signed=False, ...)
    >>> access_of(ClientSettings({"client_kwargs": {"verify": False}}, "https://s3", "eu-west-1"))
    """
    options, place = settings.options, urlsplit(settings.endpoint)
    config = options.get("config_kwargs") or {}
    is_plain = (
        set(options) <= _OPTIONS
        and set(options.get("client_kwargs") or {}) <= _CLIENT
        and set(config) <= _CONFIG
        and config.get("signature_version", "s3v4") == "s3v4"
        and set(settings.s3) <= _S3_CONFIG
        and settings.s3.get("addressing_style") != "virtual"
        and bool(options.get("key")) == bool(options.get("secret"))
    )
    is_reachable = (
        place.scheme in ("http", "https")
        and place.path in ("", "/")
        and not (place.query or place.fragment or place.username or place.password)
        # obstore would trust the system's authorities too.
        and not (place.scheme == "https" and settings.ca_bundle)
        and not (settings.has_proxy or settings.is_variant)
    )
    if not (is_plain and is_reachable):
        return None
    return Access(
        f"{place.scheme}://{place.netloc}",
        # botocore's name of the region for requests without one.
        "us-east-1" if settings.region == "aws-global" else settings.region,
        not options.get("anon"),
        bool(options.get("requester_pays")),
    )


def read_object(
    fs: AsyncFileSystem, url: str, start: int | None, stop: int | None, timeout: float | None
) -> Body:
    """Read an object of S3, or a range of it; one request, if all goes well.

    Raises
    ------
    FileNotFoundError
        If there is none.
    TimeoutError
        If it takes longer than `timeout` seconds.
    """
    bucket, key, version = fs.split_path(url)
    began, lane = time.monotonic(), None
    # obstore takes slashes at the ends of a key away.
    if timeout and version is None and key.strip("/") == key and _BUCKET.fullmatch(bucket):
        lane = _lane(fs, bucket, timeout)
    failure = None
    if lane and lane.is_ready():
        try:
            return lane.read(key, start, stop)
        except MemoryError:
            raise
        except Exception as error:  # s3fs tells what it means
            failure = error
    left = timeout and timeout - (time.monotonic() - began)
    if left is not None and left <= 0:
        raise TimeoutError from failure
    body: Body
    body, is_encrypted = sync(fs.loop, _get, fs, bucket, key, start, stop, timeout=left)
    if lane:
        lane.s3fs_has_read(fs, is_encrypted, failure)
    return body


class _Lane:
    """Reads of one bucket by obstore, with one deadline."""

    def __init__(self, bucket: str, timeout: float) -> None:
        self._bucket, self._timeout = bucket, timeout
        self._store: S3Store | None = None
        self._is_open, self._is_encrypted = False, False
        self._failures, self._rests_until = 0, 0.0
        self._lock = threading.Lock()

    def is_ready(self) -> bool:
        """Return whether obstore may read: s3fs has read an object, and obstore does not rest."""
        return self._store is not None and time.monotonic() >= self._rests_until

    def read(self, key: str, start: int | None, stop: int | None) -> Body:
        """Read an object, or a range of it; errors of any class."""
        assert self._store is not None
        part = None if start is None or stop is None else (start, stop)
        result = self._store.get(key, options={"range": part} if part else None)
        data, tag = result.bytes().to_bytes(), object_tag({"etag": result.meta["e_tag"]})
        self._failures = 0
        return Body(data, tag, _md5_of(tag, part is not None, self._is_encrypted))

    def s3fs_has_read(
        self, fs: AsyncFileSystem, is_encrypted: bool, failure: Exception | None
    ) -> None:
        """Let obstore begin; or rest, if s3fs could read several times in a row what it could not.

        Parameters
        ----------
        fs : AsyncFileSystem
            File system that has read.
        is_encrypted : bool
            Whether etags of the bucket are no checksums.
        failure : Exception or None
            Why obstore could not read the same object.
        """
        with self._lock:
            self._is_encrypted = is_encrypted
            if not self._is_open:
                self._is_open = True
                try:
                    self._store = _open(fs, self._bucket, self._timeout)
                except Exception as error:  # s3fs can read
                    self._tell(error)
            if failure:
                self._failures += 1
            if self._failures >= _MOST_FAILURES:
                self._failures, self._rests_until = 0, time.monotonic() + _REST
                self._tell(failure)

    def _tell(self, failure: Exception | None) -> None:
        reason = redacted(str(failure).partition("\n")[0])
        logger.info("s3fs reads s3://%s: obstore cannot (%s)", self._bucket, reason)


_lanes: dict[tuple[AsyncFileSystem, str, float], _Lane] = {}


def _lane(fs: AsyncFileSystem, bucket: str, timeout: float) -> _Lane:
    """Return the lane of this process; file systems of other processes are not equal."""
    key = (fs, bucket, timeout)
    return _lanes.get(key) or _lanes.setdefault(key, _Lane(bucket, timeout))


def _open(fs: Any, bucket: str, timeout: float) -> S3Store | None:
    """Return obstore's client with the settings of s3fs."""
    from botocore.utils import get_environ_proxies
    from obstore.store import S3Store

    meta = fs.s3.meta
    settings = ClientSettings(
        fs.storage_options,
        meta.endpoint_url,
        meta.region_name,
        meta.config.s3 or {},
        fs.session.get_config_variable("ca_bundle"),
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
        credential_provider=_credentials_of(fs, timeout) if access.is_signed else None,
        client_options={
            "allow_http": access.endpoint.startswith("http://"),
            "allow_invalid_certificates": False,
            "timeout": timedelta(seconds=timeout),
            "connect_timeout": timedelta(seconds=timeout),
        },
        retry_config={"max_retries": 0},
    )


def _credentials_of(fs: Any, timeout: float) -> Callable[[], S3Credential]:
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


async def _get(
    fs: Any, bucket: str, key: str, start: int | None, stop: int | None
) -> tuple[Body, bool]:
    """Read by s3fs, body and etag in one request; and tell whether it is stored encrypted."""
    part = {} if start is None or stop is None else {"Range": f"bytes={start}-{stop - 1}"}
    response = await fs._call_s3("get_object", Bucket=bucket, Key=key, **part)
    async with response["Body"] as stream:
        data = await stream.read()
    encryption = response.get("ServerSideEncryption", "")
    is_encrypted = "kms" in encryption or "SSECustomerAlgorithm" in response
    tag = object_tag(response)
    return Body(data, tag, _md5_of(tag, bool(part), is_encrypted)), is_encrypted


def _md5_of(tag: str | None, is_part: bool, is_encrypted: bool) -> str | None:
    """Return the etag if it is the MD5 of the body."""
    is_plain = tag is not None and re.fullmatch("[0-9a-f]{32}", tag) is not None
    return tag if is_plain and not is_part and not is_encrypted else None
