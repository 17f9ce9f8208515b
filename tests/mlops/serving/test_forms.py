"""Every form of every protocol gives what the bundle's own scorer gives for the same rows."""

import numpy as np
import pandas as pd
import pytest

from mlops.contract import bundle
from tests.mlops.serving import bundles, forms


def scored(folder, frame):
    """The bundle's own answer, a column for each output."""
    predicted = bundle.Scorer(folder).predict(frame)
    return predicted.reshape(len(frame), -1)


def answered(reply, task):
    """The numbers of an answer, a column for each output, whatever form it has."""
    assert reply.status == 200, reply.body
    if forms.LENGTH.lower() in reply.headers:
        return np.column_stack(list(unpacked(reply).values()))
    answer = reply.json
    if "outputs" in answer:
        return np.column_stack([output["data"] for output in answer["outputs"]])
    names = {"binary": "probability", "regression": "prediction"}
    rows = answer["predictions"]
    if task == "multiclass" and "probabilities" in rows[0]:
        return np.array([row["probabilities"] for row in rows])
    if task == "multiclass":
        return np.array([list(row.values()) for row in rows])
    return np.array([[row[names[task]]] for row in rows])


def unpacked(reply):
    """Tensors behind the JSON, by name."""
    length = int(reply.headers[forms.LENGTH.lower()])
    head, place, found = forms.decoded(reply.body[:length]), length, {}
    for output in head["outputs"]:
        size = output["parameters"][forms.SIZE]
        found[output["name"]] = np.frombuffer(reply.body[place : place + size], "<f4")
        place += size
        assert "data" not in output
        assert list(found[output["name"]].shape) == output["shape"]
    assert place == len(reply.body)
    return found


@pytest.fixture(scope="module")
def services(made, serve):
    """A service for each task."""
    folders = {task: made("lightgbm", task) for task in bundles.TASKS}
    return {task: (folder, serve(folder)) for task, folder in folders.items()}


@pytest.mark.parametrize("form", forms.FORMS)
@pytest.mark.parametrize("task", bundles.TASKS)
def test_every_form_gives_what_the_bundle_gives(services, task, form):
    """Of any number of rows, columns in any order, and missing and unseen values."""
    folder, client = services[task]
    odd = bundles.frame(3).assign(numbers=np.float32(np.nan), words=["", "unseen", "☃ {[\"'"])
    for frame in (odd, *(bundles.frame(rows, seed=rows) for rows in (1, 300))):
        frame = frame[np.random.default_rng(len(frame)).permutation(frame.columns)]
        sent = forms.forms(f"{task}-model")[form](frame)
        found = answered(client.post(sent.path, sent.body, sent.headers), task)
        assert (found == scored(folder, frame)).all()


def test_a_null_word_is_an_empty_one(services):
    folder, client = services["binary"]
    row = forms.records(bundles.frame(1))[0]
    null, empty = ({**row, "city": city} for city in (None, ""))
    assert (
        client.post("/predict", null).json["predictions"]
        == (client.post("/predict", empty).json["predictions"])
    )
    frame = pd.DataFrame([null]).astype({"numbers": "float32"})
    found = answered(client.post("/predict", null), "binary")
    assert (found == scored(folder, frame[bundles.COLUMNS])).all()


def test_requests_that_arrive_together_get_each_their_own_answer(services):
    folder, client = services["multiclass"]
    frames = [bundles.frame(1 + seed % 3, seed=seed) for seed in range(40)]
    bodies = [forms.records(frame) for frame in frames]
    for frame, reply in zip(frames, client.at_once("/predict", bodies), strict=True):
        assert (answered(reply, "multiclass") == scored(folder, frame)).all()


def test_a_mistake_is_its_own_requests_alone(services):
    folder, client = services["regression"]
    frame = bundles.frame(2)
    good = forms.records(frame)
    bad = [good[0], {**good[1], "z": 1e39}]
    replies = client.at_once("/predict", [good, bad, good, bad])
    assert [reply.status for reply in replies] == [200, 422, 200, 422]
    assert replies[1].error == "row 1, column 'z': found a number beyond float32"
    for reply in replies[::2]:
        assert (answered(reply, "regression") == scored(folder, frame)).all()


@pytest.mark.parametrize("key", ["inputs", "instances"])
def test_a_lone_record_needs_no_list(services, key):
    folder, client = services["binary"]
    frame = bundles.frame(1)
    reply = client.post("/invocations", {key: forms.records(frame)[0]})
    assert (answered(reply, "binary") == scored(folder, frame)).all()


def test_of_a_name_given_twice_the_last_counts(services):
    _, client = services["binary"]
    row = forms.records(bundles.frame(1))[0]
    twice = b'{"z": 100, ' + forms.encoded({**row, "z": 1})[1:]
    once = client.post("/predict", {**row, "z": 1})
    assert client.post("/predict", twice).json["predictions"] == once.json["predictions"]
