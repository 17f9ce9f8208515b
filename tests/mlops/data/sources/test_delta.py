"""Delta tables are read at one version, without deleted rows, wherever they lie."""

import base64
import datetime as dt
import json
import struct
from string import ascii_lowercase, ascii_uppercase, digits

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

from mlops.base.errors import UserError
from mlops.data.sources import Query, Unreachable, delta
from tests.mlops.data.sources.expiring import expiring

B85 = digits + ascii_uppercase + ascii_lowercase + "!#$%&()*+-;<=>?@^_`{|}~"
Z85 = digits + ascii_lowercase + ascii_uppercase + ".-:+=^!/*?&<>()[]{}@%$#"
DAYS = [dt.date(2020, month, 15) for month in (1, 2, 3)]


def rows(days=DAYS, **more):
    instants = pa.array([dt.datetime(day.year, day.month, day.day, 23) for day in days])
    columns = {"key": [f"k{day}" for day in days], "day": days, "at": instants}
    zoned = instants.cast(pa.timestamp("us", "UTC"))
    return pa.table(columns | {"zoned": zoned, "text": [str(day) for day in days]} | more)


def write(folder, table=None, **options):
    write_deltalake(f"{folder}/trips", rows() if table is None else table, **options)


def read(place, **query):
    columns, batches = delta.read(str(place), Query("trips", **query))
    batches = list(batches)
    return columns, pa.Table.from_batches(batches) if batches else None


def refused(place, name="trips", **query):
    with pytest.raises(UserError) as error:
        list(delta.read(str(place), Query(name, **query)).batches)
    assert len(str(error.value).splitlines()) == 1
    return str(error.value)


@pytest.mark.parametrize(
    ("day", "expected"), [("day", 1), ("at", 1), ("zoned", 1), ("text", 3), (None, 3)]
)
def test_columns_and_days_asked_for_are_read_in_plain_types(tmp_path, day, expected):
    write(tmp_path, partition_by=["key"])
    february = {"since": dt.date(2020, 2, 1), "until": dt.date(2020, 2, 29)}
    columns, table = read(tmp_path, columns=("key", "text", "lost"), day=day, **february)
    assert columns == ("key", "day", "at", "zoned", "text")
    assert table.schema == pa.schema({"key": pa.string(), "text": pa.string()})
    assert len(table) == expected


def test_a_day_at_either_end_is_read_whole_and_rows_without_a_day_come_along(tmp_path):
    write(tmp_path)
    without = rows()[:1].set_column(2, "at", pa.array([None], pa.timestamp("us")))
    write(tmp_path, without, mode="append")
    _, table = read(tmp_path, day="at", since=DAYS[0], until=DAYS[1])
    ends = [dt.datetime(2020, month, 15, 23) for month in (1, 2)]
    assert sorted(table["at"].to_pylist(), key=str) == [*ends, None]


def test_files_of_other_partitions_are_not_opened(tmp_path):
    write(tmp_path, partition_by=["day"])
    for path in tmp_path.glob("trips/day=2020-01-15/*.parquet"):
        path.write_text("half a file")
    _, table = read(tmp_path, day="day", since=DAYS[1])
    assert table["day"].to_pylist() in (DAYS[1:], DAYS[:0:-1])
    assert "trips" in refused(tmp_path)


def test_a_version_is_read_again_and_deleted_rows_stay_deleted(tmp_path):
    write(tmp_path)
    DeltaTable(tmp_path / "trips").delete("day = '2020-01-15'")
    before = delta.fingerprint(str(tmp_path), [Query("trips")])
    _, table = read(tmp_path)
    assert len(table) == 2
    _, table = read(tmp_path, version=0)
    assert len(table) == 3
    pinned = delta.fingerprint(str(tmp_path), [Query("trips", version=0)])
    write(tmp_path, mode="append")
    assert delta.fingerprint(str(tmp_path), [Query("trips", version=0)]) == pinned != before
    assert delta.fingerprint(str(tmp_path), [Query("trips")]) != before


