"""Apache Iceberg tables, written by PyIceberg.

A commit replaces the rows of the runs of a night: it removes what they had and adds what they
have. So a night that is published twice, or after a kill, is there once. Two processes that publish
the same run conflict: the later commit is refused, and done again on what is there then. Data files
hold rows of one run each, so removing a run only changes metadata.

Data files of a killed process are in no snapshot. They harm nobody, and the table's own maintenance
removes them, as it does files of old snapshots.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date
from functools import cached_property
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from padim_dist.api.publish.columns import DAY, RUN
from padim_dist.api.publish.rows import IMAGES_TABLE, REGIONS_TABLE, TABLES, Table
from padim_dist.api.sql.flags import literal
from padim_dist.config import Config
from padim_dist.config.publish import IcebergConfig
from padim_dist.errors import ConfigError, PadimDistError, RunError
from padim_dist.redaction import without_secrets_of
from padim_dist.storage import Options

if TYPE_CHECKING:
    from pyiceberg.catalog import Catalog
    from pyiceberg.table import Table as IcebergTable

_MARK = "padim-dist.table"
"""Property of a table that this package made; its value says which one."""
_PROPERTIES = {"write.metadata.delete-after-commit.enabled": "true"}
"""Each commit writes a new metadata file; only the last hundred are kept."""
_TRIES = 5
_REGION = "us-east-1"


class IcebergPlace:
    """The tables of a catalog.

    Parameters
    ----------
    config : Config
        The configuration; its section ``publish.iceberg`` is set.
    settings : IcebergConfig
        That section.

    Raises
    ------
    ConfigError
        If PyIceberg is not installed.
    """

    def __init__(self, config: Config, settings: IcebergConfig) -> None:
        if find_spec("pyiceberg") is None:
            raise ConfigError(
                "publish.iceberg needs PyIceberg, which is not installed: "
                "pip install 'padim-dist[lakehouse]'"
            )
        self._name = settings.name
        self._properties = {
            **_access_to_s3(config.storage_options, settings.catalog),
            **{name: _as_text(value) for name, value in settings.catalog.items()},
        }
        named = {IMAGES_TABLE.name: settings.table, REGIONS_TABLE.name: settings.regions}
        self._tables = {table: name for table, name in named.items() if name}
        self.tables: list[Table] = [table for table in TABLES if table.name in self._tables]
        self.title = f"Iceberg {' and '.join(self._tables.values())}"
        self.key = f"iceberg {settings.name} {settings.table} {settings.regions}"

    def identity(self) -> str:
        """Return the ids of the tables, which are made if there are none."""
        with self._in_words():
            return " ".join(str(self._open(one).metadata.table_uuid) for one in self.tables)

    def replace(
        self,
        table: Table,
        runs: Sequence[str],
        days: Sequence[date],
        read: Callable[[str], Iterator[pa.Table]],
    ) -> None:
        """Replace the rows of runs in one commit; see `Place.replace`.

        Raises
        ------
        RunError
            If the catalog or the store fails, or other writers win every time.
        ConfigError
            If the table is of something else.
        """
        from pyiceberg.exceptions import CommitFailedException, ValidationException

        with self._in_words():
            for left in reversed(range(_TRIES)):
                try:
                    _replace(self._open(table), table, runs, days, read)
                    return
                except (CommitFailedException, ValidationException):
                    # Another process has committed: this starts anew from what is there now.
                    if not left:
                        raise

    @cached_property
    def _catalog(self) -> Catalog:
        from pyiceberg.catalog import load_catalog
        from pyiceberg.exceptions import NotInstalledError

        try:
            return load_catalog(self._name, **self._properties)
        except (ValueError, ImportError, NotInstalledError) as error:
            raise ConfigError(
                f"publish.iceberg.catalog: {without_secrets_of(self._properties, str(error))}; "
                "correct it, or install what the catalog needs"
            ) from None

    def _open(self, table: Table) -> IcebergTable:
        """Open a table; make it if there is none."""
        from pyiceberg.exceptions import (
            CommitFailedException,
            NoSuchTableError,
            TableAlreadyExistsError,
        )

        name = self._tables[table.name]
        try:
            found = self._catalog.load_table(name)
        except NoSuchTableError:
            self._catalog.create_namespace_if_not_exists(name.rpartition(".")[0])
            try:
                found = self._make(name, table)
            except (TableAlreadyExistsError, CommitFailedException):  # made by another process
                found = self._catalog.load_table(name)
        if found.properties.get(_MARK) != table.name:
            raise ConfigError(
                f"the Iceberg table {name} exists, and was not made for the table of "
                f"{table.name}: its property {_MARK} is {found.properties.get(_MARK)!r}. Name "
                "another table, or set the property to "
                f"{table.name!r} if its columns are those of docs/tables.md"
            )
        return found

    def _make(self, name: str, table: Table) -> IcebergTable:
        properties = {**_PROPERTIES, _MARK: table.name}
        making = self._catalog.create_table_transaction(
            name, schema=table.schema, properties=properties
        )
        with making, making.update_spec() as partition:
            partition.add_identity(DAY)
        return self._catalog.load_table(name)

    @contextmanager
    def _in_words(self) -> Iterator[None]:
        """Turn errors of PyIceberg, of a catalog's client and of a store into ours."""
        try:
            yield
        except PadimDistError:
            raise
        except Exception as error:  # any error of a catalog's client
            # Those of the environment, too, once the catalog is open.
            opened = getattr(self.__dict__.get("_catalog"), "properties", {})
            secrets = {**opened, **self._properties}
            found = without_secrets_of(secrets, f"{type(error).__name__}: {error}")
            raise RunError(
                f"{self.title} in the catalog {self._name!r} cannot be written: {found}. What is "
                "there stays as it was; 'padim-dist publish' tries again"
            ) from None


