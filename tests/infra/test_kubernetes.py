"""The manifests: built by kustomize, valid, and consistent with the package."""

from __future__ import annotations

import importlib.util
import re
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
from padim_dist.engine.memory import projection

INFRA = Path(__file__).parents[2] / "infra"


def build(folder: Path) -> list[dict]:
    """Return the manifests of an overlay, as `kubectl apply --kustomize` sends them."""
    if shutil.which("kubectl") is None:
        pytest.skip("SKIPPED PART: kubectl is not installed")
    command = ["kubectl", "kustomize", folder]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return list(yaml.safe_load_all(done.stdout))


@pytest.fixture(scope="module", params=["cpu", "gpu"])
def overlay(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def manifests(overlay) -> list[dict]:
    return build(INFRA / "kubernetes/overlays" / overlay)


@pytest.fixture(scope="module")
def extended(overlay, tmp_path_factory) -> list[dict]:
    """Manifests of an overlay with all components."""
    copy = copied(tmp_path_factory.mktemp("extended"))
    folder = copy / "overlays" / overlay
    names = [f"../../components/{path.name}" for path in (copy / "components").iterdir()]
    with (folder / "kustomization.yaml").open("a") as file:
        file.write(f"components: {names}\n")
    return build(folder)


def copied(folder: Path) -> Path:
    return shutil.copytree(INFRA / "kubernetes", folder / "kubernetes")


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


def test_core_kinds_are_valid(manifests, extended):
    """Also the pods of a DaskCluster, which its own schema does not check."""
    validate = pytest.importorskip(
        "kubernetes_validate", reason="SKIPPED PART: kubernetes-validate is not installed"
    )
    core = [m for m in manifests if m["apiVersion"] != "kubernetes.dask.org/v1"]
    core.append(one(extended, "Deployment", "padim-dist-flows"))
    for made in (manifests, extended):
        core += [
            {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "pod"}, "spec": spec}
            for spec in pods(one(made, "DaskCluster"))
        ]
    service = one(manifests, "DaskCluster")["spec"]["scheduler"]["service"]
    core.append({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s"}, "spec": service})
    for manifest in core:
        validate.validate(manifest, validate.latest_version(), strict=True)


@pytest.fixture(scope="module")
def definitions() -> dict[str, Any]:
    """Validators of the specifications of the Dask operator's kinds."""
    jsonschema = pytest.importorskip("jsonschema")
    found = importlib.util.find_spec("dask_kubernetes")
    if found is None or found.origin is None:
        pytest.skip("SKIPPED PART: extra kubernetes is not installed")
    folder = Path(found.origin).parent / "operator/deployment/helm/dask-kubernetes-operator/crds"
    made = {}
    for name in ("daskcluster", "daskautoscaler"):
        definition = yaml.load((folder / f"{name}.yaml").read_text(), yaml.CSafeLoader)
        (version,) = definition["spec"]["versions"]
        whole = version["schema"]["openAPIV3Schema"]["properties"]
        kind = definition["spec"]["names"]["kind"]
        made[kind] = jsonschema.Draft202012Validator(closed(whole["spec"]))
    return made


def test_dask_resources_are_valid(manifests, extended, definitions):
    """Checked with the definitions that the operator installs."""
    for made in (manifests, extended):
        dask = [m for m in made if m["apiVersion"] == "kubernetes.dask.org/v1"]
        assert {m["kind"] for m in dask} == set(definitions)
        for manifest in dask:
            definitions[manifest["kind"]].validate(manifest["spec"])


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
    weights = plans.state_bytes(plans.load_state(config, spec.trunk))
    rest = (weights, config.cluster.readers, config.archive.max_pixels)
    fit = projection.fit_need(spec, *rest, config.fit.sample)
    need = max(fit.total, projection.score_need(spec, *rest, 512).total)
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
    (text,) = (m["data"].get("distributed.yaml") for m in manifests if settings_of_dask(m))
    routes = yaml.safe_load(text)
    assert "distributed.http.scheduler.api" in routes["distributed"]["scheduler"]["http"]["routes"]
    mounted = {"secret": set(), "configMap": set()}
    for spec in chain.from_iterable(map(pods, manifests)):
        for container in spec["containers"]:
            mounted["secret"] |= {s["secretRef"]["name"] for s in container.get("envFrom", ())}
        mounted["configMap"] |= {
            volume["configMap"]["name"] for volume in spec["volumes"] if "configMap" in volume
        }
    assert mounted["secret"] == {"padim-dist-storage", "padim-dist-prefect", "padim-dist-notify"}
    assert mounted["configMap"] == {
        m["metadata"]["name"] for m in manifests if m["kind"] == "ConfigMap"
    }


def test_the_configuration_counts_only_its_normal_folder_as_normal(config):
    """Of the paths that its comment shows."""
    text = (INFRA / "kubernetes/base/config.yaml").read_text()
    shown = re.findall(rf"{config.archive.url}/(\S+\.jpg)", text)
    assert len(shown) == 2
    assert [bool(re.search(config.archive.train, path)) for path in shown] == [True, False]
    for path in shown:
        found = re.search(config.archive.group, path)
        assert found is not None
        assert found["group"] == "cam-07"


def settings_of_dask(manifest: dict) -> bool:
    return manifest["kind"] == "ConfigMap" and "distributed.yaml" in manifest["data"]


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


def test_pods_get_a_changed_configuration(manifests, tmp_path):
    """A ConfigMap has the hash of its content in its name: the pods that use it are new ones."""
    copy = copied(tmp_path)
    for name in ("config.yaml", "distributed.yaml"):
        with (copy / "base" / name).open("a") as file:
            file.write("# changed\n")

    def names(manifests: list[dict]) -> list[str]:
        volumes = [pod["volumes"] for pod in chain.from_iterable(map(pods, manifests))]
        return [v["configMap"]["name"] for v in chain.from_iterable(volumes) if "configMap" in v]

    before, after = names(manifests), names(build(copy / "overlays/cpu"))
    assert len(before) == len(after) == 3
    assert not set(before) & set(after)


def test_ports_and_namespaces_are_settings(tmp_path):
    """Each setting reaches all policies that are about it, and no policy keeps a former value."""
    copy = copied(tmp_path)
    file = copy / "base/settings.yaml"
    settings = yaml.safe_load(file.read_text())
    ports = {"dns": 5353, "storage": 9000, "prefect": 8443, "kubernetes": 7443}
    changed = {f"{name}-port": str(port) for name, port in ports.items()} | {
        "dns-namespace": "openshift-dns",
        "prometheus-namespace": "watching",
    }
    assert set(settings["data"]) == set(changed)
    settings["data"] = changed
    file.write_text(yaml.safe_dump(settings))
    made = build(copy / "overlays/cpu")
    assert not any(m["metadata"]["name"] == "settings" for m in made)
    policies = {m["metadata"]["name"]: m["spec"] for m in made if m["kind"] == "NetworkPolicy"}

    def allowed(name: str, way: str) -> list[int]:
        rules = policies[name].get(way, [])
        return [port["port"] for rule in rules for port in rule.get("ports", [])]

    assert allowed("names", "egress") == [5353, 5353]
    assert allowed("storage", "egress") == [9000]
    assert allowed("flows", "egress") == [8786, 8787, 9000, 8443, 7443]
    namespaces = set(re.findall(r"metadata.name': '([^']*)'", str(policies)))
    assert namespaces == {"openshift-dns", "watching", "dask-operator"}


def test_no_budget_blocks_a_drain(manifests):
    """A budget of pods that are alone would: only workers have one."""
    (budget,) = (m["spec"] for m in manifests if m["kind"] == "PodDisruptionBudget")
    assert budget["selector"]["matchLabels"]["dask.org/component"] == "worker"
    assert "minAvailable" not in budget
    # Of one worker, 50 % are rounded up to one.
    assert budget["maxUnavailable"] == "50%"
    assert budget["unhealthyPodEvictionPolicy"] == "AlwaysAllow"


def test_gpus_are_for_workers(manifests):
    cluster = one(manifests, "DaskCluster")
    scheduler, worker = (pod["containers"][0] for pod in pods(cluster))
    (flows,) = pods(one(manifests, "Deployment", "padim-dist-flows"))[0]["containers"]
    for container in (scheduler, flows):
        assert {"name": "NVIDIA_VISIBLE_DEVICES", "value": "void"} in container["env"]
        assert "nvidia.com/gpu" not in container["resources"]["limits"]
    assert "NVIDIA_VISIBLE_DEVICES" not in str(worker["env"])


def test_the_probes_of_the_flows_ask_for_their_metrics(manifests):
    (flows,) = pods(one(manifests, "Deployment", "padim-dist-flows"))[0]["containers"]
    (port,) = flows["ports"]
    served = {entry["name"]: entry["value"] for entry in flows["env"]}["PADIM_DIST_METRICS"]
    assert served.rpartition(":")[2] == str(port["containerPort"])
    probes = [flows[f"{kind}Probe"] for kind in ("startup", "readiness", "liveness")]
    for probe in probes:
        assert probe["httpGet"] == {"path": "/metrics", "port": port["name"]}


def test_workers_prefer_spot_nodes_and_a_component_requires_them(manifests, extended):
    (prefers, requires) = (
        pods(one(made, "DaskCluster"))[1]["affinity"]["nodeAffinity"]
        for made in (manifests, extended)
    )
    (preferred,), (required,) = prefers.values(), requires.values()
    assert list(prefers) == ["preferredDuringSchedulingIgnoredDuringExecution"]
    assert list(requires) == ["requiredDuringSchedulingIgnoredDuringExecution"]
    assert [term["preference"] for term in preferred] == required["nodeSelectorTerms"]
    labels = {term["matchExpressions"][0]["key"] for term in required["nodeSelectorTerms"]}
    for made in (manifests, extended):
        scheduler = pods(one(made, "DaskCluster"))[0]
        flows = pods(one(made, "Deployment", "padim-dist-flows"))[0]
        for pod in (scheduler, flows):
            (rule,) = pod["affinity"]["nodeAffinity"].values()
            (term,) = rule["nodeSelectorTerms"]
            assert {one["key"] for one in term["matchExpressions"]} == labels
            assert {one["operator"] for one in term["matchExpressions"]} == {
                *("DoesNotExist", "NotIn")
            }


def test_all_images_may_come_from_a_private_registry(extended):
    made = list(chain.from_iterable(map(pods, extended)))
    assert len(made) == 3
    for pod in made:
        assert pod["imagePullSecrets"] == [{"name": "padim-dist-registry"}]


def test_the_upgrade_applies_all(extended):
    """It applies, and prunes, what has a label."""
    text = (INFRA / "kubernetes/upgrade").read_text()
    (selector,) = re.findall(r"--prune --selector (\S+)", text)
    for manifest in extended:
        labels = [f"{key}={value}" for key, value in manifest["metadata"]["labels"].items()]
        assert selector in labels, manifest["metadata"]["name"]


def test_the_rules_are_the_alerts(extended):
    rules = one(extended, "PrometheusRule")["spec"]
    alerts = yaml.safe_load((INFRA / "monitoring/alerts.yml").read_text())
    assert rules == alerts, "run infra/kubernetes/rules"


def test_monitors_scrape_all_jobs_of_existing_ports(extended):
    """Of each job of Prometheus' own configuration; by labels and ports that its pods have."""
    wanted = yaml.safe_load((INFRA / "monitoring/prometheus.yml").read_text())["scrape_configs"]
    scheduler, worker = pods(one(extended, "DaskCluster"))
    flows = one(extended, "Deployment", "padim-dist-flows")["spec"]["template"]
    dask = {"dask.org/cluster-name": "padim-dist"}
    known = {
        "flows": (flows["metadata"]["labels"], flows["spec"]),
        "scheduler": (dask | {"dask.org/component": "scheduler"}, scheduler),
        "workers": (dask | {"dask.org/component": "worker"}, worker),
    }
    monitors = [m for m in extended if m["kind"] == "PodMonitor"]
    jobs = []
    for monitor in monitors:
        (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
        ((job,),) = ([r["replacement"]] for r in endpoint["relabelings"])
        labels, pod = known[job]
        assert monitor["spec"]["selector"]["matchLabels"] == labels
        assert endpoint["port"] in [port["name"] for port in pod["containers"][0]["ports"]]
        jobs.append(job)
    assert sorted(jobs) == sorted(job["job_name"] for job in wanted)
    for made in [*monitors, one(extended, "PrometheusRule")]:
        assert made["metadata"]["namespace"] == "padim-dist"
        assert made["metadata"]["labels"]["release"] == "kube-prometheus-stack"
