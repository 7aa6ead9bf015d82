"""Section of publishing: tables of the results for data platforms."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from padim_dist.config.base import Section

TableName = Annotated[str, Field(pattern=r"^[^.\s]+(\.[^.\s]+)+$")]


class IcebergConfig(Section):
    """Apache Iceberg tables, written by PyIceberg."""

    name: str = "default"
    """Name of the catalog. PyIceberg's own settings of this name count too: the environment
    variables ``PYICEBERG_CATALOG__DEFAULT__...`` and ``~/.pyiceberg.yaml``."""
    catalog: dict[str, str | bool | int | float] = Field(default_factory=dict, repr=False)
    """Properties of the catalog as PyIceberg names them, e.g. ``uri`` and ``warehouse``. Access to
    S3 is that of ``storage_options``, if there are no properties ``s3...``. Put secrets in the
    environment."""
    table: TableName = "audits.images"
    """Table with a row for each image: namespace and name. It is made if there is none."""
    regions: TableName | None = "audits.regions"
    """Table with a row for each region of a flagged image. Null: no such table."""


class PublishConfig(Section):
    """Tables that data platforms query. Every finished night is added to them."""

    iceberg: IcebergConfig | None = None
    """Apache Iceberg tables. Null: none."""
    hive: str | None = None
    """Folder (a path or any fsspec URL) of plain Parquet files in the layout of Hive:
    ``images/day=2026-11-27/`` and ``regions/day=2026-11-27/``. Null: none."""

    @property
    def is_wanted(self) -> bool:
        """Whether nights are published."""
        return self.iceberg is not None or self.hive is not None
