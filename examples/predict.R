# Ask the service from R. MLOPS_SERVING_URL says where it is, MLOPS_SERVING_TOKEN its token.
library(httr2)

url <- Sys.getenv("MLOPS_SERVING_URL", "http://127.0.0.1:8080")
token <- Sys.getenv("MLOPS_SERVING_TOKEN")

service <- request(url)
# A score changes nothing, so it may be asked for again; Retry-After is obeyed.
service <- req_retry(service, max_tries = 5)
# What a refusal says is the error's text.
service <- req_error(service, body = function(answer) resp_body_json(answer)$error)
if (nzchar(token)) service <- req_auth_bearer_token(service, token)

# A real row of the training data, which every bundle carries; a missing value stays NULL.
row <- resp_body_json(req_perform(req_url_path(service, "model")))$example

predict <- req_body_json(req_url_path(service, "predict"), list(row, row))
answer <- req_perform(predict)
cat("bundle", substr(resp_header(answer, "x-model-digest"), 1, 12), "\n")
first <- resp_body_json(answer)$predictions[[1]]
cat(jsonlite::toJSON(first, auto_unbox = TRUE, digits = NA), "\n")
