"""The head of a run: the file ``run.json``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from padim_dist.core.alarms import RULES, Alarms, Judgement, LastFlagged
from padim_dist.store.records import make_record
from padim_dist.store.runs.arrays import DriftFigures
from padim_dist.store.runs.digests import Digests

ADVICE = (
    "Remove it and run 'padim-dist score' again with the settings of this run: its finished shards "
    "are not scored again. If the run is not needed, remove its folder"
)
_PIXEL_ALPHA = 0.001  # of runs of version 0.1, which kept no settings


@dataclass(frozen=True)
class RunHead:
    """Settings of a run and, once it is finished, its result: the file ``run.json``.

    Attributes
    ----------
    run_id, model_id, snapshot : str
        Ids of the run, its model and its manifest.
    settings, asked : sequence of mapping, mapping
        Settings that the run is found by, several if different settings gave the same run; and
        all settings that determine results, for people and for ``--resume``.
    alarms : Alarms or None
        The rule of its flags; None in runs of versions that had none.
    shards : sequence of int
        Numbers in the manifest of the run's shards; the index in this list is a shard's place.
    images : int
        Rows of the run when it is finished.
    started_at, asked_at, finished_at : str
        When it was started, when it last became the newest run, and when it was finished: ISO
        8601, UTC. `finished_at` is None, and the following are empty or None, until then.
    statuses, drift : mapping of str to int, mapping of str to DriftFigures
        Rows by status; drift by group.
    flagged, cutoff, last : int, float, LastFlagged or None
        What the rule gives; see `Judgement`.
    drift_unknown : mapping of str to str
        Groups whose drift cannot be known, and why.
    turn : int
        Its place among the runs; see `padim_dist.store.order`.
    files : str or None
        Digest of the list of its files, ``files.json``; None until it is finished, and in runs of
        version 0.4 and earlier.
    added : mapping of str to str or None
        Digests of files with regions that `judge` found; None in runs of these versions.
    """

    run_id: str
    model_id: str
    snapshot: str
    settings: Sequence[Mapping[str, Any]]
    asked: Mapping[str, Any]
    alarms: Alarms | None
    shards: Sequence[int]
    images: int
    started_at: str
    asked_at: str
    finished_at: str | None = None
    statuses: Mapping[str, int] = field(default_factory=dict)
    flagged: int | None = None
    cutoff: float | None = None
    last: LastFlagged | None = None
    drift: Mapping[str, DriftFigures] = field(default_factory=dict)
    drift_unknown: Mapping[str, str] = field(default_factory=dict)
    turn: int = 0
    files: str | None = None
    added: Digests | None = None

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], file: str) -> RunHead:
        """Return the head from values that this version or an earlier one wrote to a file.

        Raises
        ------
        DamagedFileError
            If they are no head.
        """
        alarms = values.get("alarms")
        former = {
            "asked": values.get("asked") or {},
            "alarms": Alarms.renamed(alarms) if isinstance(alarms, dict) else alarms,
            "drift": values.get("drift") or {},
        }
        head = make_record(cls, {**values, **former}, file, ADVICE)
        if head.is_finished and head.alarms and head.alarms.rule == "fdr" and head.cutoff is None:
            head = replace(head, cutoff=0.0)  # as version 0.3 said that nothing is flagged
        return replace(
            head,
            settings=[_without_rule(settings) for settings in head.settings],
            asked=_renamed(head.asked),
        )

    @property
    def is_finished(self) -> bool:
        """Whether all shards are scored and the result is written."""
        return self.finished_at is not None

    @property
    def known_cutoff(self) -> float | None:
        """Highest p-value that is flagged; None while it is not known, or without one."""
        if self.alarms is None or self.alarms.is_by_rank:
            return None
        return self.cutoff if self.alarms.needs_all else self.alarms.alpha

    def cutoff_in(self, resolution: float) -> float | None:
        """Return the highest flagged p-value in groups of a resolution; None while not known."""
        if self.alarms is None:
            return None
        if self.last is not None:
            return self.last.p_value
        cutoff = self.known_cutoff
        return max(cutoff, resolution) if cutoff and self.alarms.follows_resolution else cutoff

    @property
    def archive(self) -> str | None:
        """Name of the archive; None in runs of versions that kept no settings."""
        return (self.asked.get("archive") or {}).get("url")

    @property
    def pixel_alpha(self) -> float:
        """Share of normal pixels above the threshold of a region (``score.pixel_alpha``)."""
        return float((self.asked.get("score") or {}).get("pixel_alpha", _PIXEL_ALPHA))

    def judged(self, judgement: Judgement) -> RunHead:
        """Return the head with a judgement in place of the one that it has."""
        return replace(self, **vars(judgement))

    def with_added(self, added: Digests) -> RunHead:
        """Return the head with files of added regions; earlier versions kept no digests."""
        return self if self.added is None else replace(self, added={**self.added, **added})


def _without_rule(settings: Mapping[str, Any]) -> Mapping[str, Any]:
    """Leave out the rule, which was part of a run in version 0.3 and earlier."""
    score = settings.get("score") or {}
    if not isinstance(score, Mapping):
        return settings
    return {**settings, "score": {k: v for k, v in score.items() if k not in (*RULES, "a_run")}}


def _renamed(settings: Mapping[str, Any]) -> Mapping[str, Any]:
    """Rename ``score.a_run``, as version 0.1 called ``score.false_alarms_per_run``."""
    score = settings.get("score") or {}
    if not isinstance(score, Mapping):
        return settings
    renamed = {"false_alarms_per_run" if key == "a_run" else key: score[key] for key in score}
    return {**settings, "score": renamed} if score else settings
