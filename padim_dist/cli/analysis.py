"""Commands for analysts: questions, pictures, labels and files."""

from typing import TYPE_CHECKING

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
    from padim_dist.api.labels.label import LabelResult


@command(output.print_query)
def query(
    session: Session,
    *,
    sql: options.Sql,
    run: options.OnlyRun = None,
    format: options.QueryFormat = "table",
    out: options.QueryFile = None,
    alpha: options.Alpha = None,
) -> "QueryResult":
    """Query the workspace in SQL (DuckDB), read-only."""
    where = (session.config, session.listener)
    return padim.query(*where, sql=sql, format=format, out=out, run=run, alpha=alpha)


@command(output.print_top)
def top(
    session: Session,
    *,
    n: options.Number = 20,
    run: options.RunId = None,
    group: options.Group = None,
    flagged: options.Flagged = False,
    alpha: options.Alpha = None,
) -> "TopResult":
    """List the strongest anomalies of a run: lowest p-value first, then highest score."""
    where = (session.config, session.listener)
    return padim.top(*where, n=n, run=run, group=group, flagged=flagged, alpha=alpha)


@command(output.print_show)
def show(
    session: Session,
    *,
    image_id: options.ImageId,
    run: options.RunId = None,
    out: options.PictureFile = None,
    why: options.Why = False,
) -> "ShowResult":
    """Show an image next to its heatmap with boxes of regions, and its details.

    With --why: which levels its score is from, the region enlarged, the most similar normal image.
    """
    where = (session.config, session.listener)
    return padim.show(*where, image_id=image_id, run=run, out=out, screen=session.screen, why=why)


@command(output.print_label)
def label(
    session: Session,
    *,
    words: options.Labelled = None,
    file: options.ReviewFile = None,
    kind: options.Kind = None,
    note: options.ReviewNote = "",
    by: options.Reviewer = None,
    run: options.SeenRun = None,
) -> "LabelResult":
    """Say that images are ok or show a defect; evaluate, top and report then use it."""
    images = list(words or [])
    verdict = images.pop() if images and images[-1].lower() in ("ok", "defect") else None
    return padim.label(
        session.config,
        session.listener,
        images=images,
        verdict=verdict,
        kind=kind,
        note=note,
        file=file,
        run=run,
        by=by,
    )


@command(output.print_compare)
def compare(
    session: Session, *, run_a: options.EarlierRun, run_b: options.LaterRun
) -> "CompareResult":
    """Compare two runs on the images they share: rank correlation, ranks, flagged images."""
    return padim.compare(session.config, session.listener, run_a=run_a, run_b=run_b)


@command(output.fields(before="compact before", left="skipped", files="files written"))
def compact(session: Session, *, run: options.OnlyRun = None) -> "CompactResult":
    """Merge the many small files of finished runs into a few; rows stay the same."""
    return padim.compact(session.config, session.listener, run=run)


@command(output.fields())
def export(
    session: Session,
    *,
    format: options.ExportFormat,
    out: options.ExportFile,
    run: options.RunId = None,
    all_images: options.AllImages = False,
    min_area: options.MinArea = 0.0,
) -> "ExportResult":
    """Export the regions of a run for labelling, as CSV or COCO polygons.

    FiftyOne imports COCO: fo.types.COCODetectionDataset, labels_path=FILE, data_path=ARCHIVE.
    """
    where = (session.config, session.listener)
    return padim.export(
        *where, format=format, out=out, run=run, all_images=all_images, min_area=min_area
    )
