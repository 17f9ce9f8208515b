"""Automations on the server: notices of failed and late runs and of drift, and lost runs.

The automation that retrains on drift is in `prefect.yaml`, with its deployment.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import timedelta
from urllib.parse import urlsplit
from uuid import UUID

from prefect.blocks.notifications import (
    AppriseNotificationBlock,
    MicrosoftTeamsWebhook,
    SlackWebhook,
)
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.objects import StateType
from prefect.events.actions import ChangeFlowRunState, SendNotification
from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture
from pydantic import SecretStr

from mlops.base.errors import UserError

# The address of the notices: a URL that Apprise accepts (mailtos://, slack://, json://, …), or that
# of a Slack or Teams webhook. It is stored in a Prefect block, encrypted.
NOTIFY = "MLOPS_NOTIFY"
BLOCK = "mlops-notices"
RUN = "prefect.flow-run"
# A run sends a heartbeat every three minutes until its machine goes down.
SILENT = timedelta(minutes=8)
ENDED = ("Completed", "Failed", "Cancelled", "Crashed")
MESSAGE = "{{ flow_run.name }}: {{ flow_run.state.message }}"
LATE = "{{ deployment.name }}, {{ flow_run.name }}: due at {{ flow_run.expected_start_time }}"


async def apply(client: PrefectClient) -> list[str]:
    """Create or update the server's automations; gives a line for each."""
    block = await _block()
    lines = []
    for automation in [_lost(), *(_notices(block) if block else ())]:
        existing = await client.read_automations_by_name(automation.name)
        if not existing:
            await client.create_automation(automation)
        # An update makes the server forget the runs that it waits for.
        elif existing[0].model_dump(exclude={"id"}) != automation.model_dump():
            await client.update_automation(existing[0].id, automation)
        lines.append(f"automation {automation.name}")
    if block is None:
        lines.append(f"no notices: {NOTIFY} names no address")
    return lines


async def _block() -> UUID | None:
    address = os.environ.get(NOTIFY)
    if not address:
        return None
    try:
        notifier = _kind(address)(url=SecretStr(address))
    except ValueError:
        # The address is a secret: the error does not repeat it.
        raise UserError(f"{NOTIFY}: expected an address that Apprise knows") from None
    return await notifier.asave(BLOCK, overwrite=True)


def _kind(address: str) -> type[AppriseNotificationBlock]:
    """The block for an address: Teams' own, or Slack's, which takes every address of Apprise."""
    host = urlsplit(address).hostname or ""
    return MicrosoftTeamsWebhook if host.endswith("logic.azure.com") else SlackWebhook


def _lost() -> AutomationCore:
    """Mark a run without heartbeats as crashed, so that it does not block the next one."""
    return AutomationCore(
        name="mlops: lost run",
        trigger=EventTrigger(
            posture=Posture.Proactive,
            after={f"{RUN}.heartbeat"},
            expect={f"{RUN}.heartbeat", *(f"{RUN}.{state}" for state in ENDED)},
            for_each={"prefect.resource.id"},
            match={"prefect.resource.id": f"{RUN}.*"},
            threshold=1,
            within=SILENT,
        ),
        actions=[
            ChangeFlowRunState(
                name=None, state=StateType.CRASHED, message="no heartbeat", force=False
            )
        ],
    )


def _notices(block: UUID) -> Iterator[AutomationCore]:
    events: dict[str, tuple[set[str], str, str]] = {
        "failed run": ({f"{RUN}.Failed", f"{RUN}.Crashed"}, f"{RUN}.*", MESSAGE),
        "late run": ({f"{RUN}.Late"}, f"{RUN}.*", LATE),
        "drift": ({"mlops.drift"}, "mlops.environment.*", "{{ event.payload.reason }}"),
    }
    for name, (expected, resources, body) in events.items():
        send = SendNotification(block_document_id=block, subject=f"mlops: {name}", body=body)
        yield AutomationCore(
            name=f"mlops: {name}",
            trigger=EventTrigger(
                posture=Posture.Reactive, expect=expected, match={"prefect.resource.id": resources},
                for_each={"prefect.resource.id"}, threshold=1, within=timedelta(0),
            ),
            actions=[send],
        )  # fmt: skip
