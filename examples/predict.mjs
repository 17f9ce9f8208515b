// Score rows from JavaScript: Node 18 or later, or a page from the service's own host.
// MLOPS_SERVING_URL is the service's address, MLOPS_SERVING_TOKEN its bearer token.
const url = process.env.MLOPS_SERVING_URL ?? "http://127.0.0.1:8080";
const token = process.env.MLOPS_SERVING_TOKEN;

async function request(path, body) {
  const headers = { "content-type": "application/json" };
  if (token) headers.authorization = `Bearer ${token}`;
  const response = await fetch(url + path, {
    method: body ? "POST" : "GET",
    headers,
    body: body && JSON.stringify(body),
    signal: AbortSignal.timeout(30_000),
  });
  const content = await response.json();
  if (!response.ok) throw new Error(`${response.status}: ${content.error}`);
  return content;
}

// A row of the training data; every bundle has one.
const { example } = await request("/model");
const { digest, predictions } = await request("/predict", [example, example]);
console.log(`bundle ${digest.slice(0, 12)}: ${predictions.length} rows`);
console.log(JSON.stringify(predictions[0]));