def test_rows_that_a_deletion_vector_removes_stay_deleted(tmp_path):
    write(tmp_path, configuration={"delta.enableDeletionVectors": "true"})
    log = tmp_path / "trips/_delta_log"
    actions = map(json.loads, (log / f"{0:020}.json").read_text().splitlines())
    add = next(action["add"] for action in actions if "add" in action)
    # The second row, in the protocol's form: an array of Roaring bitmaps, in Base85 of ZeroMQ.
    bitmap = struct.pack("<IqIIIHHIH", 1681511377, 1, 0, 12346, 1, 0, 0, 16, 1)
    text = base64.b85encode(bitmap + bytes(2)).decode().translate(str.maketrans(B85, Z85))
    vector = {"storageType": "i", "pathOrInlineDv": text, "sizeInBytes": 34, "cardinality": 1}
    gone = {"path": add["path"], "dataChange": True, "deletionTimestamp": 1}
    written = [{"remove": gone}, {"add": {**add, "deletionVector": vector}}]
    (log / f"{1:020}.json").write_text("\n".join(map(json.dumps, written)))
    _, table = read(tmp_path, columns=("day",))
    assert table["day"].to_pylist() == [DAYS[0], DAYS[2]]
    _, table = read(tmp_path, version=0)
    assert len(table) == 3


def test_columns_that_have_other_names_in_the_files_are_read_by_their_own(tmp_path):
    write(tmp_path, configuration={"delta.columnMapping.mode": "name"})
    columns, table = read(tmp_path, columns=("key",), day="day", since=DAYS[2])
    assert columns[0] == "key"
    assert table.to_pylist() == [{"key": "k2020-03-15"}]


def test_a_commit_during_the_read_changes_nothing_of_it(tmp_path):
    write(tmp_path)
    batches = delta.read(str(tmp_path), Query("trips")).batches
    write(tmp_path, mode="overwrite")
    write(tmp_path, mode="append")
    assert sum(batch.num_rows for batch in batches) == 3


def test_a_version_that_is_gone_is_refused_with_the_oldest_one_that_is_whole(tmp_path):
    for _ in range(3):
        write(tmp_path, mode="overwrite")
    table = DeltaTable(tmp_path / "trips")
    table.vacuum(retention_hours=0, enforce_retention_duration=False, dry_run=False)
    line = f"{tmp_path}/trips: version 0: files of it are gone, as after VACUUM; "
    assert refused(tmp_path, version=0) == line + "the oldest that can be read is 2"
    assert refused(tmp_path, version=9).endswith("version 9: the newest is 4")


def test_a_renamed_table_and_an_empty_place_are_named(tmp_path):
    write(tmp_path)
    assert refused(tmp_path, "trip") == f"{tmp_path}: no Delta table 'trip'; did you mean 'trips'?"
    with pytest.raises(Unreachable, match="nothing is there"):
        delta.read(f"{tmp_path}/other", Query("trips"))


def test_a_catalog_without_credentials_is_away():
    with pytest.raises(Unreachable, match=r"uc://main\.sales\.trips: .*credential"):
        delta.fingerprint("uc://main.sales", [Query("trips")])


@pytest.fixture
def sales(azurite, monkeypatch):
    """A table in Azurite, a file for each day; and its store."""
    monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", azurite.connection_string)
    table, options = rows(), delta.options()
    write("az://lake/sales", table, mode="overwrite", storage_options=options, partition_by=["day"])
    return azurite


@pytest.mark.nightly
@pytest.mark.slow
@pytest.mark.timeout(120)
def test_azure_is_read_with_its_own_variables_and_a_failed_login_is_one_line(sales, monkeypatch):
    for place in ("az://lake/sales", "abfss://lake@mlops.dfs.core.windows.net/sales"):
        _, table = read(place, day="day", since=DAYS[1])
        assert len(table) == 2
    assert "did you mean 'trips'?" in refused("az://lake/sales", "trip")
    port = str(sales.ports["azurite"])
    for wrong in (sales.connection_string.replace(sales.key, "c2VjcmV0"),
                  sales.connection_string.replace(port, "9"),
                  sales.connection_string.replace("127.0.0.1", "10.255.255.1")):  # fmt: skip
        monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", wrong)
        with pytest.raises(Unreachable, match="az://lake/sales/trips: ") as error:
            delta.read("az://lake/sales", Query("trips"))
        assert "c2VjcmV0" not in str(error.value)
        assert sales.key not in str(error.value)


@pytest.mark.nightly
@pytest.mark.slow
@pytest.mark.timeout(120)
def test_credentials_that_expire_in_the_middle_are_one_line(sales, monkeypatch):
    place = f"http://127.0.0.1:{sales.ports['azurite']}"
    refusal = (403, b"<Error><Code>AuthenticationFailed</Code></Error>")
    with expiring(place, refusal, lambda path, _: ".parquet" in path, answers=1) as front:
        through = sales.connection_string.replace(place, front)
        monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", through)
        with pytest.raises(Unreachable, match="^az://lake/sales/trips: ") as error:
            list(delta.read("az://lake/sales", Query("trips")).batches)
    assert len(str(error.value).splitlines()) == 1
    assert sales.key not in str(error.value)
