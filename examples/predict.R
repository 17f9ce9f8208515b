# Score rows from R. MLOPS_SERVING_URL is the service's address, MLOPS_SERVING_TOKEN its bearer token.
library(httr2)

url <- Sys.getenv("MLOPS_SERVING_URL", "http://127.0.0.1:8080")
token <- Sys.getenv("MLOPS_SERVING_TOKEN")

service <- request(url)
# Scoring changes nothing, so a request can be repeated; Retry-After is respected.
service <- req_retry(service, max_tries = 5)
# Put the service's error message into R's error.
service <- req_error(service, body = function(response) resp_body_json(response)$error)
if (nzchar(token)) service <- req_auth_bearer_token(service, token)

# A row of the training data; every bundle has one. A missing value stays NULL.
row <- resp_body_json(req_perform(req_url_path(service, "model")))$example

predict <- req_body_json(req_url_path(service, "predict"), list(row, row))
response <- req_perform(predict)
cat("bundle", substr(resp_header(response, "x-model-digest"), 1, 12), "\n")
first <- resp_body_json(response)$predictions[[1]]
cat(jsonlite::toJSON(first, auto_unbox = TRUE, digits = NA), "\n")
