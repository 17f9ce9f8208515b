"""What happens by itself when a run fails, comes late or is lost, and when a model drifts.

The drift event's other half, the retraining, stands in `prefect.yaml` with its deployment.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import timedelta
from typing import Any
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

# Where notices go, as Apprise writes addresses: mailtos://, slack://, json:// and many more, or
# the address of a Slack or Teams webhook as those give it. It is kept in a block, encrypted.
NOTIFY = "MLOPS_NOTIFY"
BLOCK = "mlops-notices"
RUN = "prefect.flow-run"
# A run beats every three minutes; one whose machine went down beats no more.
SILENT = timedelta(minutes=8)
ENDED = "{{ flow_run.name }}: {{ flow_run.state.message }}"
LATE = "{{ deployment.name }}, {{ flow_run.name }}: due at {{ flow_run.expected_start_time }}"


async def apply(client: PrefectClient) -> list[str]:
    """Make the server's automations what this file says; gives a line for each."""
    block = await _block()
    lines = []
    for automation in [_lost(), *(_notices(block) if block else ())]:
        known = await client.read_automations_by_name(automation.name)
        if known:
            await client.update_automation(known[0].id, automation)
        else:
            await client.create_automation(automation)
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
        # What it found is a secret.
        raise UserError(f"{NOTIFY}: expected an address that Apprise knows") from None
    return await notifier.asave(BLOCK, overwrite=True)


def _kind(address: str) -> type[AppriseNotificationBlock]:
    """Slack's block sends to whatever Apprise knows; Teams' addresses need their own."""
    host = urlsplit(address).hostname or ""
    return MicrosoftTeamsWebhook if host.endswith("logic.azure.com") else SlackWebhook


def _lost() -> AutomationCore:
    """A run that beats no more is said to have crashed, so that it holds up no other."""
    return AutomationCore(
        name="mlops: lost run",
        trigger=EventTrigger(
            posture=Posture.Proactive,
            after={f"{RUN}.heartbeat"},
            expect={f"{RUN}.heartbeat", *(f"{RUN}.{state}" for state in _ENDED)},
            for_each={"prefect.resource.id"},
            match=_each(f"{RUN}.*"),
            threshold=1,
            within=SILENT,
        ),
        actions=[
            ChangeFlowRunState(
                name=None, state=StateType.CRASHED, message="was heard of no more", force=False
            )
        ],
    )


_ENDED = ("Completed", "Failed", "Cancelled", "Crashed")


def _notices(block: UUID) -> Iterator[AutomationCore]:
    events: dict[str, tuple[set[str], str, str]] = {
        "failed run": ({f"{RUN}.Failed", f"{RUN}.Crashed"}, f"{RUN}.*", ENDED),
        "late run": ({f"{RUN}.Late"}, f"{RUN}.*", LATE),
        "drift": ({"mlops.drift"}, "mlops.environment.*", "{{ event.payload.reason }}"),
    }
    for what, (expected, resources, body) in events.items():
        send = SendNotification(block_document_id=block, subject=f"mlops: {what}", body=body)
        yield AutomationCore(
            name=f"mlops: {what}",
            trigger=EventTrigger(
                posture=Posture.Reactive, expect=expected, match=_each(resources),
                for_each={"prefect.resource.id"}, threshold=1, within=timedelta(0),
            ),
            actions=[send],
        )  # fmt: skip


def _each(resources: str) -> Any:
    return {"prefect.resource.id": resources}
