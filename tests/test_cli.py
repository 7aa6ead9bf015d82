"""The command line: streams and exit codes, in this process and in a few real processes."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import typer
import yaml
from rich.text import Text
from typer.testing import CliRunner, Result

import padim_dist
from padim_dist.api.analysis.query import QueryResult
from padim_dist.cli.app import app
from padim_dist.cli.logs import write_raw_line
from padim_dist.cli.output import print_query
from padim_dist.cli.terminal import Terminal
from tests.conftest import make_mvtec, tiny_config
from tests.names import SECRET

COMMANDS = sorted(typer.main.get_group(app).commands)
ENV = {"COLUMNS": "200", "PADIM_DIST_CONFIG": ""}


@pytest.fixture(scope="module")
def setup(tmp_path_factory, scheduler) -> tuple[Path, Path]:
    """A configuration file and its archive."""
    folder = tmp_path_factory.mktemp("cli")
    archive = make_mvtec(folder / "archive")
    config = tiny_config(folder, archive, scheduler)
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(json.loads(config.model_dump_json())))
    return path, archive


def run(*arguments: str, **env: str) -> Result:
    """Run a command in this process."""
    return CliRunner(env={**ENV, **env}).invoke(app, arguments)


def run_process(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command as a user does."""
    return subprocess.run(
        [sys.executable, "-m", "padim_dist", *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, **ENV},
        timeout=120,
    )


def last_json(done: Result) -> dict:
    assert done.exit_code == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_from_index_to_evaluate(setup):
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
    assert missing.exit_code == 2
    assert f"'padim-dist promote MODEL -c {path}'" in missing.stderr
    (model,) = last_json(run("models", *asked, "--json"))["models"]
    assert model["state"] == "candidate"
    promoted = run("promote", model["model_id"][:8], *asked, "--note", "looks right")
    assert promoted.exit_code == 0, promoted.stderr
    shown = run("models", *asked).stdout
    assert "promoted" in shown
    assert "looks right" in shown
    assert last_json(run("score", *asked, "--model", "promoted", "--new", "--json"))["images"] == 0
    assert run("rollback", *asked).exit_code == 2


def test_doctor_finds_and_advises(setup):
    path, _ = setup
    good = run("doctor", "-c", str(path))
    assert good.exit_code == 0, good.stdout
    assert "2 workers with" in good.stdout
    assert "OK" in good.stdout
    bad = run(
        "doctor", "-c", str(path), "--json",
        "--set", "archive.url=/nowhere",
        "--set", "model.crop=65",
        "--set", "model.weights=nothing.pth",
        "--set", "workspace=/proc/no",
        "--set", "cluster={memory: 1GiB}",
    )  # fmt: skip
    assert bad.exit_code == 2
    findings = {f["check"]: f for f in json.loads(bad.stdout.splitlines()[-1])["findings"]}
    for check in ("archive", "model", "weights", "workspace"):
        assert findings[check]["verdict"] == "error"
        assert findings[check]["remedy"]
    assert findings["cluster"]["verdict"] == "ok"


