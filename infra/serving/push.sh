#!/usr/bin/env bash
# Push what `make image` built to a registry, then Azure ML's image on it, and print both names by
# digest, as deployments use them. Needs Docker, logged in to the registry; to one of Azure's, it
# logs in as whom the Azure CLI is logged in as.
#
#   infra/serving/push.sh REGISTRY
set -euo pipefail
cd "$(dirname "$0")/../.."

if (($# != 1)) || [[ "$1" != *[.:]* || "$1" == *://* ]]; then
	echo "error: push.sh: found '$*', expected a registry's name, as NAME.azurecr.io" >&2
	exit 2
fi
commit=$(git rev-parse HEAD)
push() {
	# `set -e` does not hold inside of $(push …).
	docker tag "$1" "$2/$1:$commit" &&
		docker push --quiet "$2/$1:$commit" >&2 &&
		docker image inspect --format '{{join .RepoDigests "\n"}}' "$2/$1:$commit" | grep --fixed-strings "$2/$1@"
}

if [[ "$1" == *.azurecr.io ]]; then az acr login --name "${1%%.*}" >&2; fi
service=$(push mlops-serving "$1")
DOCKER_BUILDKIT=1 docker build --quiet --build-arg SERVICE="$service" --tag mlops-azureml infra/azureml >&2
azureml=$(push mlops-azureml "$1")
printf 'service=%s\nazureml=%s\n' "$service" "$azureml"
