"""Trials of stores that are ill and of single bad objects, on one cluster of real workers."""

from __future__ import annotations

import dataclasses
import os
import random
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Self

from distributed import Client

import padim_dist as padim
from padim_dist.config import ClusterConfig, Config
from padim_dist.engine.cluster.local import open_local
from padim_dist.errors import PadimDistError
from padim_dist.events import Event, TaskStarted
from padim_dist.storage import Folder
from padim_dist.store.runs.run import Run, list_runs
from padim_dist.store.workspace import Workspace
from tests.chaos import illness
from tests.chaos.bad_objects import BAD_OBJECTS, BadObject
from tests.chaos.laboratory import Trial, bucket
from tests.chaos.results import Outcome
from tests.conftest import make_mvtec, tiny_config
from tests.s3.moto import moto_server
from tests.s3.proxy import FaultProxy

ILL = tuple(f"ill store: {kind}" for kind in (*illness.ON_DISK, *illness.ON_S3))
BAD = tuple(f"bad object: {kind}" for kind in BAD_OBJECTS)
WARD_KINDS = (*ILL, *BAD)
_MOST_STARTS = 4
_LONGEST_DELAY = 0.1
_DEADLINE = 3.0

Listener = Callable[[Event], None]
Step = Callable[[Config, Listener], object]


def _promote_and_audit(config: Config, listener: Listener) -> None:
    known = padim.models(config)
    if not known.promotions:
        padim.promote(config, model=known.models[-1].model_id, note="for the audit")
    padim.audit(config, listener)


class Moment:
    """The moment of an illness: when some tasks of a command have started, after a delay."""

    def __init__(self, starts: int, delay: float, begin: Callable[[], None]) -> None:
        self._starts, self._timer = starts, threading.Timer(delay, begin)

    def hear(self, event: Event) -> None:
        """Count the tasks that start."""
        self._starts -= isinstance(event, TaskStarted)
        if self._starts <= 0 and self._timer.ident is None:
            self._timer.start()

    def pass_by(self) -> None:
        """Let the moment be over, also if it never came."""
        self._timer.cancel()
        if self._timer.ident is not None:
            self._timer.join()