WRONG = [
    (["model.chanels=3"], 2, "unknown key 'model.chanels' (did you mean 'channels'?); valid keys"),
    (["score.a_run=3"], 2, "'score.a_run': it is now 'false_alarms_per_run'; valid keys"),
    (["audit.fdr_nights=7"], 2, "yaml: 'audit.fdr_nights' needs 'score.fdr'; set that too"),
    (["extra=1"], 2, "valid keys of the top level: workspace, storage_options, archive"),
    (["model.precision=int8"], 2, "precision 'int8' needs engine 'openvino'"),
    (["model.precision=int4"], 2, "model.precision: Input should be 'float32', 'tf32', 'bfloat16'"),
    (["model.engine=openvino", "model.precision=tf32"], 2, "'openvino' has no precision 'tf32'"),
    (["model.engine=openvino", "model.jpeg=nvjpeg"], 2, "engine 'openvino' works on CPUs"),
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
def test_mistakes_end_in_one_message(setup, changes, code, message, monkeypatch):
    if "IMAGENET1K_V1" in changes[0]:
        _without_downloads(monkeypatch)
    path, _ = setup
    settings = [part for change in changes for part in ("--set", change)]
    done = run("fit", "-c", str(path), *settings)
    told = " ".join(done.stderr.split())
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
def test_wrong_weights(setup, tmp_path, content, message):
    path, _ = setup
    weights = tmp_path / "weights.pth"
    weights.write_bytes(content)
    done = run("fit", "-c", str(path), "--set", f"model.weights={weights}")
    assert done.exit_code == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_wrong_configuration_files(tmp_path):
    assert "cannot be read" in run("fit", "-c", str(tmp_path / "no.yaml")).stderr
    (tmp_path / "a.yaml").write_text("- 1\n")
    done = run("fit", "-c", str(tmp_path / "a.yaml"))
    assert done.exit_code == 2
    assert "is not a mapping of sections" in done.stderr
    (tmp_path / "b.yaml").write_text("a: [")
    assert "is not valid YAML" in run("fit", "-c", str(tmp_path / "b.yaml")).stderr


def test_score_before_fit(setup, tmp_path):
    """In a real process: exit code, message, no traceback."""
    path, _ = setup
    done = run_process("score", "-c", str(path), "--set", f"workspace={tmp_path}")
    assert done.returncode == 2
    assert f"has no finished model; run 'padim-dist fit -c {path}' first" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_debug_shows_the_traceback(setup):
    path, _ = setup
    done = run_process("fit", "-c", str(path), "--set", "archive.url=/nowhere", "--debug")
    assert "Traceback" in done.stderr
    assert "ArchiveError" in done.stderr


def test_logs_for_machines(setup, tmp_path):
    """Every line of stderr is a JSON object, also that of an error."""
    path, _ = setup
    done = run_process("index", "-c", str(path), "--log-json", "--json")
    assert done.returncode == 0
    told = [json.loads(line) for line in done.stderr.splitlines()]
    assert told[-1]["event"] == "progress"
    images = json.loads(done.stdout.splitlines()[-1])["images"]
    assert told[-1]["done"] == told[-1]["total"] == images
    done = run("index", "-c", str(tmp_path / "none.yaml"), "--log-json")
    assert done.exit_code == 2
    (line,) = (json.loads(line) for line in done.stderr.splitlines())
    assert (line["event"], line["level"]) == ("log", "error")


def test_an_interrupted_command_says_that_it_resumes(setup, monkeypatch):
    path, _ = setup

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("padim_dist.config.load_config", interrupt)
    done = run("fit", "-c", str(path))
    assert done.exit_code == 130
    assert "run the same command again: it resumes" in done.stderr


def test_the_configuration_that_is_not_given(setup, tmp_path, monkeypatch):
    """First $PADIM_DIST_CONFIG, then ./audit.yaml."""
    path, _ = setup
    monkeypatch.chdir(tmp_path)
    done = run("history", "--json")
    assert done.exit_code == 2
    for part in (
        "-c is not given",
        "PADIM_DIST_CONFIG is not set",
        f"{tmp_path} has no audit.yaml",
    ):
        assert part in done.stderr
    Path("audit.yaml").write_text(path.read_text())
    assert last_json(run("history", "--json")).keys() == {"entries", "notes"}
    done = run("history", PADIM_DIST_CONFIG=str(tmp_path / "other.yaml"))
    assert done.exit_code == 2
    assert f"PADIM_DIST_CONFIG is '{tmp_path}/other.yaml'" in done.stderr
    Path("audit.yaml").rename("other.yaml")
    assert run("history", PADIM_DIST_CONFIG=str(tmp_path / "other.yaml")).exit_code == 0


def test_version():
    done = run_process("--version")
    assert (done.returncode, done.stdout) == (0, f"padim-dist {padim_dist.__version__}\n")


@pytest.mark.parametrize(
    ("message", "config", "expected"),
    [
        ("run 'padim-dist fit' first", None, "run 'padim-dist fit' first"),
        ("run 'padim-dist fit' first", "a.yaml", "run 'padim-dist fit -c a.yaml' first"),
        ("'padim-dist fit'", "my a.yaml", "'padim-dist fit -c 'my a.yaml''"),
        ("'padim-dist fit -c b.yaml'", "a.yaml", "'padim-dist fit -c b.yaml'"),
        (
            "'padim-dist demo' 'padim-dist --help'",
            "a.yaml",
            "'padim-dist demo' 'padim-dist --help'",
        ),
        (
            "'padim-dist models' or 'padim-dist promote M'",
            "a.yaml",
            "'padim-dist models -c a.yaml' or 'padim-dist promote M -c a.yaml'",
        ),
    ],
)
def test_commands_in_messages_can_be_pasted(message, config, expected):
    assert Terminal(config).text(message) == expected


def test_commands_name_the_configuration_that_was_given(setup, tmp_path, monkeypatch):
    """In errors and notes, also with --log-json; not if it was found by default."""
    path, _ = setup
    elsewhere = ("--set", f"workspace={tmp_path}")
    ask = ("score", "--model", "promoted", *elsewhere)
    assert f"'padim-dist models -c {path}'" in run(*ask, "-c", str(path)).stderr
    told = run(*ask, "-c", str(path), "--log-json").stderr.splitlines()[-1]
    assert f"'padim-dist models -c {path}'" in json.loads(told)["message"]
    assert "'padim-dist models'" in run(*ask, PADIM_DIST_CONFIG=str(path)).stderr
    assert f"'padim-dist index -c {path}'" in run("history", "-c", str(path), *elsewhere).stdout


def test_notes_of_a_query_go_to_stderr(capsys):
    result = QueryResult(["a"], [[1]], notes=["see 'padim-dist top'"])
    print_query(result, Terminal("c.yaml"))
    shown = capsys.readouterr()
    assert shown.err == "note: see 'padim-dist top -c c.yaml'\n"
    assert "note" not in shown.out


@pytest.mark.parametrize("name", COMMANDS)
def test_help_lists_the_common_options(name):
    done = run(name, "--help")
    assert done.exit_code == 0, done.output
    common = {"--json", "--log-json", "--debug"}
    common |= set() if name == "demo" else {"-c", "--config", "--set"}
    common |= {"--metrics"} if name in ("fit", "forget", "score", "audit") else set()
    words = set(Text.from_ansi(done.stdout).plain.split())
    assert common <= words
    assert not words & ({"-c", "--config", "--set", "--metrics"} - common)


def test_help_and_configuration_come_before_the_heavy_libraries(tmp_path):
    """A wrong setting is named at once."""
    code = """
import sys
from typer.testing import CliRunner
from padim_dist.cli.app import app
for arguments in (["--help"], ["--version"], ["fit", "--help"], ["fit", "-c", sys.argv[1]]):
    print(CliRunner().invoke(app, arguments).exit_code, end=" ")
print({"torch", "zarr", "duckdb", "pyarrow"} & set(sys.modules))
"""
    path = tmp_path / "wrong.yaml"
    path.write_text("workspace: w\narchive: {url: a}\nextra: 1\n")
    command = [sys.executable, "-c", code, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.stdout == "0 0 0 2 set()\n", done.stderr


RAW = """
import os, subprocess, sys
from padim_dist.cli.logs import json_listener, write_raw_line
from padim_dist.cli.stderr import collected
from padim_dist.events import Progress

with collected(write_raw_line):
    os.write(2, b"Corrupt JPEG data: premature end\\nhalf a line")
    subprocess.run([sys.executable, "-c", "import sys; sys.stderr.write('a worker\\\\x1b[2J')"])
    json_listener(sys.stderr)(Progress("score", 2, 1))
sys.stderr.write("after\\n")
"""


def test_words_of_libraries_are_json_lines_too():
    """What is written to the file descriptor, by this process or those that it starts."""
    done = subprocess.run([sys.executable, "-c", RAW], capture_output=True, text=True, timeout=60)
    *lines, last = done.stderr.splitlines()
    found = [json.loads(line) for line in lines]
    said = "".join(line["message"] for line in found if line["event"] == "log")
    assert said == "Corrupt JPEG data: premature endhalf a linea worker\x1b[2J"
    assert [line["event"] for line in found].count("progress") == 1
    assert last == "after"


UNREAD = """
import os, sys
from padim_dist.cli.logs import json_listener, write_raw_line
from padim_dist.cli.stderr import collected
from padim_dist.events import Progress

before = os.fstat(2)
with collected(write_raw_line):
    for _ in range(2000):  # more than a pipe holds
        os.write(2, b"Corrupt JPEG data: premature end\\n" * 4)
    json_listener(sys.stderr)(Progress("score", 2, 1))
    print("still here")
    if "fail" in sys.argv:
        raise SystemExit(7)
assert os.path.samestat(before, os.fstat(2)) and sys.stderr.fileno() == 2
"""


@pytest.mark.parametrize(("arguments", "code"), [([], 0), (["fail"], 7)])
def test_a_command_goes_on_when_nobody_reads_its_stderr(arguments, code):
    """As with ``2>&1 | head``."""
    source, sink = os.pipe()
    os.close(source)
    command = [sys.executable, "-c", UNREAD, *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=sink, text=True, timeout=60)
    os.close(sink)
    assert (done.returncode, done.stdout) == (code, "still here\n")


def test_words_of_libraries_hold_no_secret():
    sink = io.StringIO()
    write_raw_line(sink, f"cannot open https://me:{SECRET}@host/a")
    assert json.loads(sink.getvalue())["message"] == "cannot open https://…@host/a"


@pytest.mark.parametrize(("argument", "code"), [("--version", 0), ("nothing", 2)])
def test_a_command_leaves_with_its_code_after_what_waits_for_its_end(argument, code):
    script = (
        "import atexit, sys; atexit.register(print, 'x' * 200_000); "
        f"sys.argv = ['padim-dist', {argument!r}]; "
        "from padim_dist.cli.app import main; main()"
    )
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == code
    assert done.stdout.endswith("x" * 200_000 + "\n")
    assert "Traceback" not in done.stderr
