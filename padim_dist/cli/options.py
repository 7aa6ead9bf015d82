"""Options and arguments of the command line, each declared once.

No postponed annotations here: Typer reads them at run time.
"""

from dataclasses import dataclass
from functools import partial
from typing import Annotated

from typer import Argument, Option

_common = partial(Option, rich_help_panel="Common options")
_run = partial(Option, "--run", metavar="RUN")
_out = partial(Option, "--out", metavar="FILE")
_format = partial(Option, "--format")


@dataclass(frozen=True)
class Common:
    """Options that the decorators of `command` add."""

    config: Annotated[
        str | None,
        _common("-c", "--config", metavar="FILE", help="YAML file with the settings; default: "
                "$PADIM_DIST_CONFIG, then ./audit.yaml."),
    ] = None  # fmt: skip
    set_: Annotated[
        list[str] | None,
        _common("--set", metavar="KEY=VALUE", help="Override a setting; may be repeated."),
    ] = None
    as_json: Annotated[
        bool, _common("--json", help="Print the result as one JSON object, on the last line.")
    ] = False
    log_json: Annotated[
        bool, _common("--log-json", help="Events and logs on stderr as JSON, no progress bars.")
    ] = False
    debug: Annotated[bool, _common("--debug", help="Show tracebacks and debug messages.")] = False
    metrics: Annotated[
        str | None,
        _common("--metrics", metavar="HOST:PORT", help="Serve Prometheus metrics at this address."),
    ] = None


