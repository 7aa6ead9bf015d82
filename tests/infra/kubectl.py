"""A stand-in for kubectl, with a cluster of three objects: flows, DaskCluster, autoscaler.

Its state is the JSON file `$FAKE_CLUSTER`: the number of pods of the flows, whether the DaskCluster
exists, the flow runs at work, the port of a scheduler, a command that fails, and all calls. What is
executed in the scheduler's pod is executed here.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

FLOWS = "deployment/padim-dist-flows"
SCHEDULER = "deployment/padim-dist-scheduler"


def main(words: list[str]) -> int:
    """Do what `kubectl` does, as far as the upgrade needs it."""
    if words[0] == "kustomize":
        return subprocess.call([os.environ["REAL_KUBECTL"], *words])
    file = Path(os.environ["FAKE_CLUSTER"])
    state = json.loads(file.read_text())
    if words[:2] == ["--namespace", "padim-dist"]:
        words = words[2:]
    if state["fails"] in words:
        print(f"error: {state['fails']} fails", file=sys.stderr)
        return 1
    state["calls"].append(" ".join(words))
    match words:
        case ["get", name, "--ignore-not-found", "--output", wanted]:
            pods = {FLOWS: state["flows"], SCHEDULER: int(state["cluster"])}[name]
            exists = name == FLOWS or state["cluster"]
            shown = name if wanted == "name" else str(pods)
            print(shown if exists else "")
        case ["exec", "--stdin", name, "--", "python", *script]:
            if name == FLOWS:
                assert script == ["-", "runs", "1"]
                print(state["runs"])
            else:
                assert script == ["-", "clients", "8787"]
                return subprocess.call([sys.executable, "-", "clients", str(state["port"])])
        case ["scale", name, "--replicas=0"]:
            assert name == FLOWS
            state["flows"] = 0
        case ["delete", *_]:
            assert state["flows"] == 0
            state["cluster"] = False
        case ["apply", "--dry-run=server", "--filename", "-"]:
            assert "kind: DaskCluster" in sys.stdin.read()
        case ["apply", "--filename", "-", "--prune", "--selector", *_]:
            assert "kind: DaskCluster" in sys.stdin.read()
            state["flows"], state["cluster"] = 1, True
        case ["wait" | "rollout", *_]:
            pass
        case _:
            raise AssertionError(words)
    file.write_text(json.dumps(state))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
