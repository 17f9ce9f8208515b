#!/usr/bin/env bash
# Build the scoring service's image and Azure ML's, push them to the platform's registry, and print
# the name that deployments use. May be run again. Needs Docker and the Azure CLI, logged in.
set -euo pipefail
cd "$(dirname "$0")/../.."

server=$(pulumi -C infra/platform stack output registryServer --stack dev)
make --silent image >&2
infra/serving/push.sh "$server" | sed -n 's/^azureml=//p'