RunId = Annotated[
    str | None, _run(help="Id of a run, or a unique prefix; default: the newest finished run.")
]
OnlyRun = Annotated[
    str | None, _run(help="Only the run of this id, or unique prefix; default: all finished runs.")
]
VerifiedRun = Annotated[
    str | None,
    Argument(metavar="[RUN]", help="Id of a run, or a unique prefix; default: the newest finished "
             "run."),
]  # fmt: skip
Share = Annotated[
    float, Option("--share", metavar="SHARE", help="Share of the shards to score again.")
]
AllShards = Annotated[bool, Option("--all", help="Score all shards again.")]
EarlierRun = Annotated[
    str, Argument(metavar="RUN_A", help="Id of the earlier run, or a unique prefix.")
]
LaterRun = Annotated[
    str, Argument(metavar="RUN_B", help="Id of the later run, or a unique prefix.")
]
ImageId = Annotated[
    str,
    Argument(metavar="IMAGE", help="Id of an image, a unique prefix, or its path in the archive; "
             "see 'padim-dist top'."),
]  # fmt: skip
ImageIds = Annotated[
    list[str],
    Argument(metavar="IMAGE...", help="Ids of normal images, unique prefixes, or paths in the "
             "archive; see 'padim-dist suspects'."),
]  # fmt: skip
Undo = Annotated[bool, Option("--undo", help="Let fits use these images again.")]
SuspectsModel = Annotated[
    str | None,
    Argument(metavar="MODEL", help="Id of a model, a unique prefix, or 'promoted'; default: the "
             "newest of these settings."),
]  # fmt: skip
ModelId = Annotated[
    str,
    Argument(metavar="MODEL", help="Id of a model, or a unique prefix; see 'padim-dist models'."),
]
ScoringModel = Annotated[
    str | None,
    Option(metavar="MODEL", help="Id of a model, or 'promoted'; default: the newest of these "
           "settings."),
]  # fmt: skip
Snapshot = Annotated[
    str | None, Option(metavar="SNAPSHOT", help="Manifest to score; default: the archive's newest.")
]
Resume = Annotated[
    str | None, Option(metavar="ID", help="Resume the fit or run of this id; never start another.")
]
New = Annotated[
    bool, Option("--new", help="Only images that no finished run of this model has scored.")
]
Refit = Annotated[
    bool, Option("--refit", help="Also fit a candidate, on fit.window if that is set.")
]
FailOnOdd = Annotated[bool, Option("--fail-on-odd", help="End with exit code 3 if a night is odd.")]
NightNumber = Annotated[
    int | None, Argument(metavar="[N]", help="Number of a night; default: list all nights.")
]
PublishedNight = Annotated[
    int | None,
    Argument(metavar="[N]", help="Number of a night, to write it again; default: all nights that "
             "the tables lack, or that have changed."),
]  # fmt: skip
PublishedRun = Annotated[
    str | None, _run(help="Write this run: an id, or a unique prefix; it may belong to no night.")
]
AllRuns = Annotated[
    bool, Option("--all", help="Write all finished runs again, also those that belong to no night.")
]
Weeks = Annotated[bool, Option("--weeks", help="Also figures by week and group.")]
DryRun = Annotated[bool, Option("--dry-run", help="Only list what would go; remove nothing.")]
Note = Annotated[str, Option(metavar="TEXT", help="Reason, kept with it.")]
Labelled = Annotated[
    list[str] | None,
    Argument(metavar="IMAGE... ok|defect", help="Ids of images, unique prefixes, or paths in the "
             "archive; then what they are."),
]  # fmt: skip
ReviewFile = Annotated[
    str | None,
    Option("--from", metavar="FILE", help="CSV file with the columns image_id and verdict (kind, "
           "note), or a JSON file that the report saved."),
]  # fmt: skip
FiftyOneTags = Annotated[
    str | None,
    Option("--from-fiftyone", metavar="NAME", help="FiftyOne data set that 'padim-dist export' "
           "made: its new tags ok and defect."),
]  # fmt: skip
FiftyOneName = Annotated[
    str | None,
    Option("--name", metavar="NAME", help="FiftyOne: name of the data set; default: "
           "padim-dist-<run id>."),
]  # fmt: skip
Kind = Annotated[str | None, Option(metavar="TEXT", help="Kind of the defect.")]
ReviewNote = Annotated[str, Option("--note", metavar="TEXT", help="Any text, kept with it.")]
Reviewer = Annotated[str | None, Option("--by", metavar="NAME", help="The reviewer; default: you.")]
SeenRun = Annotated[
    str | None,
    _run(help="The run that you looked at, or a unique prefix; default: that of the file, or for "
         "each image the newest finished run."),
]  # fmt: skip
Gallery = Annotated[int, Option(metavar="N", help="Largest number of images in the gallery.")]
Number = Annotated[int, Option("-n", metavar="N", help="Number of images.")]
Group = Annotated[str | None, Option(metavar="GROUP", help="Only this group.")]
Flagged = Annotated[bool, Option("--flagged", help="Only flagged images.")]
Alpha = Annotated[
    str | None, Option(metavar="SHARE", help="Flag images with a p-value up to this share, or "
           "'auto', instead of by the rule of the run.")
]  # fmt: skip
PerMillion = Annotated[
    float | None, Option(metavar="N", help="Target of false alarms per million normal images.")
]
PerRun = Annotated[float | None, Option(metavar="N", help="Target of false alarms per run.")]
Fdr = Annotated[
    float | None, Option(metavar="SHARE", help="Largest share of false alarms among the flagged.")
]
Review = Annotated[
    int | None, Option(metavar="N", help="Flag this number of images, the most anomalous ones.")
]
Sql = Annotated[
    str,
    Argument(
        metavar="SQL",
        help="Query on the views latest, scores, regions, groups, reviews, runs, models, images.",
    ),
]
QueryFormat = Annotated[str, _format(help="table (the first 100 rows), csv, json or parquet.")]
ExportFormat = Annotated[str, _format(help="csv, coco or fiftyone.")]
QueryFile = Annotated[
    str | None, _out(help="File for csv, json or parquet; default: stdout, but not for parquet.")
]
ReportFile = Annotated[
    str | None, _out(help="HTML file; default: report.html in the folder of the run.")
]
PictureFile = Annotated[
    str | None, _out(help="PNG or JPEG file; default: draw in the terminal, if it is true-colour.")
]
Why = Annotated[
    bool, Option("--why", help="Explain the score; reads and embeds the image once more.")
]
SuspectsFile = Annotated[
    str | None, _out(help="PNG or JPEG file: the images next to their heatmaps.")
]
ExportFile = Annotated[str, _out(help="File to write; FiftyOne: folder for heatmaps.")]
AllImages = Annotated[
    bool, Option("--all", help="COCO and FiftyOne: all scored images, also those without regions.")
]
MinArea = Annotated[
    float, Option(metavar="PIXELS", min=0, help="Leave out regions with fewer pixels.")
]
Folder = Annotated[
    str, Argument(metavar="FOLDER", help="Folder for the archive, the workspace and the results.")
]
