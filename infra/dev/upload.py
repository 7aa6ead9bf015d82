"""Copy a folder to object storage, as objects or packed in tar files.

    python infra/dev/upload.py FOLDER s3://bucket/path [--tar 100] --endpoint http://127.0.0.1:9100

Credentials come from the environment. For trying things out; at scale use your store's own tools.
"""

from __future__ import annotations

import argparse
import io
import tarfile
from pathlib import Path

import fsspec
from rich.progress import track


def pack(folder: Path, files: list[Path]) -> bytes:
    """Files of a folder as a tar file."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as tar:
        for file in files:
            tar.add(file, arcname=file.relative_to(folder).as_posix())
    return content.getvalue()


def main() -> None:
    """Read the arguments and copy."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("url")
    parser.add_argument("--tar", type=int, metavar="N", help="pack N files to a tar file")
    parser.add_argument("--endpoint", help="of an S3 server other than AWS")
    asked = parser.parse_args()
    options = {"endpoint_url": asked.endpoint} if asked.endpoint else {}
    fs, root = fsspec.core.url_to_fs(asked.url, **options)
    if not fs.exists(root.split("/")[0]):
        fs.mkdir(root.split("/")[0])
    files = sorted(path for path in asked.folder.rglob("*") if path.is_file())
    if asked.tar is None:
        for file in track(files, "upload"):
            fs.pipe_file(f"{root}/{file.relative_to(asked.folder).as_posix()}", file.read_bytes())
        return
    for start in track(range(0, len(files), asked.tar), "pack and upload"):
        packed = pack(asked.folder, files[start : start + asked.tar])
        fs.pipe_file(f"{root}/{start // asked.tar:05d}.tar", packed)


if __name__ == "__main__":
    main()
