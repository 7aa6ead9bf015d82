"""The command line as a user meets it: a real process, its streams and exit codes."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.conftest import make_mvtec, tiny_config


@pytest.fixture(scope="module")
def setup(tmp_path_factory, scheduler) -> tuple[Path, Path]:
    """A configuration file and its archive."""
    folder = tmp_path_factory.mktemp("cli")
    archive = make_mvtec(folder / "archive")
    config = tiny_config(folder, archive, scheduler)
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(json.loads(config.model_dump_json())))
    return path, archive


def run(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "padim_dist", *arguments],
        capture_output=True,
        text=True,
        cwd=cwd,
        env={**os.environ, "COLUMNS": "200"},
        timeout=300,
    )


def last_json(done: subprocess.CompletedProcess[str]) -> dict:
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_the_whole_way(setup):
    path, _ = setup
    assert last_json(run("index", "-c", str(path), "--json"))["images"] == 39
    assert last_json(run("fit", "-c", str(path), "--json"))["groups"] == {"a": 10, "b": 10}
    assert last_json(run("score", "-c", str(path), "--json"))["scored"] == 39
    again = last_json(run("score", "-c", str(path), "--json"))
    assert (again["scored"], again["resumed"]) == (0, 39)
    figures = last_json(run("evaluate", "-c", str(path), "--json"))["groups"]
    assert set(figures["a"]) >= {"image_auroc", "pixel_auroc", "pro"}
    shown = run("evaluate", "-c", str(path))
    assert "image AUROC" in shown.stdout
    assert "✓ evaluate" in shown.stderr
    shown = run("report", "-c", str(path), "--top", "5")
    assert "✓ report" in shown.stderr
    (where,) = re.findall(r"report  (/.*/runs/.*/report\.html)\n", shown.stdout)
    made = last_json(run("report", "-c", str(path), "--out", str(path.parent / "r.html"), "--json"))
    assert made["report"] == str(path.parent / "r.html")
    assert made["bytes"] == (path.parent / "r.html").stat().st_size > Path(where).stat().st_size


def test_approval_by_command(setup):
    path, _ = setup
    asked = ("-c", str(path))
    run("fit", *asked)
    run("score", *asked)
    (entry,) = last_json(run("history", *asked, "--json"))["entries"]
    assert (entry["number"], entry["new"]) == (1, 39)
    missing = run("score", *asked, "--model", "promoted")
    assert missing.returncode == 2
    assert "'padim-dist promote MODEL' approves one" in missing.stderr
    (model,) = last_json(run("models", *asked, "--json"))["models"]
    assert model["state"] == "candidate"
    promoted = run("promote", model["model_id"][:8], *asked, "--note", "looks right")
    assert promoted.returncode == 0, promoted.stderr
    shown = run("models", *asked).stdout
    assert "promoted" in shown
    assert "looks right" in shown
    assert last_json(run("score", *asked, "--model", "promoted", "--new", "--json"))["images"] == 0
    assert run("rollback", *asked).returncode == 2


def test_doctor_finds_and_advises(setup):
    path, _ = setup
    good = run("doctor", "-c", str(path))
    assert good.returncode == 0, good.stdout
    assert "2 workers with" in good.stdout
    bad = run(
        "doctor", "-c", str(path), "--json",
        "--set", "archive.url=/nowhere",
        "--set", "model.crop=65",
        "--set", "model.weights=nothing.pth",
        "--set", "workspace=/proc/no",
        "--set", "cluster={memory: 1GiB}",
    )  # fmt: skip
    assert bad.returncode == 2
    findings = {f["check"]: f for f in json.loads(bad.stdout.splitlines()[-1])["findings"]}
    for check in ("archive", "model", "weights", "workspace"):
        assert findings[check]["verdict"] == "wrong"
        assert findings[check]["remedy"]
    assert findings["cluster"]["verdict"] == "right"


WRONG = [
    (["model.chanels=3"], 2, "unknown key 'model.chanels' (did you mean 'channels'?); valid keys"),
    (["extra=1"], 2, "valid keys of the top level: workspace, storage_options, archive"),
    (["model.precision=int8"], 2, "model.precision: Input should be 'float32', 'tf32', 'bfloat16'"),
    (["archive.shard_images=0"], 2, "archive.shard_images: Input should be greater than"),
    (["archive.group=cam"], 2, "needs a group named 'group'"),
    (["archive.group=(?P<group>["], 2, "is not a regular expression"),
    (["model.crop=80"], 2, "crop 80x80 is larger than resize 72x72"),
    (["model.crop=65"], 2, "do not nest"),
    (["model.channels=900"], 2, "asks for 900, but the layers have 448"),
    (["model.weights=missing.pth"], 2, "is neither a weights name of resnet18"),
    (["model.weights=IMAGENET1K_V1"], 2, "set model.weights to the path or URL of a state dict"),
    (["model.backbone=alexnet"], 2, "model.layers 'auto' is known for"),
    (["model.epsilon=0"], 2, "greater than 0"),
    (["archive.url=/nowhere"], 1, "archive.url /nowhere does not exist"),
    (["cluster={memory: lots}"], 2, "'lots' is not a size"),
    (["cluster={memory: 300MiB}"], 2, "may use 0.23 GiB (80 % of its limit)"),
    (["cluster.address=null"], 2, "kind 'address' and a value for 'address' go together"),
    (["workspace=/proc/no"], 1, "/proc/no"),
    (["model"], 2, "is not of the form path.to.key=value"),
    (["model.seed.x=1"], 2, "'seed' is a value, not a section"),
]


@pytest.mark.parametrize(("changes", "code", "message"), WRONG, ids=lambda v: str(v)[:30])
def test_mistakes_end_in_one_message(setup, changes, code, message, capsys, monkeypatch):
    """In this process, to be quick: the exit code, one message, no traceback."""
    if "IMAGENET1K_V1" in changes[0]:
        _without_downloads(monkeypatch)
    from typer.testing import CliRunner

    from padim_dist.cli.app import app

    path, _ = setup
    settings = [part for change in changes for part in ("--set", change)]
    done = CliRunner().invoke(app, ["fit", "-c", str(path), *settings])
    told = " ".join((done.output + capsys.readouterr().err).split())
    assert done.exit_code == code, told
    assert message in told
    assert "Traceback" not in told


def _without_downloads(monkeypatch) -> None:
    from urllib.error import URLError

    def fail(*_: object, **__: object) -> None:
        raise URLError("no network")

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", fail)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"not a pickle", "are not a state dict"),
        (b"", "are not a state dict"),
    ],
)
def test_weights_that_are_none(setup, tmp_path, content, message):
    path, _ = setup
    weights = tmp_path / "weights.pth"
    weights.write_bytes(content)
    done = run("fit", "-c", str(path), "--set", f"model.weights={weights}")
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_configuration_files_that_are_none(tmp_path):
    assert "cannot be read" in run("fit", "-c", str(tmp_path / "no.yaml")).stderr
    (tmp_path / "a.yaml").write_text("- 1\n")
    done = run("fit", "-c", str(tmp_path / "a.yaml"))
    assert done.returncode == 2
    assert "is not a mapping of sections" in done.stderr
    (tmp_path / "b.yaml").write_text("a: [")
    assert "is not YAML" in run("fit", "-c", str(tmp_path / "b.yaml")).stderr


def test_score_before_fit(setup, tmp_path):
    path, _ = setup
    done = run("score", "-c", str(path), "--set", f"workspace={tmp_path}")
    assert done.returncode == 2
    assert "holds no finished model; run 'fit' first" in done.stderr


def test_debug_shows_the_traceback(setup):
    path, _ = setup
    done = run("fit", "-c", str(path), "--set", "archive.url=/nowhere", "--debug")
    assert "Traceback" in done.stderr
    assert "ArchiveError" in done.stderr


def test_logs_for_machines(setup, tmp_path):
    """Every line of stderr is an object, also that of a mistake."""
    path, _ = setup
    done = run("index", "-c", str(path), "--log-json", "--json")
    assert done.returncode == 0
    told = [json.loads(line) for line in done.stderr.splitlines()]
    assert told[-1]["event"] == "progress"
    assert told[-1]["done"] == told[-1]["total"] == last_json(done)["images"]
    done = run("index", "-c", str(tmp_path / "none.yaml"), "--log-json")
    assert done.returncode == 2
    (line,) = (json.loads(line) for line in done.stderr.splitlines())
    assert (line["event"], line["level"]) == ("log", "error")
