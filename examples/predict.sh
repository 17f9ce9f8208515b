#!/usr/bin/env bash
# Score rows from a shell. MLOPS_SERVING_URL is the service's address, MLOPS_SERVING_TOKEN its
# bearer token.
set -euo pipefail

url=${MLOPS_SERVING_URL:-http://127.0.0.1:8080}

# Print the response whatever its status; a status of 400 or more ends the script.
request() {
	curl --silent --show-error --fail-with-body --max-time 30 \
		--retry 3 --retry-connrefused \
		--oauth2-bearer "${MLOPS_SERVING_TOKEN:-}" \
		--header 'content-type: application/json' "$@"
}

# A row of the training data; every bundle has one.
row=$(request "$url/model" | python3 -c 'import json, sys; print(json.dumps(json.load(sys.stdin)["example"]))')

request "$url/invocations" --data "{\"dataframe_records\": [$row]}"
echo
request "$url/predict" --data "$row"
echo
