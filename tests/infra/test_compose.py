"""The compose file: valid, consistent with the package, closed to other hosts."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from padim_dist.archive.listing.layouts.base import Listing
from padim_dist.config import load_config
from padim_dist.storage import Folder

INFRA = Path(__file__).parents[2] / "infra"
FILE = INFRA / "compose.yaml"
OVERRIDE = INFRA / "dev/containers/compose.override.yaml"


@pytest.fixture(scope="module")
def tree() -> dict:
    return yaml.safe_load(FILE.read_text())


def test_docker_understands_it():
    """Only if Docker's compose is installed; no daemon is needed."""
    command = ["docker", "compose"]
    if (
        shutil.which("docker") is None
        or subprocess.run([*command, "version"], capture_output=True, timeout=60).returncode
    ):
        pytest.skip("SKIPPED PART: 'docker compose' is not installed")
    names = ("POSTGRES_PASSWORD", "S3_SECRET", "GRAFANA_PASSWORD")
    done = subprocess.run(
        [*command, "--file", FILE, "--file", OVERRIDE, "config", "--quiet"],
        env={**os.environ, **dict.fromkeys(names, "x")},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr


def test_it_follows_the_specification():
    specification = pytest.importorskip(
        "compose_spec", reason="SKIPPED PART: compose-spec is not installed"
    )
    tree = yaml.safe_load(FILE.read_text())
    # YAML has applied merges (<<) already, so extension fields can be left out.
    plain = {key: value for key, value in tree.items() if not key.startswith("x-")}
    plain["services"]["worker"]["deploy"]["replicas"] = 2  # a variable, which is no number yet
    compose = specification.PyCompose.from_yaml(yaml.safe_dump(plain))
    compose.validate()
    assert set(compose.service_names()) == set(tree["services"])


def test_references_exist(tree):
    services = tree["services"]
    for name, service in services.items():
        assert set(service.get("depends_on", ())) <= services.keys(), name
        assert set(service["networks"]) <= tree["networks"].keys(), name
        assert set(service.get("secrets", ())) <= tree["secrets"].keys(), name
        assert {c["source"] for c in service.get("configs", ())} <= tree["configs"].keys(), name
        image, tag = service["image"].rsplit(":", 1)
        assert re.match(r"v?\d+\.\d+", tag), image
    for config in tree["configs"].values():
        assert "content" in config or (INFRA / config["file"]).is_file()


def test_volumes_are_declared_and_none_is_of_another_server(tree):
    """MinIO of version 0.4 had the volume ``objects``; its data must stay untouched."""
    mounted = [
        volume for service in tree["services"].values() for volume in service.get("volumes", ())
    ]
    named = {volume.partition(":")[0] for volume in mounted if volume[0] != "."}
    assert named == tree["volumes"].keys()
    assert "objects" not in named


def test_only_this_host_can_connect(tree):
    for service in tree["services"].values():
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ()))


def test_secrets_come_from_the_environment(tree):
    for service in tree["services"].values():
        for name, value in service.get("environment", {}).items():
            if any(word in name for word in ("PASSWORD", "SECRET")):
                assert value.startswith("${"), name


def test_the_configuration_matches_the_services(tree):
    config = load_config(INFRA / "compose.config.yaml")
    services = tree["services"]
    assert config.cluster.address == "tls://scheduler:8786"
    assert config.cluster.tls is not None
    for side in ("scheduler", "worker"):
        assert f"--tls-ca-file={config.cluster.tls.ca}" in services[side]["command"]
        assert f"--tls-cert={config.cluster.tls.cert}" in services[side]["command"]
        assert f"--tls-key={config.cluster.tls.key}" in services[side]["command"]
    assert config.cluster.address in services["worker"]["command"]
    endpoint = config.storage_options["s3"]["endpoint_url"]
    assert endpoint == "http://s3:8333"
    assert endpoint in services["buckets"]["command"][-1]


@pytest.mark.parametrize(
    ("path", "split", "group"),
    [
        ("normal/cam-07/000123.jpg", "train", "cam-07"),
        ("nights/2026-11-23/cam-07/000456.jpg", "test", "cam-07"),
        # A camera may call its output good before anybody has looked at it.
        ("nights/2026-11-23/cam-07/good/000456.jpg", "test", "cam-07"),
        ("nights/normal/cam-07/000456.jpg", "test", "cam-07"),
        ("elsewhere/000456.jpg", "test", None),
    ],
)
def test_images_of_nights_are_not_normal(tmp_path, path, split, group):
    archive = load_config(INFRA / "compose.config.yaml").archive
    listing = Listing(Folder(str(tmp_path), {}), archive.train, archive.group)
    assert listing.find_split(path) == split
    assert listing.find_group(path) == group


def test_settings_of_the_flows_are_passed_through(tree):
    """Variables of `flows/serve.py`, with its defaults, come from ``.env``."""
    passed = tree["services"]["flows"]["environment"]
    described = ast.get_docstring(ast.parse((INFRA.parent / "flows/serve.py").read_text()))
    documented = set(re.findall(r"^(PADIM_DIST_[A-Z]+)$", described, re.MULTILINE))
    assert documented
    assert documented <= passed.keys()
    for name in ("PADIM_DIST_CRON", "PADIM_DIST_TIMEZONE", "PADIM_DIST_RETRIES"):
        (default,) = re.fullmatch(rf"\$\{{{name}:?-(.+)\}}", passed[name]).groups()
        assert f"``{default}``" in described
    assert passed["PADIM_NOTIFY_URLS"] == "${PADIM_NOTIFY_URLS:-}"


def test_services_that_stay_up_have_a_health_check(tree):
    for name, service in tree["services"].items():
        # The image of the package has one; the address is the service's.
        own = service["image"].startswith("padim-dist:")
        assert own or service["healthcheck"]["test"], name


def test_passwords_are_made_once_and_closed_to_others(tmp_path):
    script, file = INFRA / "dev/secrets", tmp_path / ".env"
    subprocess.run([script, file], check=True, capture_output=True, timeout=60)
    assert file.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir()] == [".env"]
    lines = dict(line.split("=") for line in file.read_text().splitlines())
    assert set(re.findall(r"\$\{(\w+):\?", FILE.read_text())) == lines.keys()
    assert len(set(lines.values())) == len(lines)
    assert all(len(value) >= 32 for value in lines.values())
    again = subprocess.run([script, file], capture_output=True, text=True, timeout=60)
    assert again.returncode == 1
    assert "exists already" in again.stderr
    assert dict(line.split("=") for line in file.read_text().splitlines()) == lines


def test_certificates_are_made_once(tmp_path):
    script = INFRA / "dev/certificates"
    folder = tmp_path / "tls"
    subprocess.run([script, folder], check=True, capture_output=True, timeout=60)
    # No other file stays there, in particular not the key of the authority.
    assert sorted(path.name for path in folder.iterdir()) == ["ca.pem", "cert.pem", "key.pem"]
    assert folder.stat().st_mode & 0o077 == 0
    verify = ["openssl", "verify", "-CAfile", folder / "ca.pem", folder / "cert.pem"]
    assert subprocess.run(verify, capture_output=True, timeout=60).returncode == 0
    key = (folder / "key.pem").read_bytes()
    again = subprocess.run([script, folder], capture_output=True, text=True, timeout=60)
    assert again.returncode == 1
    assert "holds some already" in again.stderr
    assert (folder / "key.pem").read_bytes() == key
