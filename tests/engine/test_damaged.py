"""An archive with 500 damaged and unusual images: each is a row, and changes no other row."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

import padim_dist as padim
from padim_dist.config import Config
from tests.archive.corpus import LEFT_OUT, Specimen, draw_corpus
from tests.conftest import draw, tiny_config
from tests.results import scores


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> tuple[Path, list[Specimen]]:
    """An archive, and its damaged and unusual images."""
    root = tmp_path_factory.mktemp("damaged")
    for i in range(6):
        draw(root / "archive/good" / f"{i}.png", i)
    (root / "archive/folder.jpg").mkdir()  # neither of these is an image
    (root / "archive/all").symlink_to(root / "archive")
    return root, draw_corpus(root / "archive/odd")


def config_of(tmp_path: Path, archive: Path, scheduler: str) -> Config:
    return tiny_config(
        tmp_path,
        archive,
        scheduler,
        archive={"layout": "folder", "train": "(^|/)good/", "group": None, "shard_images": 70},
    )


def test_every_image_is_a_row_and_changes_no_other(tmp_path, corpus, scheduler):
    root, specimens = corpus
    config = config_of(tmp_path, root / "archive", scheduler)
    links = [specimen for specimen in specimens if specimen.status == LEFT_OUT]
    specimens = [specimen for specimen in specimens if specimen.status != LEFT_OUT]
    assert padim.index(config).ignored["broken links"] == len(links) > 20
    padim.fit(config)
    padim.score(config)
    rows = {row["uri"]: row for row in scores(config)}
    found = {specimen.path: rows.pop(str(specimen.path)) for specimen in specimens}
    assert {Path(uri).parent.name for uri in rows} == {"good"}
    for specimen in specimens:
        row = found[specimen.path]
        assert specimen.status in (None, row["status"]), (specimen.kind, row["error"])
        assert row["status"] in ("scored", "unreadable", "too_large")
        assert (row["error"] is None) == (row["status"] == "scored")
        assert (row["score"] is None) == (row["status"] != "scored")
    statuses = Counter(row["status"] for row in found.values())
    assert min(statuses[s] for s in ("scored", "unreadable", "too_large")) >= 20
    # The usable images, scored without the others: the same bits.
    alone = config_of(tmp_path / "alone", tmp_path / "archive", scheduler)
    for path in [
        *(root / "archive/good").iterdir(),
        *(p for p in found if found[p]["status"] == "scored"),
    ]:
        copy = tmp_path / "archive" / path.relative_to(root / "archive")
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(path.read_bytes())
    padim.fit(alone)
    padim.score(alone)
    keep = ("status", "score", "peak_y", "peak_x", "width", "height")
    again = {Path(row["uri"]).name: [row[k] for k in keep] for row in scores(alone)}
    together = {
        Path(row["uri"]).name: [row[k] for k in keep]
        for row in (*rows.values(), *found.values())
        if row["status"] == "scored"
    }
    assert again == together


DECODE_ALL = """
import sys
from collections import Counter
from pathlib import Path
from padim_dist.archive.reading.decode import decode
from padim_dist.errors import ImageError

outcomes = Counter()
for path in Path(sys.argv[1]).iterdir():
    try:
        decode(path.read_bytes(), 32_000_000)
        outcomes["decoded"] += 1
    except ImageError as error:
        outcomes[error.status] += 1
    except OSError:
        outcomes["link"] += 1
print(sorted(outcomes))
"""


def test_decoding_writes_no_warnings(corpus):
    """In its own process, as in a worker. Only libjpeg prints; `cli/stderr.py` collects that."""
    root, _ = corpus
    script = [sys.executable, "-c", DECODE_ALL, str(root / "archive/odd")]
    done = subprocess.run(script, capture_output=True, text=True, timeout=120)
    assert all(line.startswith("Corrupt JPEG data") for line in done.stderr.splitlines())
    assert done.stdout == "['decoded', 'link', 'too_large', 'unreadable']\n"


def test_the_corpus_has_many_kinds(corpus):
    _, specimens = corpus
    assert len(specimens) == 500
    assert len({specimen.kind for specimen in specimens}) >= 15
