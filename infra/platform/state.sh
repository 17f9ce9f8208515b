#!/usr/bin/env bash
# Make what Pulumi keeps its state in: a group, a storage account without keys, and a container with
# versions, named as Pulumi.dev.yaml says. May be run again. Needs the Azure CLI, and an owner of the
# subscription who is logged in.
set -euo pipefail
cd "$(dirname "$0")"

setting() { sed -n "s/^  $1: *\"*\([A-Za-z0-9]*\).*/\1/p" Pulumi.dev.yaml; }
project=$(setting platform:project) suffix=$(setting platform:suffix)
location=$(setting azure-native:location)
if [[ -z "$project" || -z "$location" || "$suffix" == 0000 ]]; then
	echo "error: Pulumi.dev.yaml: platform:suffix: found '$suffix', expected 4 characters of your own, in all three files" >&2
	exit 2
fi
group=rg-$project-state account=st${project}state$suffix

az group create --name "$group" --location "$location" --output none
az storage account create --name "$account" --resource-group "$group" --location "$location" \
	--sku Standard_ZRS --allow-shared-key-access false --allow-blob-public-access false \
	--min-tls-version TLS1_2 --https-only true --output none
az storage account blob-service-properties update --account-name "$account" \
	--resource-group "$group" --enable-versioning true --enable-delete-retention true \
	--delete-retention-days 30 --output none
az storage container-rm create --name state --storage-account "$account" \
	--resource-group "$group" --output none
az role assignment create --role "Storage Blob Data Contributor" --output none \
	--assignee-object-id "$(az ad signed-in-user show --query id --output tsv)" \
	--assignee-principal-type User \
	--scope "$(az storage account show --name "$account" --resource-group "$group" --query id --output tsv)"
echo "export PULUMI_BACKEND_URL='azblob://state?storage_account=$account'"
