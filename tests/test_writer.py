"""What a run writes: rows once each, whole files, TensorBoard events."""

import json
import os

import pytest
from matplotlib.figure import Figure
from PIL import Image

from cnnlab.writer import Writer, read_rows, save_figures, write_whole


def test_rows_come_back_and_later_ones_are_dropped_on_resuming(tmp_path):
    writer = Writer(tmp_path, 0)
    for step in (10, 20, 30):
        writer.write(step, "train", {"loss": step / 7}, {"images_per_second": 1.0})
    writer.close()
    writer = Writer(tmp_path, 20)
    assert writer.has(20, "train")
    assert not writer.has(30, "train")
    assert not writer.has(20, "test")
    writer.write(30, "train", {"loss": 30 / 7}, {})
    writer.close()
    rows = read_rows(tmp_path / "metrics.jsonl")
    assert rows == [{"step": s, "split": "train", "loss": s / 7} for s in (10, 20, 30)]


def test_a_line_cut_short_is_dropped(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "split": "train", "loss": 2.0}\n{"step": 2, "spl')
    writer = Writer(tmp_path, 5)
    writer.write(2, "train", {"loss": 1.0}, {})
    writer.close()
    assert [row["step"] for row in read_rows(tmp_path / "metrics.jsonl")] == [1, 2]


def test_a_row_is_on_the_disk_at_once(tmp_path):
    writer = Writer(tmp_path, 0)
    writer.write(1, "test", {"error": 0.5}, {})
    assert json.loads((tmp_path / "metrics.jsonl").read_text()) == {"step": 1, "split": "test", "error": 0.5}
    writer.close()


def test_tensorboard_gets_metrics_and_rates_and_the_restart(tmp_path):
    from tensorboardX.proto.event_pb2 import Event

    writer = Writer(tmp_path, 4)
    writer.write(5, "train", {"loss": 2.0}, {"images_per_second": 3.0})
    writer.close()
    (file,) = (tmp_path / "tensorboard").iterdir()
    data, events = file.read_bytes(), []
    while data:  # records: length (8 bytes), checksum (4), content, checksum (4)
        length = int.from_bytes(data[:8], "little")
        events.append(Event.FromString(data[12 : 12 + length]))
        data = data[16 + length :]
    values = {value.tag: value.simple_value for event in events for value in event.summary.value}
    assert values == {"train/loss": 2.0, "train/images_per_second": 3.0}
    assert [event.step for event in events if event.HasField("session_log")] == [5]


def test_write_whole_replaces_and_leaves_nothing_behind(tmp_path):
    write_whole(tmp_path / "a", b"one")
    write_whole(tmp_path / "a", b"two")
    assert (tmp_path / "a").read_bytes() == b"two"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_write_whole_keeps_the_old_file_when_it_fails(tmp_path, monkeypatch):
    write_whole(tmp_path / "a", b"one")

    def fail(handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="No space"):
        write_whole(tmp_path / "a", b"two")
    assert (tmp_path / "a").read_bytes() == b"one"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_figures_are_png(tmp_path):
    save_figures(tmp_path / "figures", {"empty": Figure(figsize=(2, 1))})
    with Image.open(tmp_path / "figures" / "empty.png") as image:
        assert image.size == (220, 110)
