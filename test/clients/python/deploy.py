"""Deploys an instance through the client that openapi-python-client has made, and removes it again: deploy.py <folder of the client>."""

import json
import os
import sys

sys.path.insert(0, sys.argv[1])

from belay_client import AuthenticatedClient  # noqa: E402
from belay_client.api.compute import create_instance, delete_instance, expunge_instance, get_instance, list_instances  # noqa: E402
from belay_client.api.platform import get_operation  # noqa: E402
from belay_client.models import ExpungeInstanceBody, InstanceCreate, Operation  # noqa: E402


def done(answer):
    """Follows an accepted operation to its end, and answers the id of what it was about."""
    operation = answer.parsed
    if not isinstance(operation, Operation):
        sys.exit(f"expected an operation, found {answer.status_code}: {answer.content.decode()}")
    for _ in range(10):
        operation = get_operation.sync(id=operation.id, client=client, wait_seconds=30)
        if operation.state.value in ("succeeded", "failed", "cancelled", "stuck"):
            break
    if operation.state.value != "succeeded":
        sys.exit(f"{operation.type_} is {operation.state.value}: {operation.error}")
    return operation.target_id


client = AuthenticatedClient(base_url=os.environ["BELAY_URL"], token=os.environ["BELAY_TOKEN"], timeout=90)
body = InstanceCreate.from_dict(json.loads(os.environ["INSTANCE"]))
id = done(create_instance.sync_detailed(client=client, body=body, prefer="wait=30"))
instance = get_instance.sync(id=id, client=client)
if instance.state.value != "running":
    sys.exit(f"the instance is {instance.state.value}")
page = list_instances.sync(client=client, filter_=f'name = "{body.name}"')
if [one.id for one in page.items] != [id]:
    sys.exit("the list does not show it")
done(delete_instance.sync_detailed(id=id, client=client))
done(expunge_instance.sync_detailed(id=id, client=client, body=ExpungeInstanceBody()))
print(f"{body.name} was deployed, read, listed and removed")
