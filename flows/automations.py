"""Apply the automations of a file: ``python -m flows.automations TYPE/NAME``.

They are created, or updated if there are any of their names. ``TYPE/NAME`` is the notification
block that they send to, e.g. ``slack-webhook/team``. The file is ``automations.yaml`` beside this
module, or the second argument.
"""

from __future__ import annotations

import sys
from pathlib import Path

import yaml
from prefect import get_client
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import BlockDocument
from prefect.events.schemas.automations import AutomationCore
from prefect.exceptions import ObjectNotFound

from flows.deployments import wait_for_server
from padim_dist.errors import ConfigError

FILE = Path(__file__).with_name("automations.yaml")


def read_automations(path: Path, block: BlockDocument) -> list[AutomationCore]:
    """Return the automations of a file, whose notifications go to a block.

    Raises
    ------
    ConfigError
        If the file cannot be read, or is no list of automations.
    """
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))["automations"]
        for automation in found:
            for action in automation["actions"]:
                if action["type"] == "send-notification":
                    action.setdefault("block_document_id", block.id)
        return [AutomationCore.model_validate(automation) for automation in found]
    except (OSError, ValueError, TypeError, KeyError, yaml.YAMLError) as error:
        raise ConfigError(f"{path} has no automations as Prefect reads them: {error}") from error


def apply(client: SyncPrefectClient, automation: AutomationCore) -> str:
    """Create an automation, or update those of its name; return what was done."""
    there = client.read_automations_by_name(automation.name)
    for old in there:
        client.update_automation(old.id, automation)
    if not there:
        client.create_automation(automation)
    return "updated" if there else "created"


def main(block: str, file: Path = FILE) -> None:
    """Apply the automations of a file."""
    wait_for_server()
    kind, _, name = block.partition("/")
    with get_client(sync_client=True) as client:
        try:
            found = client.read_block_document_by_name(name, kind)
        except ObjectNotFound as error:
            raise ConfigError(
                f"there is no block {block!r}; 'prefect block ls' lists them as TYPE/NAME, and the "
                "page Blocks of Prefect makes one, e.g. of type Slack Webhook or Custom Webhook"
            ) from error
        for automation in read_automations(file, found):
            print(f"{apply(client, automation)}: {automation.name}")


if __name__ == "__main__":
    if not 1 <= len(sys.argv) - 1 <= 2:
        sys.exit("usage: python -m flows.automations TYPE/NAME [FILE]")
    try:
        main(sys.argv[1], *map(Path, sys.argv[2:]))
    except ConfigError as error:
        sys.exit(f"error: {error}")
