"""Models and their approval: candidates until promoted, and back again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from padim_dist.api.settings.places import workspace_of
from padim_dist.config import Config, differences
from padim_dist.errors import RequestError
from padim_dist.events import Listener, ignore
from padim_dist.store.lease import user_and_host
from padim_dist.store.models import ModelInfo, list_models
from padim_dist.store.promotions import Promotion, add_promotion, in_force, read_promotions


@dataclass(frozen=True)
class ModelEntry:
    """A model of the workspace.

    Attributes
    ----------
    model_id : str
        Names it.
    state : str
        ``"promoted"``; ``"candidate"``: never promoted; ``"retired"``: was promoted before.
    created_at : str
        ISO 8601, UTC.
    images, groups : int
        Normal images it was fitted on, and groups it knows.
    backbone : str
        Of its embedding.
    note : str
        Of its last promotion.
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


def models(config: Config, _listener: Listener = ignore) -> ModelsResult:
    """List the models of the workspace and what became of them."""
    workspace = workspace_of(config)
    promotions = read_promotions(workspace.folder)
    states = model_states(promotions)
    notes = {promotion.model_id: promotion.note for promotion in promotions}
    entries = [
        ModelEntry(
            model_id=info.model_id,
            state=states.get(info.model_id, "candidate"),
            created_at=info.created_at,
            images=sum(info.counts.values()),
            groups=len(info.counts),
            backbone=info.embedding.trunk.backbone,
            note=notes.get(info.model_id, ""),
        )
        for info in sorted(list_models(workspace), key=lambda info: info.created_at)
    ]
    return ModelsResult(entries, promotions)


def model_states(promotions: list[Promotion]) -> dict[str, str]:
    """States of the models that were ever promoted; see `ModelEntry`."""
    states = {promotion.model_id: "retired" for promotion in promotions}
    current = _current(promotions)
    return {**states, current.model_id: "promoted"} if current else states


def promote(config: Config, _listener: Listener = ignore, *, model: str, note: str) -> Promotion:
    """Make a model the one that nightly audits use.

    Parameters
    ----------
    config : Config
        The configuration.
    model : str
        Its id, or the beginning of it.
    note : str
        Why; kept in the history.

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
    info = model_of_id(config, model)

    def decide(promotions: list[Promotion]) -> tuple[str, int | None]:
        current = _current(promotions)
        if current and current.model_id == info.model_id:
            raise RequestError(f"model {info.model_id} is promoted already, since {current.at}")
        return info.model_id, None

    return _add(config, note, decide)


def rollback(config: Config, _listener: Listener = ignore, *, note: str) -> Promotion:
    """Take the last promotion back: the model before it counts again.

    Raises
    ------
    RequestError
        If there is no promotion before the last one.
    """

    def decide(promotions: list[Promotion]) -> tuple[str, int | None]:
        standing = in_force(promotions)
        if len(standing) < 2:
            raise RequestError(
                f"there is no promotion to go back to: {len(standing)} in force in "
                f"{config.workspace}. Promote another model instead"
            )
        return standing[-2].model_id, standing[-1].number

    return _add(config, note, decide)


def promoted_model(config: Config) -> ModelInfo:
    """The promoted model.

    Raises
    ------
    RequestError
        If there is none, it is gone, or its settings are not those of the configuration.
    """
    current = _current(read_promotions(workspace_of(config).folder))
    if current is None:
        raise RequestError(
            f"no model is promoted in workspace {config.workspace}; 'padim-dist models' lists the "
            "candidates, 'padim-dist promote MODEL' approves one"
        )
    return model_of_id(config, current.model_id)


def model_of_id(config: Config, asked: str) -> ModelInfo:
    """The only finished model whose id begins like this.

    Raises
    ------
    RequestError
        If there is none, there are several, or its settings (section model) are not those
        of the configuration.
    """
    workspace = workspace_of(config)
    found = [info for info in list_models(workspace) if info.model_id.startswith(asked)]
    if len(found) != 1:
        many = ", ".join(info.model_id for info in found[:8]) or "none"
        raise RequestError(
            f"workspace {config.workspace} has {len(found)} finished models whose id begins with "
            f"{asked!r} ({many}); 'padim-dist models' lists them"
        )
    info = found[0]
    wanted = config.model.model_dump(mode="json")
    gaps = [differences(settings["model"], wanted, "model.") for settings in info.settings]
    gap = min(gaps, key=len)
    if gap:
        raise RequestError(
            f"model {info.model_id} was not made as the configuration says: {'; '.join(gap)}. Set "
            "that back, or promote (or ask for) a model of these settings"
        )
    return info


def _current(promotions: list[Promotion]) -> Promotion | None:
    standing = in_force(promotions)
    return standing[-1] if standing else None


def _add(
    config: Config, note: str, decide: Callable[[list[Promotion]], tuple[str, int | None]]
) -> Promotion:
    """Add the decision to the history, as it then is."""
    folder = workspace_of(config).folder
    while True:
        promotions = read_promotions(folder)
        model_id, undoes = decide(promotions)
        promotion = Promotion(
            number=promotions[-1].number + 1 if promotions else 1,
            model_id=model_id,
            note=note,
            by=user_and_host(),
            at=datetime.now(UTC).isoformat(timespec="seconds"),
            undoes=undoes,
        )
        if add_promotion(folder, promotion):
            return promotion
