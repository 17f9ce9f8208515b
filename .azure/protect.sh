#!/usr/bin/env bash
# Protect main on Azure DevOps, as .github/ruleset.json does on GitHub: branch policies, the
# environments' approvals and locks, and what the build service may do. Needs the Azure CLI with the
# extension `azure-devops`, and a project administrator who is logged in.
#
#   .azure/protect.sh https://dev.azure.com/ORGANIZATION PROJECT REPOSITORY PIPELINE REVIEWERS
#
# REVIEWERS is the name of a group: it reviews what decides how models are judged and deployed, and
# approves deployments to production.
set -euo pipefail

if (($# != 5)); then
	sed -n '6p' "$0" >&2
	exit 2
fi
organization=$1 project=$2 repository=$3 pipeline=$4 reviewers=$5
# The namespace of Git repositories, and its bits: Contribute, Create branch, Contribute to pull
# requests; Bypass policies when pushing, and when completing pull requests.
git_repositories=2e9eb7ed-3c0a-47d4-87c1-0ffdd275fd87
allowed=$((4 + 16 + 16384)) denied=$((128 + 32768))
decides="/.azure/*;/.ci/*;/.github/*;/azure-pipelines.yml;/environments/*;/params.yaml;/dvc.yaml;/Makefile;/pyproject.toml;/requirements.lock;/flows/*;/src/mlops/*;/infra/*"

ask() { az "$@" --organization "$organization" --output tsv; }
here() { ask "$@" --project "$project"; }

repository_id=$(here repos show --repository "$repository" --query id)
project_id=$(ask devops project show --project "$project" --query id)
pipeline_id=$(here pipelines show --name "$pipeline" --query id)
reviewers_id=$(here devops security group list --query "graphGroups[?displayName=='$reviewers'].originId | [0]")
reviewers_group=$(here devops security group list --query "graphGroups[?displayName=='$reviewers'].descriptor | [0]")
builder=$(ask devops user list --query "items[?user.displayName=='$project Build Service'].user.descriptor | [0]" 2>/dev/null || true)
if [[ -z "$reviewers_group" ]]; then
	echo "error: REVIEWERS: found no group $reviewers in $project" >&2
	exit 2
fi
existing=$(here repos policy list --repository-id "$repository_id" --branch main --query "length(@)")
if [[ "$existing" != 0 ]]; then
	echo "error: main has $existing policies already: look at them under Project settings, Repositories, Policies, remove them and run this again" >&2
	exit 2
fi

policy() {
	here repos policy "$1" create --repository-id "$repository_id" --branch main --enabled true \
		--blocking true "${@:2}" --query type.displayName
}
policy approver-count --minimum-approver-count 1 --creator-vote-counts false \
	--allow-downvotes false --reset-on-source-push true
policy comment-required
policy merge-strategy --allow-squash true --allow-no-fast-forward true --allow-rebase false \
	--allow-rebase-merge false
policy build --build-definition-id "$pipeline_id" --display-name "$pipeline" \
	--queue-on-source-update-only false --manual-queue-only false --valid-duration 0
policy required-reviewer --required-reviewer-ids "$reviewers_id" --path-filter "$decides" \
	--message "This decides how models are judged, released or deployed."

# Approval and exclusive lock: one deployment of an environment at a time.
environment() {
	ask devops invoke --area distributedtask --resource environments \
		--route-parameters project="$project" --query-parameters name="$1" \
		--api-version 7.1 --query "value[0].id"
}
check() {
	local body
	body=$(mktemp)
	printf '{"type": {"id": "%s", "name": "%s"}, "settings": %s, "resource": {"type": "environment", "id": "%s"}, "timeout": 43200}' \
		"$2" "$3" "$4" "$1" >"$body"
	ask devops invoke --area pipelineschecks --resource configurations --http-method POST \
		--route-parameters project="$project" --api-version 7.1-preview --in-file "$body" \
		--query type.name
	rm "$body"
}
for name in staging production; do
	id=$(environment "$name")
	if [[ -z "$id" ]]; then
		echo "error: environment $name: not found; the pipeline's first run makes it" >&2
		exit 2
	fi
	check "$id" 2ef31ad1-baa0-403a-8b45-2cbc9b4e5563 ExclusiveLock '{}'
	if [[ "$name" == production ]]; then
		check "$id" 8c6f20a7-a545-4486-9777-f762fafe0d4d Approval \
			"{\"approvers\": [{\"id\": \"$reviewers_id\"}], \"minRequiredApprovers\": 1, \"requesterCannotBeApprover\": true}"
	fi
done

# It opens pull requests from branches of its own, and passes no policy by.
if [[ -n "$builder" ]]; then
	ask devops security permission update --namespace-id "$git_repositories" --subject "$builder" \
		--token "repoV2/$project_id/$repository_id" --allow-bit "$allowed" --deny-bit "$denied" \
		--merge true --query "[0].token"
else
	echo "$project Build Service: not found; under Project settings, Repositories, Security allow it Contribute, Create branch and Contribute to pull requests, and deny it to bypass policies" >&2
fi
