"""The commands of docs/serving.md and the SQL of examples/ do for the flights what they say."""

from __future__ import annotations

import json
import os
import re
import secrets
import subprocess
from typing import Any

import pytest
import sqlglot
from sqlglot import expressions as sql

from flights.features import FEATURES, KEY
from tests.conftest import REPOSITORY
from tests.served import served

PAGE = REPOSITORY / "docs" / "serving.md"
ADDRESS = "127.0.0.1:8080"
# A block of commands, with the answer in the block after it.
BLOCK = re.compile(r"^```bash\n(.*?)^```\n(?:\n```json\n(.*?)^```$)?", re.MULTILINE | re.DOTALL)


def test_the_query_is_databricks_sql_and_names_every_feature_of_the_model():
    file = REPOSITORY / "examples" / "predict.sql"
    query = sqlglot.parse_one(file.read_text(), dialect="databricks")
    arguments = {word.name: word.expression for word in query.find_all(sql.Kwarg)}
    assert set(arguments) == {"request", "returnType"}
    names = [literal.name for literal in arguments["request"].find_all(sql.Literal)]
    columns = [column.name for column in arguments["request"].find_all(sql.Column)]
    assert sorted(names or columns) == sorted(columns) == sorted(FEATURES)
    assert query.find(sql.Select).expressions[0].name == KEY
    result = sql.DataType.build(arguments["returnType"].name, dialect="databricks")
    assert [field.name for field in result.expressions] == ["probability"]


@pytest.mark.slow
@pytest.mark.nightly
def test_the_commands_of_the_page_give_the_answers_that_it_shows(example, tmp_path):
    blocks = [(code, answer) for code, answer in BLOCK.findall(PAGE.read_text()) if ADDRESS in code]
    assert len(blocks) >= 6
    token = secrets.token_hex()
    bundle = example.root / "models" / "bundle"
    with served(bundle, tmp_path, "--version=7", MLOPS_SERVING_TOKEN=token) as service:
        for code, answer in blocks:
            code = code.replace(ADDRESS, f"127.0.0.1:{service.port}")
            if "MLOPS_SERVING_TOKEN" not in code:
                code = code.replace("curl ", f"curl --oauth2-bearer {token} ")
            done = subprocess.run(
                ["bash", "-euo", "pipefail", "-c", code], cwd=tmp_path, capture_output=True,
                text=True, env={**os.environ, "MLOPS_SERVING_TOKEN": token}, check=False,
            )  # fmt: skip
            assert done.returncode == 0, f"{code}{done.stderr}"
            if answer:
                assert form(json.loads(done.stdout)) == form(json.loads(answer)), code


def form(answer: Any) -> Any:
    """What an answer shows whatever the model: its keys, its types, its errors."""
    if isinstance(answer, dict):
        return {key: one if key == "error" else form(one) for key, one in answer.items()}
    return list(map(form, answer)) if isinstance(answer, list) else type(answer)
