"""Copy a folder to object storage, as objects or packed in tar files.

    python infra/dev/upload.py FOLDER s3://bucket/path [--tar 100] --endpoint http://127.0.0.1:9100

Credentials come from the environment. For experiments; at scale use the tools of your store.
"""

from __future__ import annotations

import argparse
import io
import tarfile
from pathlib import Path

import fsspec
from rich.progress import track


def pack(folder: Path, files: list[Path]) -> bytes:
    """Return files of a folder as the bytes of a tar file."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as tar:
        for file in files:
            tar.add(file, arcname=file.relative_to(folder).as_posix())
    return content.getvalue()


def upload(folder: Path, fs: fsspec.AbstractFileSystem, root: str, packed: int | None) -> None:
    """Copy a folder as objects, or as tar files of so many files; make the bucket if missing."""
    bucket = root.split("/")[0]
    if not fs.exists(bucket):
        fs.mkdir(bucket)
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    if packed is None:
        for file in track(files, "upload"):
            fs.pipe_file(f"{root}/{file.relative_to(folder).as_posix()}", file.read_bytes())
        return
    for start in track(range(0, len(files), packed), "pack and upload"):
        content = pack(folder, files[start : start + packed])
        fs.pipe_file(f"{root}/{start // packed:05d}.tar", content)


def main() -> None:
    """Read the arguments and copy."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("url")
    parser.add_argument("--tar", type=int, metavar="N", help="pack N files to a tar file")
    parser.add_argument("--endpoint", help="URL of an S3 server other than AWS")
    asked = parser.parse_args()
    options = {"endpoint_url": asked.endpoint} if asked.endpoint else {}
    fs, root = fsspec.core.url_to_fs(asked.url, **options)
    upload(asked.folder, fs, root, asked.tar)


if __name__ == "__main__":
    main()
