"""Commands for analysts: what lies in a workspace, asked where it lies."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from padim_dist.cli.command import AsJson, ConfigPath, Debug, LogJson, Overrides, call, out

if TYPE_CHECKING:
    from PIL.Image import Image

app = typer.Typer()

RunId = Annotated[
    str | None, typer.Option("--run", help="A run's id, or its beginning; else the newest.")
]


@app.command()
def query(
    sql: Annotated[
        str, typer.Argument(help="Over the views scores, regions, runs, models, images.")
    ],
    config: ConfigPath,
    format: Annotated[
        str, typer.Option("--format", help="table (100 rows at most), csv, json or parquet.")
    ] = "table",
    file: Annotated[
        str | None, typer.Option("--out", help="A file for csv, json, parquet; else stdout.")
    ] = None,
    set_: Overrides = None,
    as_json: AsJson = False,
    log_json: LogJson = False,
    debug: Debug = False,
) -> None:
    """Ask the workspace in SQL (DuckDB's); for reading alone."""
    call("query", config, set_, as_json, log_json, debug, sql=sql, format=format, out=file)


@app.command()
def top(
    config: ConfigPath,
    n: Annotated[int, typer.Option("-n", help="How many.")] = 20,
    run: RunId = None,
    group: Annotated[str | None, typer.Option("--group", help="Of this group alone.")] = None,
    flagged: Annotated[bool, typer.Option("--flagged", help="Flagged ones alone.")] = False,
    set_: Overrides = None,
    as_json: AsJson = False,
    log_json: LogJson = False,
    debug: Debug = False,
) -> None:
    """The strongest anomalies of a run: lowest p-value first, then highest score."""
    more: dict[str, Any] = {"n": n, "run": run, "group": group, "flagged": flagged}
    call("top", config, set_, as_json, log_json, debug, **more)


@app.command()
def show(
    image_id: Annotated[str, typer.Argument(help="Id of an image, or its beginning.")],
    config: ConfigPath,
    run: RunId = None,
    file: Annotated[
        str | None,
        typer.Option("--out", help="PNG or JPEG; else drawn here, if the terminal can."),
    ] = None,
    set_: Overrides = None,
    as_json: AsJson = False,
    log_json: LogJson = False,
    debug: Debug = False,
) -> None:
    """An image beside its heat, with boxes of what was found, and its row."""
    can_draw = out.is_terminal and out.color_system == "truecolor" and not as_json
    screen = _draw if can_draw else None
    more: dict[str, Any] = {"image_id": image_id, "run": run, "out": file, "screen": screen}
    result = call("show", config, set_, as_json, log_json, debug, **more)
    if result.status == "scored" and file is None and not can_draw and not as_json:
        sys.stderr.write("no picture: give --out FILE, or a terminal of true colours\n")


@app.command()
def compare(
    run_a: Annotated[str, typer.Argument(help="Id of the earlier run, or its beginning.")],
    run_b: Annotated[str, typer.Argument(help="Id of the later one.")],
    config: ConfigPath,
    set_: Overrides = None,
    as_json: AsJson = False,
    log_json: LogJson = False,
    debug: Debug = False,
) -> None:
    """What two runs make of the same images: rank correlation, what moved, what is flagged."""
    call("compare", config, set_, as_json, log_json, debug, run_a=run_a, run_b=run_b)


@app.command()
def compact(
    config: ConfigPath,
    run: Annotated[
        str | None, typer.Option("--run", help="A run's id, or its beginning; else all finished.")
    ] = None,
    set_: Overrides = None,
    as_json: AsJson = False,
    log_json: LogJson = False,
    debug: Debug = False,
) -> None:
    """Merge the many small files of finished runs into a few; nothing else changes."""
    call("compact", config, set_, as_json, log_json, debug, run=run)


@app.command()
def export(
    config: ConfigPath,
    format: Annotated[str, typer.Option("--format", help="csv, or coco.")],
    file: Annotated[str, typer.Option("--out", help="The file.")],
    run: RunId = None,
    set_: Overrides = None,
    as_json: AsJson = False,
    log_json: LogJson = False,
    debug: Debug = False,
) -> None:
    """Write regions for whoever labels them: CSV, or COCO detections.

    FiftyOne imports COCO: fo.types.COCODetectionDataset, labels_path=FILE, data_path=ARCHIVE.
    """
    call("export", config, set_, as_json, log_json, debug, format=format, out=file, run=run)


def _draw(picture: Image) -> None:
    """Draw a picture in the terminal, two pixels a character."""
    from rich_pixels import Pixels

    width = min(out.width, picture.width)
    height = min(round(picture.height * width / picture.width), 2 * max(out.height - 4, 8))
    width = min(width, round(picture.width * height / picture.height))
    out.print(Pixels.from_image(picture.resize((width, height // 2 * 2))))
