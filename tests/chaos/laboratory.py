"""The setup of trials: one archive, one reference, and a new workspace for each trial."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import fsspec

import padim_dist as padim
from padim_dist.config import Config
from tests.chaos.faults import DriverKills, Faults, WorkerKills
from tests.chaos.results import Outcome
from tests.chaos.trial import run_commands
from tests.conftest import make_mvtec, tiny_config
from tests.s3.moto import moto_server
from tests.s3.proxy import FaultProxy

TWO_WORKERS = "two workers"
WORKER_KILLS = "worker kills"
DRIVER_KILLS = "driver kills"
FAILING_REQUESTS = "failing requests"
_ON_DISK: dict[str, type[Faults]] = {
    TWO_WORKERS: Faults,
    WORKER_KILLS: WorkerKills,
    DRIVER_KILLS: DriverKills,
}
KINDS = (*_ON_DISK, FAILING_REQUESTS)
_SHARDS = 5
_SHARE = 0.05


@dataclass
class Trial:
    """The result of a trial.

    Attributes
    ----------
    kind : str
        One of `KINDS`.
    seed : int
        Seed that repeats the trial.
    seconds : float
        Time of both commands, restarts included.
    faults : Counter
        Counts of injected faults: kills by stage, or requests by kind of failure.
    differences : list of str
        Differences from the reference.
    """

    kind: str
    seed: int
    seconds: float = 0.0
    faults: Counter[str] = field(default_factory=Counter)
    differences: list[str] = field(default_factory=list)


class Laboratory:
    """The archive, and the result of one worker without faults as the reference.

    Parameters
    ----------
    seed : int
        Seed of the archive.
    normal : int
        Normal images in each of its two groups; it determines the time of a trial.
    scheduler : str, optional
        Address of a cluster that computes the reference, instead of a command with one worker.
    """

    def __init__(self, seed: int, normal: int = 200, scheduler: str | None = None) -> None:
        self._seed, self._normal, self._scheduler = seed, normal, scheduler
        self._stack = ExitStack()
        self._server: tuple[str, int] | None = None

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self._folder = Path(stack.enter_context(tempfile.TemporaryDirectory("-chaos")))
            self._archive = make_mvtec(
                self._folder / "archive", normal=self._normal, seed=1000 * self._seed
            )
            self._reference = self._make_reference()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _make_reference(self) -> Outcome:
        if self._scheduler:
            cluster = {"kind": "address", "address": self._scheduler}
            config = self._config("reference", cluster=cluster)
            padim.fit(config)
            padim.score(config)
        else:
            config = self._config("reference", workers=1)
            wrong = run_commands(config, self._folder / "reference.yaml", Faults(0))
            if wrong:
                raise RuntimeError(f"the reference failed without a fault: {wrong[0]}")
        return Outcome.read(config)

    def try_(self, kind: str, seed: int, faults: Faults | None = None) -> Trial:
        """Run a trial, with the faults of its kind if none are given."""
        trial = Trial(kind, seed)
        name = f"{kind.replace(' ', '-')}-{seed}"
        faults = faults or _ON_DISK.get(kind, Faults)(seed)
        with self._place(name, trial) as (config, readable):
            start = time.monotonic()
            trial.differences += run_commands(config, self._folder / f"{name}.yaml", faults)
            trial.seconds = time.monotonic() - start
            trial.faults += faults.happened
            if not trial.differences:
                outcome = Outcome.read(readable)
                elsewhere = kind == FAILING_REQUESTS
                trial.differences += outcome.differences(self._reference, elsewhere)
        return trial

    @contextmanager
    def _place(self, name: str, trial: Trial) -> Iterator[tuple[Config, Config]]:
        """Yield the commands' configuration, and one to read results."""
        if trial.kind in _ON_DISK:
            config = self._config(name)
            yield config, config
            shutil.rmtree(config.workspace, ignore_errors=True)
            return
        server = self._store()
        bucket(server).mkdir(name)
        with FaultProxy(*server, share=_SHARE, seed=trial.seed) as proxy:
            sound = f"http://{server[0]}:{server[1]}"
            yield self._in_bucket(name, proxy.url), self._in_bucket(name, sound)
            trial.faults += proxy.faults
        bucket(server).rm(name, recursive=True)

    def _config(self, name: str, workers: int = 2, **changes: object) -> Config:
        return tiny_config(
            self._folder / name,
            self._archive,
            None,
            **{
                "archive": {"shard_images": self._normal // _SHARDS},
                "cluster": {"workers": workers, "memory": "4GiB"},
                **changes,
            },
        )

    def _in_bucket(self, name: str, url: str) -> Config:
        return self._config(
            name,
            workspace=f"s3://{name}/audit",
            storage_options={"s3": {"endpoint_url": url}},
            archive={"url": "s3://archive/photos", "shard_images": self._normal // _SHARDS},
        )

    def _store(self) -> tuple[str, int]:
        """Return an S3 server with a copy of the archive."""
        if self._server is None:
            self._server = self._stack.enter_context(moto_server())
            fs = bucket(self._server)
            fs.mkdir("archive")
            fs.put(f"{self._archive}/", "archive/photos/", recursive=True)
        return self._server


def bucket(server: tuple[str, int]) -> fsspec.AbstractFileSystem:
    url = f"http://{server[0]}:{server[1]}"
    return fsspec.filesystem("s3", endpoint_url=url, use_listings_cache=False)
