"""The settings in the documents are valid."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from padim_dist.config import load_config

ROOT = Path(__file__).parents[2]
MINIMAL = {
    "workspace": "./audit",
    "archive": {"url": "/data/photos"},
    "model": {"weights": "random"},
}


def blocks() -> list[tuple[str, str]]:
    found = []
    for path in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]:
        for text in re.findall(r"^```yaml\n(.*?)^```", path.read_text(), re.DOTALL | re.MULTILINE):
            found.append((path.name, text))
    return found


@pytest.mark.parametrize(("page", "text"), blocks())
def test_a_block_of_settings_is_valid(page, text, tmp_path):
    tree = yaml.safe_load(text)
    for name, default in MINIMAL.items():  # a fragment lacks sections
        own = tree.get(name, default)
        tree[name] = {**default, **own} if isinstance(default, dict) else own
    path = tmp_path / "audit.yaml"
    path.write_text(yaml.safe_dump(tree))
    assert load_config(path)


def test_there_are_blocks():
    assert len(blocks()) >= 4
