"""Promotions: which model nightly audits use."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from padim_dist.api.settings.lookup import model_of_id, models_and_states
from padim_dist.api.settings.places import ConfigLike, as_config, workspace_of
from padim_dist.config import Config
from padim_dist.errors import RequestError
from padim_dist.events import Listener, ignore
from padim_dist.store.lease import user_and_host
from padim_dist.store.promotions import (
    Promotion,
    add_promotion,
    current,
    in_force,
    read_promotions,
    remove_promotion,
)


@dataclass(frozen=True)
class ModelEntry:
    """A model of the workspace.

    Attributes
    ----------
    state : str
        ``"promoted"``; ``"candidate"``: never promoted; ``"retired"``: was promoted before.
    created_at : str
        ISO 8601, UTC.
    images, groups : int
        Normal images of the fit, and groups of the model.
    model_id, backbone, note : str
        Id, backbone of its embedding, and note of its last promotion.
    """

    model_id: str
    state: str
    created_at: str
    images: int
    groups: int
    backbone: str
    note: str


@dataclass(frozen=True)
class ModelsResult:
    """Finished models, the newest last, and all promotions, the newest last."""

    models: list[ModelEntry]
    promotions: list[Promotion]


def models(config: ConfigLike, _listener: Listener = ignore) -> ModelsResult:
    """List the finished models of the workspace and all promotions.

    Parameters
    ----------
    config : Config or path
        The configuration.
    """
    workspace = workspace_of(as_config(config))
    promotions = read_promotions(workspace, all_of_them=False)
    notes = {promotion.model_id: promotion.note for promotion in promotions}
    entries = [
        ModelEntry(
            model_id=info.model_id,
            state=state,
            created_at=info.created_at,
            images=sum(info.counts.values()),
            groups=len(info.counts),
            backbone=info.embedding.trunk.backbone,
            note=notes.get(info.model_id, ""),
        )
        for info, state in models_and_states(workspace)
    ]
    return ModelsResult(entries, promotions)


def promote(
    config: ConfigLike, _listener: Listener = ignore, *, model: str, note: str = ""
) -> Promotion:
    """Make a model the one that nightly audits use.

    Parameters
    ----------
    config : Config or path
        The configuration.
    model : str
        Id of the model, or a unique prefix.
    note : str
        Reason, which is stored with the promotion.

    Raises
    ------
    RequestError
        If there is no such model, its settings are not those of the configuration, or it
        is promoted already.

    Examples
    --------
    >>> promote(config, model="4be1", note="checked on week 47").number    # doctest: +SKIP
    3
    """
    config = as_config(config)
    info = model_of_id(config, model)

    def decide(promotions: list[Promotion]) -> tuple[str, int | None]:
        now = current(promotions)
        if now and now.model_id == info.model_id:
            raise RequestError(f"model {info.model_id} is promoted already, since {now.at}")
        return info.model_id, None

    return _add(config, note, decide)


def rollback(config: ConfigLike, _listener: Listener = ignore, *, note: str = "") -> Promotion:
    """Undo the last promotion: nightly audits use the model before it.

    Parameters
    ----------
    config : Config or path
        The configuration.
    note : str
        Reason, which is stored with the promotion.

    Raises
    ------
    RequestError
        If there is no promotion before the last one.
    """
    config = as_config(config)

    def decide(promotions: list[Promotion]) -> tuple[str, int | None]:
        standing = in_force(promotions)
        if len(standing) < 2:
            raise RequestError(
                f"there is no promotion to go back to: {len(standing)} in force in "
                f"{config.workspace}. Use 'padim-dist promote' instead"
            )
        return standing[-2].model_id, standing[-1].number

    return _add(config, note, decide)


def _add(
    config: Config, note: str, decide: Callable[[list[Promotion]], tuple[str, int | None]]
) -> Promotion:
    """Add a promotion; decide again if another one was added meanwhile.

    Raises
    ------
    RequestError
        If the model is gone; see also `decide`.
    """
    workspace = workspace_of(config)
    while True:
        promotions = read_promotions(workspace)
        model_id, undoes = decide(promotions)
        promotion = Promotion(
            number=promotions[-1].number + 1 if promotions else 1,
            model_id=model_id,
            note=note,
            by=user_and_host(),
            at=datetime.now(UTC).isoformat(timespec="seconds"),
            undoes=undoes,
        )
        if not add_promotion(workspace, promotion):
            continue
        # A prune looks for promotions once the model is gone, so one of both sees the other.
        if not workspace.folder.exists(f"{workspace.model(model_id)}/zarr.json"):
            remove_promotion(workspace, promotion)
            raise RequestError(
                f"model {model_id} is not there any more: a prune has removed it meanwhile, or is "
                "about to. Nothing was promoted; 'padim-dist models' lists what is there"
            )
        return promotion