class Ward:
    """The archive, two long-lived workers, and the results of an undisturbed run.

    Parameters
    ----------
    seed : int
        Seed of the archive.
    normal : int
        Its normal images.
    scheduler : str, optional
        Address of a cluster to use, instead of workers of its own.
    """

    def __init__(self, seed: int, normal: int = 30, scheduler: str | None = None) -> None:
        self._seed, self._normal, self._scheduler = seed, normal, scheduler
        self._stack = ExitStack()
        self._server: tuple[str, int] | None = None

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory("-ward")))
            self._folder, self._control = folder, folder / "orders.json"
            self._files = make_mvtec(
                folder / "files", groups=("b",), normal=self._normal, seed=1000 * self._seed
            )
            self._archive = folder / "archive"
            illness.mount(self._files, self._archive)
            stack.callback(illness.unmount, self._archive)
            self._client = stack.enter_context(self._workers())
            config = self._config("reference")
            padim.fit(config)
            padim.score(config)
            self._reference = Outcome.read(config)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @contextmanager
    def _workers(self) -> Iterator[Client]:
        if self._scheduler:
            with (
                Client(self._scheduler, set_as_default=False) as client,
                illness.orders_obeyed(self._control, client),
            ):
                yield client
        else:
            with (
                illness.orders_obeyed(self._control),
                open_local(ClusterConfig(workers=2, memory="4GiB"), 2, None) as client,
            ):
                yield client

    def try_(self, kind: str, seed: int) -> Trial:
        """Run a trial."""
        trial = Trial(kind, seed)
        start = time.monotonic()
        what = kind.split(": ")[1]
        bad = BAD_OBJECTS.get(what)
        name = f"{(*illness.ON_DISK, *illness.ON_S3, *BAD_OBJECTS).index(what)}-{seed}"
        if what in illness.ON_S3 or (bad and bad.in_store):
            with self._in_bucket(f"ward-{name}") as (config, proxy):
                if bad:
                    self._try_bad_object(bad, config, trial, proxy)
                else:
                    ill = illness.s3_illness(what, self._control, proxy)
                    self._try_illness(ill, config, trial)
        else:
            config = self._config(name)
            if bad:
                self._try_bad_object(bad, config, trial)
            else:
                ill = illness.disk_illness(what, self._control, self._archive, self._files)
                self._try_illness(ill, config, trial)
            shutil.rmtree(config.workspace)
        trial.seconds = time.monotonic() - start
        return trial

    def _try_illness(self, ill: illness.Illness, config: Config, trial: Trial) -> None:
        """Run two commands; make the store ill during one of them, and run that one again."""
        chance = random.Random(trial.seed)
        if chance.random() < 0.5 and not self._scheduler:
            self._client.restart()  # workers that have read nothing yet
        steps: list[Step] = [padim.fit, chance.choice([padim.score, _promote_and_audit])]
        struck = chance.randrange(2)
        for number, step in enumerate(steps):
            if number == struck:
                moment = Moment(
                    chance.randint(0, _MOST_STARTS), chance.uniform(0, _LONGEST_DELAY), ill.begin
                )
                try:
                    step(config, moment.hear)
                except (PadimDistError, OSError) as error:
                    trial.faults[type(error).__name__] += 1
                finally:
                    moment.pass_by()
                    ill.end()
                trial.differences += self._blamed(config)
            step(config, lambda _: None)
        elsewhere = config.workspace.startswith("s3://")
        trial.differences += Outcome.read(config).differences(self._reference, elsewhere)

    def _blamed(self, config: Config) -> list[str]:
        """List the rows and parts that say of an image what is not true of it."""
        workspace = Workspace(Folder(config.workspace, config.storage_options))
        usual = {row["image_id"]: row["status"] for row in self._reference.rows}
        found = [
            f"image {row['image_id']} is blamed: {row['status']}, {row['error']}"
            for head in list_runs(workspace)
            for table in Run(workspace, head.run_id).scores.read(["image_id", "status", "error"])
            for row in table.to_pylist()
            if row["status"] != usual[row["image_id"]]
        ]
        receipts = workspace.folder.fs.glob(workspace.at("moments/*/*/*.json"))
        for path in receipts:
            name = path.split("/moments/")[1]
            failures = workspace.folder.read_json(f"moments/{name}")["failures"]
            found += [f"{one['uri']} is blamed: {one['error']}" for one in failures]
        return found

    def _try_bad_object(
        self, bad: BadObject, config: Config, trial: Trial, proxy: FaultProxy | None = None
    ) -> None:
        """Run a fit and a score with it, and, where it can be healed, a score without it."""
        victim = self._files / bad.path
        kept = victim.read_bytes() if victim.exists() else None
        times = victim.stat() if kept else None
        if bad.before:
            bad.before(self._files)
        padim.index(config)
        if bad.after:
            bad.after(self._files)
        if bad.hangs:
            illness.order(self._control, {"prefix": str(self._archive / bad.path), "hang": True})
        if proxy:
            proxy.slow = bad.path
        try:
            padim.fit(config)
            padim.score(config)
        finally:
            illness.order(self._control)
            if proxy:
                proxy.slow = None
            if victim.exists():
                victim.unlink()
            if kept is not None and times:
                victim.write_bytes(kept)
                os.utime(victim, ns=(times.st_atime_ns, times.st_mtime_ns))
        self._compare(bad, Outcome.read(config), trial)
        if kept is not None:
            padim.score(config)
            elsewhere = config.workspace.startswith("s3://")
            trial.differences += Outcome.read(config).differences(self._reference, elsewhere)

    def _compare(self, bad: BadObject, outcome: Outcome, trial: Trial) -> None:
        """Compare all rows but that of the bad object, which has a status of its own."""
        (row,) = [row for row in outcome.rows if str(row["uri"]).endswith(bad.path)]
        trial.faults[str(row["status"])] += 1
        if row["status"] not in bad.statuses:
            trial.differences.append(f"{row['uri']}: {row['status']}, {row['error']}")
        others, reference = (
            dataclasses.replace(
                one,
                rows=[
                    {n: v for n, v in r.items() if n not in ("heatmap_row", "shard")}
                    for r in one.rows
                    if r["image_id"] != row["image_id"]
                ],
                heatmaps=self._reference.heatmaps,
            )
            for one in (outcome, self._reference)
        )
        elsewhere = str(row["uri"]).startswith("s3://")
        trial.differences += others.differences(reference, elsewhere)

    def _config(self, name: str, **changes: object) -> Config:
        archive = {"url": str(self._archive), "shard_images": self._normal // 2}
        deadlines = {"read_deadline": _DEADLINE, "decode_deadline": _DEADLINE}
        given = dict(changes.pop("archive", {}))  # type: ignore[call-overload]
        return tiny_config(
            self._folder / name,
            self._archive,
            self._client.scheduler.address,
            archive={**archive, **deadlines, **given},
            **changes,
        )

    @contextmanager
    def _in_bucket(self, name: str) -> Iterator[tuple[Config, FaultProxy]]:
        """Yield a configuration whose archive and workspace are in a store behind a proxy."""
        if self._server is None:
            self._server = self._stack.enter_context(moto_server())
            fs = bucket(self._server)
            # Not "archive", which the laboratory has: buckets outlive their server in a process.
            fs.mkdir("ward-archive")
            fs.put(f"{self._files}/", "ward-archive/photos/", recursive=True)
        bucket(self._server).mkdir(name)
        with FaultProxy(*self._server) as proxy:
            url = proxy.url.replace("127.0.0.1", illness.HOST)
            yield (
                self._config(
                    name,
                    workspace=f"s3://{name}/audit",
                    storage_options={"s3": {"endpoint_url": url}},
                    archive={"url": "s3://ward-archive/photos"},
                ),
                proxy,
            )
        bucket(self._server).rm(name, recursive=True)
