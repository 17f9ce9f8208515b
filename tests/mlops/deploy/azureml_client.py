"""Run by the Python that has Azure ML's SDK: ask a server with the SDK's own client, print what
it understood.

    python azureml_client.py URL ENDPOINT DEPLOYMENT SHARE

Gives the deployment SHARE percent of the traffic, waits, looks, and removes the other one.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from azure.ai.ml._restclient.arm_ml_service import MachineLearningServicesMgmtClient
from azure.ai.ml._restclient.arm_ml_service.models import OnlineEndpoint
from azure.core.pipeline.policies import HeadersPolicy

PLACE = {"resource_group_name": "group", "workspace_name": "work"}


def main() -> None:
    url, name, deployment, share = sys.argv[1:]
    # A token goes over TLS alone, unless one says so in another way.
    signed: Any = HeadersPolicy({"Authorization": "Bearer for-arm"})
    client = MachineLearningServicesMgmtClient(
        credential=signed, subscription_id="0", base_url=url, authentication_policy=signed,
        polling_interval=0,
    )  # fmt: skip
    found = client.online_endpoints.get(**PLACE, endpoint_name=name)
    others = [key for key in found.properties.traffic if key != deployment]
    found.properties.traffic = {deployment: int(share), others[0]: 100 - int(share)}
    body = OnlineEndpoint(location=found.location, properties=found.properties, tags=found.tags)
    changed = client.online_endpoints.begin_create_or_update(
        **PLACE, endpoint_name=name, body=body
    ).result()
    listed = [one.name for one in client.online_deployments.list(**PLACE, endpoint_name=name)]
    one = client.online_deployments.get(**PLACE, endpoint_name=name, deployment_name=deployment)
    client.online_deployments.begin_delete(
        **PLACE, endpoint_name=name, deployment_name=others[0]
    ).result()
    print(json.dumps({
        "state": str(changed.properties.provisioning_state),
        "traffic": dict(changed.properties.traffic), "deployments": sorted(listed),
        "digest": one.properties.properties["mlops.bundle"],
        "instances": one.sku.capacity,
        "timeout": str(one.properties.request_settings.request_timeout),
    }))  # fmt: skip


if __name__ == "__main__":
    main()
