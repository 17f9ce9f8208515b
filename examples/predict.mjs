// Ask the service from JavaScript: Node 18 or later, or a page that the service's host serves.
// MLOPS_SERVING_URL says where it is, MLOPS_SERVING_TOKEN its token.
const url = process.env.MLOPS_SERVING_URL ?? "http://127.0.0.1:8080";
const token = process.env.MLOPS_SERVING_TOKEN;

async function ask(path, body) {
  const headers = { "content-type": "application/json" };
  if (token) headers.authorization = `Bearer ${token}`;
  const answer = await fetch(url + path, {
    method: body ? "POST" : "GET",
    headers,
    body: body && JSON.stringify(body),
    signal: AbortSignal.timeout(30_000),
  });
  const found = await answer.json();
  // What a refusal says is the error's text.
  if (!answer.ok) throw new Error(`${answer.status}: ${found.error}`);
  return found;
}

// A real row of the training data, which every bundle carries.
const { example } = await ask("/model");
const { digest, predictions } = await ask("/predict", [example, example]);
console.log(`bundle ${digest.slice(0, 12)}: ${predictions.length} rows`);
console.log(JSON.stringify(predictions[0]));
