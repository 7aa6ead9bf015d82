"""From which stores obstore reads: those whose settings mean the same to it as to s3fs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

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
