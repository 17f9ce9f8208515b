#!/usr/bin/env bash
# Build the scoring service's image and Azure ML's in the platform's registry, which runs the builds
# itself, and print the name that deployments use. May be run again. Needs the Azure CLI, logged in.
#
#   infra/platform/images.sh BASE@sha256:DIGEST
set -euo pipefail
cd "$(dirname "$0")/../.."

if (($# != 1)) || [[ "$1" != *@sha256:* ]]; then
	echo "error: images.sh: found '$*', expected the base's name, BASE@sha256:DIGEST" >&2
	exit 2
fi
server=$(pulumi -C infra/platform stack output registryServer --stack dev)
registry=${server%%.*}
build() { az acr build --registry "$registry" --image "$1:latest" "${@:2}" --output none >&2; }
named() { echo "$server/$1@$(az acr repository show --name "$registry" --image "$1:latest" --query digest --output tsv)"; }

build mlops-serving --file infra/serving/Dockerfile --build-arg BASE="$1" .
service=$(named mlops-serving)
build mlops-azureml --file infra/azureml/Dockerfile --build-arg SERVICE="$service" infra/azureml
named mlops-azureml
