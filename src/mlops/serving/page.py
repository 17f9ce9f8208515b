"""The page `/docs`: columns, and a form that sends a row of the training data."""

from __future__ import annotations

import html
import json

from mlops.serving import openapi
from mlops.serving.model import Model

HTML = "text/html; charset=utf-8"


def page(model: Model) -> str:
    """The page as HTML, without any other file."""
    card = model.card
    columns = (
        # A long name breaks at its words.
        f"<tr><td><code>{html.escape(name).replace('_', '_<wbr>')}</code>"
        f"<td>{schema['type'][0]}<td>{html.escape(schema['description'])}"
        for name, schema in openapi.record(card)["properties"].items()
    )
    return PAGE.format(
        name=html.escape(card.name), target=html.escape(card.target), digest=model.digest,
        classes=html.escape(f" ({', '.join(card.labels)})" if card.labels else ""),
        row=html.escape(json.dumps(card.example, indent=2, ensure_ascii=False)),
        columns="\n".join(columns),
    )  # fmt: skip


PAGE = """<!doctype html>
<html lang="en" style="color-scheme: light dark">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="data:,">
<title>{name}</title>
<style>
body {{ font: 16px/1.5 system-ui; max-width: 60rem; margin: 2rem auto; padding: 0 1rem }}
table {{ border-collapse: collapse; width: 100% }}
th, td {{ border-bottom: 1px solid #8884; padding: .3rem .8rem .3rem 0; text-align: left }}
code, pre, textarea {{ font: .9rem/1.4 ui-monospace, monospace; overflow-wrap: anywhere }}
textarea, pre {{ box-sizing: border-box; width: 100%; padding: .6rem; border: 1px solid #8884 }}
pre {{ white-space: pre-wrap }}
</style>
<h1>{name}</h1>
<p>Predicts <code>{target}</code>{classes} with bundle <code>{digest}</code>.
All paths are described in <a href="openapi.json">openapi.json</a>.</p>
<h2>Try it</h2>
<p>A row of the training data, for <code>POST /predict</code>:</p>
<textarea id="body" rows="20" aria-label="The request's body" spellcheck="false">{row}</textarea>
<p><button id="send">Send</button></p>
<pre id="answer" aria-live="polite"></pre>
<h2>Columns</h2>
<p>A <code>null</code> is a missing value. A category that training never saw is scored too.</p>
<table>
<tr><th>name<th>type<th>unit, and the categories in training
{columns}
</table>
<script>
document.getElementById("send").onclick = async () => {{
  const body = document.getElementById("body").value;
  const headers = {{"content-type": "application/json"}};
  const text = await fetch("predict", {{method: "POST", body, headers}})
    .then(async (answer) => answer.status + " " + await answer.text(), String);
  document.getElementById("answer").textContent = text;
}};
</script>
</html>
"""
