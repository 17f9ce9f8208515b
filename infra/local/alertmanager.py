"""Print Alertmanager's configuration: who is told of an alert, as the variables ALERT_* say.

Every alert is posted to `ALERT_WEBHOOK_URL` as Alertmanager's JSON, and mailed to `ALERT_EMAIL_TO`;
mail needs `ALERT_EMAIL_FROM` and `ALERT_SMTP` (HOST:PORT) too, and `ALERT_SMTP_USER` and
`ALERT_SMTP_PASSWORD` where the server asks for them. Alerts of the severity `page` are sent at
once and again every hour, `ticket` on working days (UTC), once a day. Exit code 2 with one line
for what is missing or no address; a URL, which may hold a secret, is not in it.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

WORKING_DAYS = "working days"


def receiver(variables: Mapping[str, str]) -> dict[str, Any]:
    """The one receiver; ValueError for what is missing or no address."""
    url, mail = variables.get("ALERT_WEBHOOK_URL"), variables.get("ALERT_EMAIL_TO")
    team: dict[str, Any] = {"name": "team"}
    if url:
        if not re.match("(?i)https?://", url) or not _is_address(url):
            raise ValueError(
                "ALERT_WEBHOOK_URL: expected http:// or https://, a host and no spaces"
            )
        team["webhook_configs"] = [{"url": url, "send_resolved": True}]
    if mail:
        for name in ("ALERT_EMAIL_FROM", "ALERT_SMTP"):
            if not variables.get(name):
                raise ValueError(f"{name}: not set, expected beside ALERT_EMAIL_TO")
        smtp = variables["ALERT_SMTP"]
        if not re.search(r":\d+$", smtp) or not _is_address(f"//{smtp}"):
            raise ValueError(f"ALERT_SMTP: found {smtp!r}, expected HOST:PORT")
        login = {"auth_username": variables.get("ALERT_SMTP_USER"),
                 "auth_password": variables.get("ALERT_SMTP_PASSWORD")}  # fmt: skip
        team["email_configs"] = [{
            "to": mail, "from": variables["ALERT_EMAIL_FROM"], "smarthost": smtp,
            "send_resolved": True, **{key: value for key, value in login.items() if value},
        }]  # fmt: skip
    return team


def _is_address(url: str) -> bool:
    """Whether Alertmanager takes a URL: printable, with a host and a port that there may be."""
    try:
        host, port = urlsplit(url).hostname or "", urlsplit(url).port
    except ValueError:
        return False
    is_printable = re.fullmatch(r"(%[0-9A-Fa-f]{2}|[!-$&-~])+", url)
    return bool(is_printable and re.fullmatch(r"[\w.:-]+", host) and port != 0)


def configuration(variables: Mapping[str, str]) -> dict[str, Any]:
    """Alertmanager's configuration, as its file holds it."""
    ticket = {
        "matchers": ['severity = "ticket"'], "receiver": "team", "group_wait": "5m",
        "group_interval": "1h", "repeat_interval": "1d", "active_time_intervals": [WORKING_DAYS],
    }  # fmt: skip
    # What has no severity, or another one, is a page: nothing is lost for a misspelt label.
    return {
        "route": {
            "receiver": "team", "group_by": ["alertname"], "group_wait": "5s",
            "group_interval": "1m", "repeat_interval": "1h", "routes": [ticket],
        },
        "receivers": [receiver(variables)],
        "time_intervals": [
            {"name": WORKING_DAYS, "time_intervals": [{"weekdays": ["monday:friday"]}]}
        ],
    }  # fmt: skip


if __name__ == "__main__":
    try:
        content = configuration(os.environ)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    if len(content["receivers"][0]) == 1:
        print("alerts reach nobody: set ALERT_WEBHOOK_URL or ALERT_EMAIL_TO", file=sys.stderr)
    print(json.dumps(content, indent=1))
