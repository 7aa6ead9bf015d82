"""Which model, manifest and run a command means: an id, a unique prefix, or the default.

The default is the newest finished one, everywhere. A run that is half done is used only if its id
is given; `progress_note` then says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from padim_dist.api.settings.moved import moved_hint
from padim_dist.api.settings.places import archive_settings, model_settings, workspace_of
from padim_dist.config import Config, differences
from padim_dist.config.identity import identity
from padim_dist.errors import RequestError
from padim_dist.pages.words import listed
from padim_dist.redaction import redacted_tree
from padim_dist.store.history import last_entry
from padim_dist.store.manifests import Snapshot, read_manifest
from padim_dist.store.models import ModelInfo, find_model, list_models
from padim_dist.store.promotions import current, model_states, read_promotions
from padim_dist.store.runs.head import RunHead
from padim_dist.store.runs.run import Run, list_runs
from padim_dist.store.runs.tombstones import read_tombstones
from padim_dist.store.workspace import Workspace

PROMOTED = "promoted"
"""Name of the promoted model, instead of its id."""


def choose_model(config: Config, asked: str | None) -> ModelInfo:
    """Return the model with an id or prefix, the promoted one, or the newest of these settings.

    Raises
    ------
    RequestError
        If there is none, or its settings are not those of the configuration.
    """
    if asked is not None:
        return promoted_model(config) if asked == PROMOTED else model_of_id(config, asked)
    wanted, infos = model_settings(config), list_models(workspace_of(config))
    for info in reversed(infos):
        if wanted in info.settings:
            return info
    if not infos:
        raise RequestError(
            f"workspace {config.workspace} has no finished model; run 'padim-dist fit' first"
        )
    gaps = [(differences(one, wanted), info.model_id) for info in infos for one in info.settings]
    gap, name = min(gaps, key=lambda item: len(item[0]))
    raise RequestError(
        f"workspace {config.workspace} has no model with these settings. The nearest, {name}, "
        f"differs in {'; '.join(gap)}. Set them back, or run 'padim-dist fit' for the new ones. "
        f"{moved_hint(config)}".rstrip()
    )


def promoted_model(config: Config) -> ModelInfo:
    """Return the promoted model.

    Raises
    ------
    RequestError
        If there is none, it is gone, or its settings are not those of the configuration.
    """
    promotion = current(read_promotions(workspace_of(config)))
    if promotion is None:
        raise RequestError(
            f"no model is promoted in workspace {config.workspace}; 'padim-dist models' lists the "
            "candidates, 'padim-dist promote MODEL' approves one"
        )
    return model_of_id(config, promotion.model_id)


def model_of_id(config: Config, asked: str) -> ModelInfo:
    """Return the only finished model whose id has a prefix.

    Raises
    ------
    RequestError
        If there is none or several, or its settings (section model and archive.bits) are not those
        of the configuration.
    """
    infos = list_models(workspace_of(config))
    found = [info for info in infos if info.model_id.startswith(asked)]
    if not found:
        find_model(workspace_of(config), asked)  # says if it is damaged
    if len(found) != 1:
        ids = listed(info.model_id for info in found) or "none"
        raise RequestError(
            f"workspace {config.workspace} has {len(found)} finished models whose id begins with "
            f"{asked!r} ({ids}); 'padim-dist models' lists them"
        )
    (info,) = found
    wanted = redacted_tree(identity(config.model))
    gap = min((differences(s["model"], wanted, "model.") for s in info.settings), key=len)
    if info.embedding.bits != config.archive.bits:
        gap = [*gap, f"archive.bits: {info.embedding.bits} -> {config.archive.bits}"]
    if gap:
        raise RequestError(
            f"model {info.model_id} was not made with the settings of the configuration: "
            f"{'; '.join(gap)}. Set them back, or use a model of these settings"
        )
    return info


def newest_model(workspace: Workspace) -> ModelInfo:
    """Return the newest finished model of a workspace, whatever its settings.

    Raises
    ------
    RequestError
        If there is none.
    """
    models = list_models(workspace)
    if not models:
        raise RequestError(
            f"{workspace.folder.url} is neither a model nor a workspace with one; 'padim-dist fit' "
            "makes one"
        )
    return models[-1]


def models_and_states(workspace: Workspace) -> list[tuple[ModelInfo, str]]:
    """Return finished models, the newest last: promoted, retired or (never promoted) candidate."""
    states = model_states(read_promotions(workspace, all_of_them=False))
    return [(info, states.get(info.model_id, "candidate")) for info in list_models(workspace)]


def find_manifest(config: Config, asked: str | None = None) -> Snapshot | None:
    """Return the manifest with an id, or the newest of the archive; None if it was never indexed.

    Raises
    ------
    RequestError
        If there is no manifest with this id.
    """
    workspace = workspace_of(config)
    if asked is None:
        last = last_entry(workspace, archive_settings(config))
        return read_manifest(workspace, last.snapshot) if last else None
    found = read_manifest(workspace, asked)
    if found is None:
        raise RequestError(
            f"workspace {workspace.folder.url} has no manifest {asked!r}; 'padim-dist history' "
            "lists them"
        )
    return found


def choose_run(workspace: Workspace, asked: str | None) -> RunHead:
    """Return the run whose id has a prefix; None: the newest finished run. Raises as `pick_run`."""
    return pick_run(workspace, list_runs(workspace), asked)


def pick_run(workspace: Workspace, runs: Sequence[RunHead], asked: str | None) -> RunHead:
    """Return the run whose id has a prefix, of all `runs` of a workspace, the newest last.

    None asks for the newest finished run.

    Raises
    ------
    RequestError
        If there is none, or several.
    """
    where = f"workspace {workspace.folder.url}"
    if asked is None:
        finished = [run for run in runs if run.is_finished]
        if finished:
            return finished[-1]
        hint = f", only {runs[-1].run_id}, which is half done: give its id (--run)" if runs else ""
        raise RequestError(f"{where} has no finished run{hint}; 'padim-dist score' makes one")
    found = [run for run in runs if run.run_id.startswith(asked)]
    if not found:
        Run(workspace, asked).find_head()  # says if it is damaged
        _check_not_pruned(workspace, asked)
    if len(found) != 1:
        ids = listed(run.run_id for run in reversed(found or runs)) or "none"
        raise RequestError(
            f"{where} has {len(found)} runs whose id begins with {asked!r} "
            f"({'such as ' if not found and runs else ''}{ids}); give the id of one"
        )
    return found[0]


def _check_not_pruned(workspace: Workspace, asked: str) -> None:
    for stone in read_tombstones(workspace):
        if stone.run_id.startswith(asked):
            raise RequestError(
                f"run {stone.run_id} was pruned on {stone.pruned_at[:10]} (retention.runs): the "
                "workspace keeps only its counts, in the view runs and in 'padim-dist nights'"
            )


def progress_note(head: RunHead) -> list[str]:
    """Return a note if a run is half done."""
    note = f"run {head.run_id} is half done: images that are not scored yet are missing"
    return [] if head.is_finished else [note]


def check_resumed(
    workspace: Workspace,
    asked: str | None,
    found: str,
    started: Mapping[str, Any] | None,
    wanted: Mapping[str, Any],
    otherwise: str = "the images, which have changed since",
) -> None:
    """Refuse to resume a fit or run with settings, or images, that make another one.

    Parameters
    ----------
    asked : str or None
        Id of the fit or run to resume; None for the one that the settings make.
    found : str
        Id that the settings make.
    started, wanted : mapping
        The settings with which `asked` was started (None if there is no such fit or run), and now.
    otherwise : str
        What differs if no setting does.

    Raises
    ------
    RequestError
        Names the differences.
    """
    if asked is None or asked == found:
        return
    if started is None:
        raise RequestError(
            f"workspace {workspace.folder.url} has no {asked}; leave out --resume to start"
        )
    reason = "; ".join(differences(started, wanted)) or otherwise
    raise RequestError(
        f"{asked} cannot be resumed: it differs from what the configuration asks for ({found}) in "
        f"{reason}. Set that back, or leave out --resume to start {found}"
    )
