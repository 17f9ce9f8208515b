#!/usr/bin/env bash
# Ask the service from a shell. MLOPS_SERVING_URL says where it is, MLOPS_SERVING_TOKEN its token.
set -euo pipefail

url=${MLOPS_SERVING_URL:-http://127.0.0.1:8080}

# The answer is printed whatever its status; a status of 400 or more ends the script.
ask() {
	curl --silent --show-error --fail-with-body --max-time 30 \
		--retry 3 --retry-connrefused \
		--oauth2-bearer "${MLOPS_SERVING_TOKEN:-}" \
		--header 'content-type: application/json' "$@"
}

# A real row of the training data, which every bundle carries.
row=$(ask "$url/model" | python3 -c 'import json, sys; print(json.dumps(json.load(sys.stdin)["example"]))')

ask "$url/invocations" --data "{\"dataframe_records\": [$row]}"
echo
ask "$url/predict" --data "$row"
echo