def _replace(
    found: IcebergTable,
    table: Table,
    runs: Sequence[str],
    days: Sequence[date],
    read: Callable[[str], Iterator[pa.Table]],
) -> None:
    which = f"{RUN} IN ({_listed(runs)}) AND {DAY} IN ({_listed(map(str, days))})"
    with found.transaction() as commit:
        if set(table.schema.names) - set(found.schema().column_names):
            with commit.update_schema() as update:
                update.union_by_name(table.schema)
        with warnings.catch_warnings():
            # Also if nothing is to be removed: this is what two writers of a run conflict about.
            warnings.filterwarnings("ignore", "Delete operation did not match any records")
            commit.delete(which)
        for run in runs:
            for part in read(run):
                commit.append(part)


def _listed(texts: Iterable[str]) -> str:
    return ", ".join(map(literal, texts))


def _as_text(value: str | bool | int | float) -> str:
    """Return a property as PyIceberg wants it."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _access_to_s3(options: Options, catalog: Mapping[str, Any]) -> dict[str, str]:
    """Return PyIceberg's properties for the storage options of S3; none if the catalog has some."""
    if any(name.startswith("s3.") for name in catalog):
        return {}
    given = options.get("s3", {})
    client = given.get("client_kwargs", {})
    environment = os.environ.get
    endpoint = (
        given.get("endpoint_url")
        or client.get("endpoint_url")
        or environment("AWS_ENDPOINT_URL_S3")
        or environment("AWS_ENDPOINT_URL")
    )
    region = (
        client.get("region_name") or environment("AWS_REGION") or environment("AWS_DEFAULT_REGION")
    )
    found = {
        "s3.endpoint": endpoint,
        # Without a region, PyIceberg asks Amazon where a bucket is.
        "s3.region": region or (_REGION if endpoint else None),
        "s3.access-key-id": given.get("key"),
        "s3.secret-access-key": given.get("secret"),
        "s3.session-token": given.get("token"),
    }
    known = {name: str(value) for name, value in found.items() if value}
    # Arrow's client sends parts without a length, which Ceph's gateway refuses.
    return {"py-io-impl": "pyiceberg.io.fsspec.FsspecFileIO", **known} if known else {}
