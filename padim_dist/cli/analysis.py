"""The command line: commands for analysts, on the runs of a workspace."""

from typing import TYPE_CHECKING

import typer

import padim_dist as padim
from padim_dist.cli import options, output
from padim_dist.cli.command import Session, command

if TYPE_CHECKING:
    from padim_dist.api.analysis.compact import CompactResult
    from padim_dist.api.analysis.compare import CompareResult
    from padim_dist.api.analysis.export import ExportResult
    from padim_dist.api.analysis.query import QueryResult
    from padim_dist.api.analysis.show import ShowResult
    from padim_dist.api.analysis.top import TopResult

app = typer.Typer()


@app.command()
@command(output.print_query)
def query(
    session: Session,
    *,
    sql: options.Sql,
    run: options.OnlyRun = None,
    format: options.QueryFormat = "table",
    out: options.QueryFile = None,
) -> "QueryResult":
    """Query the workspace in SQL (DuckDB), read-only."""
    return padim.query(session.config, session.listener, sql=sql, format=format, out=out, run=run)


@app.command()
@command(output.print_top)
def top(
    session: Session,
    *,
    n: options.Number = 20,
    run: options.RunId = None,
    group: options.Group = None,
    flagged: options.Flagged = False,
) -> "TopResult":
    """List the strongest anomalies of a run: lowest p-value first, then highest score."""
    return padim.top(session.config, session.listener, n=n, run=run, group=group, flagged=flagged)


@app.command()
@command(output.print_show)
def show(
    session: Session,
    *,
    image_id: options.ImageId,
    run: options.RunId = None,
    out: options.PictureFile = None,
) -> "ShowResult":
    """Show an image next to its heatmap with boxes of regions, and its details."""
    return padim.show(
        session.config,
        session.listener,
        image_id=image_id,
        run=run,
        out=out,
        screen=session.screen,
    )


@app.command()
@command(output.print_compare)
def compare(
    session: Session, *, run_a: options.EarlierRun, run_b: options.LaterRun
) -> "CompareResult":
    """Compare two runs on the images they share: rank correlation, ranks, flagged images."""
    return padim.compare(session.config, session.listener, run_a=run_a, run_b=run_b)


@app.command()
@command(output.fields(before="compact before", left="skipped", files="files written"))
def compact(session: Session, *, run: options.OnlyRun = None) -> "CompactResult":
    """Merge the many small files of finished runs into a few; rows stay the same."""
    return padim.compact(session.config, session.listener, run=run)


@app.command()
@command(output.fields())
def export(
    session: Session,
    *,
    format: options.ExportFormat,
    out: options.ExportFile,
    run: options.RunId = None,
) -> "ExportResult":
    """Export the regions of a run for labelling, as CSV or COCO detections.

    FiftyOne imports COCO: fo.types.COCODetectionDataset, labels_path=FILE, data_path=ARCHIVE.
    """
    return padim.export(session.config, session.listener, format=format, out=out, run=run)
