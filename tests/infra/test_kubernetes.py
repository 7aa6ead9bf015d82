"""The manifests: built by kustomize, valid, and consistent with the package."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import yaml
from dask.utils import parse_bytes

from padim_dist.api.settings import plans
from padim_dist.config import Config, load_config
from padim_dist.engine import projection

INFRA = Path(__file__).parents[2] / "infra"
OVERLAYS = ("cpu", "gpu")


@pytest.fixture(scope="module", params=OVERLAYS)
def manifests(request) -> list[dict]:
    """Manifests of an overlay, as `kubectl apply --kustomize` sends them."""
    if shutil.which("kubectl") is None:
        pytest.skip("SKIPPED PART: kubectl is not installed")
    folder = INFRA / "kubernetes/overlays" / request.param
    command = ["kubectl", "kustomize", folder]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return list(yaml.safe_load_all(done.stdout))


@pytest.fixture(scope="module")
def config() -> Config:
    return load_config(INFRA / "kubernetes/base/config.yaml", ["model.weights=random"])


def one(manifests: list[dict], kind: str, name: str = "padim-dist") -> dict:
    (found,) = (m for m in manifests if m["kind"] == kind and m["metadata"]["name"] == name)
    return found


def pods(manifest: dict) -> list[dict]:
    """Return the specifications of all pods of a manifest."""
    spec = manifest.get("spec", {})
    if manifest["kind"] == "DaskCluster":
        return [spec["scheduler"]["spec"], spec["worker"]["spec"]]
    return [spec["template"]["spec"]] if "template" in spec else []


def test_core_kinds_are_valid(manifests):
    """Also the pods of a DaskCluster, which its own schema does not check."""
    validate = pytest.importorskip(
        "kubernetes_validate", reason="SKIPPED PART: kubernetes-validate is not installed"
    )
    cluster = one(manifests, "DaskCluster")
    core = [m for m in manifests if m["apiVersion"] != "kubernetes.dask.org/v1"]
    core += [
        {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "pod"}, "spec": spec}
        for spec in pods(cluster)
    ]
    service = cluster["spec"]["scheduler"]["service"]
    core.append({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s"}, "spec": service})
    for manifest in core:
        validate.validate(manifest, validate.latest_version(), strict=True)


def test_dask_resources_are_valid(manifests):
    """Checked with the definitions that the operator installs."""
    found = importlib.util.find_spec("dask_kubernetes")
    if found is None or found.origin is None:
        pytest.skip("SKIPPED PART: extra kubernetes is not installed")
    jsonschema = pytest.importorskip("jsonschema")
    folder = Path(found.origin).parent / "operator/deployment/helm/dask-kubernetes-operator/crds"
    schemas = {}
    for path in folder.glob("*.yaml"):
        definition = yaml.safe_load(path.read_text())
        (version,) = definition["spec"]["versions"]
        schemas[definition["spec"]["names"]["kind"]] = version["schema"]["openAPIV3Schema"]
    dask = [m for m in manifests if m["apiVersion"] == "kubernetes.dask.org/v1"]
    assert {m["kind"] for m in dask} == {"DaskCluster", "DaskAutoscaler"}
    for manifest in dask:
        jsonschema.validate(
            manifest["spec"], closed(schemas[manifest["kind"]]["properties"]["spec"])
        )


def closed(schema: Any) -> Any:
    """Return a schema that refuses unknown fields, as the API server's strict mode does."""
    if isinstance(schema, list):
        return [closed(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    inner = {key: closed(value) for key, value in schema.items()}
    whole = not schema.get("x-kubernetes-preserve-unknown-fields")
    if whole and schema.get("type") == "object" and isinstance(schema.get("properties"), dict):
        inner.setdefault("additionalProperties", False)
    return inner


def test_memory_is_at_least_the_projection(manifests, config):
    """The limits of a worker and its pod, for the configuration of these manifests."""
    spec = plans.plan_embedding(config)
    weights = plans.state_bytes(plans.load_state(config))
    rest = (weights, config.cluster.readers, config.archive.max_pixels)
    fit = projection.fit_need(spec, *rest, config.fit.sample)
    need = max(fit.total, projection.score_need(spec, *rest).total)
    (worker,) = pods(one(manifests, "DaskCluster"))[1]["containers"]
    (limit,) = (a.split("=")[1] for a in worker["args"] if a.startswith("--memory-limit="))
    pod = parse_bytes(worker["resources"]["limits"]["memory"] + "B")
    assert need <= projection.USABLE_SHARE * parse_bytes(limit)
    assert pod - parse_bytes(limit) >= 256 * 2**20
    assert worker["resources"]["requests"]["memory"] == worker["resources"]["limits"]["memory"]


def test_settings_in_two_places_agree(manifests, config):
    """Names, numbers and addresses of manifests and configuration."""
    cluster = one(manifests, "DaskCluster")
    wanted = config.cluster.kubernetes
    assert wanted is not None
    assert (wanted.name, wanted.namespace) == (
        cluster["metadata"]["name"],
        cluster["metadata"]["namespace"],
    )
    scaler = one(manifests, "DaskAutoscaler")["spec"]
    assert scaler["cluster"] == wanted.name
    assert config.cluster.adaptive is not None
    assert scaler["maximum"] == config.cluster.adaptive.maximum
    routes = yaml.safe_load(
        one(manifests, "ConfigMap", "padim-dist-dask")["data"]["distributed.yaml"]
    )
    assert "distributed.http.scheduler.api" in routes["distributed"]["scheduler"]["http"]["routes"]
    mounted = {"secret": set(), "configMap": set()}
    for spec in chain.from_iterable(map(pods, manifests)):
        for container in spec["containers"]:
            mounted["secret"] |= {s["secretRef"]["name"] for s in container.get("envFrom", ())}
        mounted["configMap"] |= {
            volume["configMap"]["name"] for volume in spec["volumes"] if "configMap" in volume
        }
    assert mounted["secret"] == {"padim-dist-storage", "padim-dist-prefect"}
    assert mounted["configMap"] == {
        m["metadata"]["name"] for m in manifests if m["kind"] == "ConfigMap"
    }


def test_no_secret_and_no_root(manifests):
    assert not any(m["kind"] == "Secret" for m in manifests)
    for spec in chain.from_iterable(map(pods, manifests)):
        assert spec["securityContext"]["runAsNonRoot"]
        for container in spec["containers"]:
            assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
            assert ":" in container["image"]
            assert container["image"].split(":")[1] != "latest"


def test_every_pod_is_behind_a_policy(manifests):
    """All traffic is denied by default, and every rule selects labels of a pod."""
    policies = {m["metadata"]["name"]: m["spec"] for m in manifests if m["kind"] == "NetworkPolicy"}
    assert policies["deny-all"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    labels = [
        {"dask.org/cluster-name": "padim-dist", "dask.org/component": "scheduler"},
        {"dask.org/cluster-name": "padim-dist", "dask.org/component": "worker"},
        one(manifests, "Deployment", "padim-dist-flows")["spec"]["template"]["metadata"]["labels"],
    ]
    budgets = [m["spec"]["selector"] for m in manifests if m["kind"] == "PodDisruptionBudget"]
    selectors = [policy["podSelector"] for policy in policies.values()] + budgets
    for selector in selectors:
        wanted = selector.get("matchLabels", {}).items()
        assert any(wanted <= own.items() for own in labels), selector
