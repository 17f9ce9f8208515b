"""Log in to PostgreSQL as the container's managed identity: the password is a token of an hour.

Python imports this by itself at its start. MLflow and Prefect both connect with SQLAlchemy, which
asks here before each new connection, so that an old token is never used.
"""

import os
from typing import Any

from azure.identity import DefaultAzureCredential
from sqlalchemy import event
from sqlalchemy.engine import Engine

SCOPE = "https://ossrdbms-aad.database.windows.net/.default"
credential = DefaultAzureCredential()


@event.listens_for(Engine, "do_connect")
def use_a_token(dialect: Any, record: Any, arguments: Any, options: dict[str, Any]) -> None:
    """Give the token to connections to this one host, and to no other."""
    if options.get("host") == os.environ["ENTRA_LOGIN_HOST"]:
        options["password"] = credential.get_token(SCOPE).token
