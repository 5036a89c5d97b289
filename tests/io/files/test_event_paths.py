"""Which files a path stands for: none twice, none passed over without a word."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path

import fastavro
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from stream_scorer.core.events.decoded import join_batches
from stream_scorer.errors import EventFileError
from stream_scorer.io.files.event_paths import files_of
from stream_scorer.io.files.events import open_events

LINE = {
    "event_id": "1", "customer_id": "a", "event_type": "purchase", "category_id": "bread",
    "occurred_at": "2026-01-01T00:00:00Z",
}  # fmt: skip


def lines(path: Path, *objects: dict[str, str]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(o) + "\n" for o in objects or [LINE]))
    return path


def refusal(*paths: Path) -> str:
    with pytest.raises(EventFileError) as caught:
        files_of(paths)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("link", [os.symlink, os.link])
def test_a_file_with_a_second_name_is_not_counted_twice(tmp_path: Path, link: object) -> None:
    first = lines(tmp_path / "events" / "a.jsonl")
    second = first.with_name("b.jsonl")
    assert callable(link)
    link(first, second)
    said = f"events: '{second}': is the same file as {first}; leave one of the two out"
    assert refusal(tmp_path / "events") == said
    assert refusal(first, second) == said


def test_a_file_given_by_another_spelling_of_its_path_is_not_counted_twice(tmp_path: Path) -> None:
    first = lines(tmp_path / "a.jsonl")
    (tmp_path / "sub").mkdir()
    assert "is the same file as" in refusal(first, tmp_path / "sub" / ".." / "a.jsonl")
    assert "is given twice" in refusal(tmp_path, first)


def test_files_of_a_linked_directory_are_read(tmp_path: Path) -> None:
    lines(tmp_path / "elsewhere" / "b.jsonl")
    lines(tmp_path / "events" / "a.jsonl")
    (tmp_path / "events" / "more").symlink_to(tmp_path / "elsewhere")
    found = [file.name for file in files_of([tmp_path / "events"])]
    assert found == ["a.jsonl", "b.jsonl"]


def test_a_link_to_the_directory_itself_is_one_line(tmp_path: Path) -> None:
    lines(tmp_path / "events" / "a.jsonl")
    (tmp_path / "events" / "again").symlink_to(tmp_path / "events")
    assert "is a link to a directory that is read anyway" in refusal(tmp_path / "events")


def test_a_link_to_nothing_is_not_passed_over(tmp_path: Path) -> None:
    lines(tmp_path / "events" / "a.jsonl")
    (tmp_path / "events" / "b.jsonl").symlink_to("nowhere")
    assert "b.jsonl': is a link to nowhere, which can't be opened" in refusal(tmp_path / "events")


def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    lines(tmp_path / "events" / "a.jsonl")
    os.mkfifo(tmp_path / "events" / "b.jsonl")
    assert "is a pipe, a socket or a device" in refusal(tmp_path / "events" / "b.jsonl")
    assert "is a pipe, a socket or a device" in refusal(tmp_path / "events")
    assert "is a pipe, a socket or a device" in refusal(Path("/dev/zero"))


def test_a_directory_that_can_not_be_read_is_not_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines(tmp_path / "events" / "a.jsonl")
    lines(tmp_path / "events" / "closed" / "b.jsonl")
    scandir = os.scandir

    # The tests may run as root, who may read everything.
    def closed(path: str) -> object:
        if str(path).endswith("closed"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", closed)
    assert "closed': can't be opened (Permission denied)" in refusal(tmp_path / "events")


def test_hidden_and_temporary_names_are_left_out(tmp_path: Path) -> None:
    lines(tmp_path / "events" / "a.jsonl")
    for name in ("_SUCCESS", ".a.jsonl.crc", "._a.jsonl", "_temporary/0/b.jsonl", ".git/c"):
        lines(tmp_path / "events" / name)
    assert [file.name for file in files_of([tmp_path / "events"])] == ["a.jsonl"]


def test_an_empty_file_of_lines_has_no_events_and_any_other_empty_file_is_named(
    tmp_path: Path,
) -> None:
    (tmp_path / "a.jsonl").touch()
    assert len(files_of([tmp_path / "a.jsonl"])) == 1
    for name in ("a.parquet", "a.avro", "a.json", "a.jsonl.gz"):
        (tmp_path / name).touch()
        assert refusal(tmp_path / name).endswith("is empty; write it again or leave it out")


def test_a_compressed_file_whose_first_bytes_are_corrupt_is_called_corrupt(tmp_path: Path) -> None:
    whole = gzip.compress(json.dumps(LINE).encode())
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(whole[:-8])
    assert "corrupt or cut short after 0 records" in refusal(path)
    path.write_bytes(gzip.compress(whole))
    assert refusal(path).endswith("is compressed twice; decompress it once")


def test_a_zstandard_window_of_gigabytes_is_refused_with_its_remedy(tmp_path: Path) -> None:
    # A frame without content size: magic bytes, and a window descriptor for 2 GiB.
    frame = b"\x28\xb5\x2f\xfd" + bytes([0, 21 << 3]) + bytes([1, 0, 0])
    (tmp_path / "a.jsonl.zst").write_bytes(frame)
    said = "its Zstandard window is larger than 128 MB; compress it again without --long"
    assert refusal(tmp_path / "a.jsonl.zst").endswith(said)


def test_a_column_that_only_the_name_of_a_directory_holds_is_refused(tmp_path: Path) -> None:
    """Spark, Hive and DuckDB leave partition columns out of the files."""
    without = {name: value for name, value in LINE.items() if name != "category_id"}
    schema = {
        "type": "record", "name": "CustomerEvent",
        "fields": [{"name": name, "type": "string"} for name in without],
    }  # fmt: skip
    folder = tmp_path / "category_id=bread"
    folder.mkdir()
    said = "lacks category_id, which only its directory category_id=bread names; write it"
    table = pa.table({name: [value] for name, value in without.items()})
    pq.write_table(table, folder / "a.parquet")
    with (folder / "a.avro").open("wb") as stream:
        fastavro.writer(stream, schema, [without])
    for name in ("a.parquet", "a.avro"):
        with pytest.raises(EventFileError, match=said):
            list(open_events([folder / name], max_record_bytes=1000))
    read = join_batches(
        list(open_events([lines(folder / "a.jsonl", without, LINE)], max_record_bytes=1000))
    )
    assert len(read.events) == 1
    assert [said in refused.detail for refused in read.refused] == [True]


def test_columns_of_every_file_are_looked_at_before_the_first_event_is_given(
    tmp_path: Path,
) -> None:
    """Else `publish` would put the first file into the topic, and again when it is repeated."""
    lines(tmp_path / "a.jsonl")
    unfit = pa.table({name: [value] for name, value in LINE.items()} | {"value": ["n/a"]})
    pq.write_table(unfit, tmp_path / "b.parquet")
    with pytest.raises(EventFileError, match=r"b\.parquet': value is string; give numbers"):
        open_events([tmp_path], max_record_bytes=1000)
    (tmp_path / "b.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(EventFileError, match=r"b\.parquet': not readable as Parquet"):
        open_events([tmp_path], max_record_bytes=1000)
    (tmp_path / "b.parquet").write_bytes(b"Obj\1 and no more")
    with pytest.raises(EventFileError, match="not a readable Avro container"):
        open_events([tmp_path], max_record_bytes=1000)


def test_directories_that_name_other_things_are_read(tmp_path: Path) -> None:
    path = lines(tmp_path / "day=2026-01-01" / "event_type=purchase" / "a.jsonl")
    read = join_batches(list(open_events([path], max_record_bytes=1000)))
    assert len(read.events) == 1
    assert not read.refused
