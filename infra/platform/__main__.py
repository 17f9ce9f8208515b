"""What `pulumi preview` and `pulumi up` run, with the stack's file as settings."""

import pulumi
from azure_platform import settings, stack
from pulumi.runtime.config import get_config_env

try:
    chosen = settings.parse(pulumi.get_stack(), get_config_env())
except settings.Refused as refused:
    raise pulumi.RunError(str(refused)) from None
for name, value in stack.declare(chosen).items():
    pulumi.export(name, value)
