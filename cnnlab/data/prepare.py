"""Preparing TFDS data sets: the only place that needs TensorFlow, and only for a first download."""

import importlib.util
import json
from collections.abc import Iterator
from pathlib import Path

from cnnlab.data.tfds_source import data_dir, formats, version_folder
from cnnlab.errors import UserError
from cnnlab.writer import write_whole


def prepare(name: str) -> None:
    """Makes a data set readable: downloads and builds it, or adds array_record to one that stands as tfrecord.

    Raises:
      UserError: TensorFlow is missing, the name is unknown, or the download failed.
    """
    folder = version_folder(name)
    if folder is None:
        _download(name)
    elif "array_record" not in formats(folder):
        add_array_record(folder)
    print(f"{name} is prepared in {data_dir()}")


def _download(name: str) -> None:
    if importlib.util.find_spec("tensorflow") is None:
        raise UserError(f"building {name} for the first time needs TensorFlow: pip install -e '.[prepare]'")
    import tensorflow_datasets as tfds

    try:
        tfds.builder(name, data_dir=data_dir(), file_format="array_record").download_and_prepare()
    except Exception as error:  # downloads fail in as many ways as there are hosts
        reason = " ".join(str(error).split())[:300]
        raise UserError(f"{name} could not be prepared in {data_dir()}: {reason}") from error


def add_array_record(folder: Path) -> None:
    """Writes a data set's tfrecord files as array_record beside them, and says so in its dataset_info.json.

    Both formats hold the same serialized examples, so records are copied as they are. What reads the tfrecord files
    goes on doing so.

    Args:
      folder: of one version, with dataset_info.json.

    Raises:
      UserError: there are no tfrecord files, or one is damaged.
    """
    from array_record.python.array_record_module import ArrayRecordWriter

    shards = sorted(folder.glob("*.tfrecord-*"))
    if not shards:
        raise UserError(f"{folder} stands as {', '.join(formats(folder))}, and holds no tfrecord files to convert")
    for shard in shards:
        target = shard.with_name(shard.name.replace(".tfrecord-", ".array_record-"))
        unfinished = target.with_name(f".{target.name}")
        writer = ArrayRecordWriter(str(unfinished), "group_size:1")
        for record in read_tfrecord(shard):
            writer.write(record)
        writer.close()
        unfinished.replace(target)
    path = folder / "dataset_info.json"
    info = json.loads(path.read_text())
    info["alternativeFileFormats"] = [*info.get("alternativeFileFormats", []), "array_record"]
    write_whole(path, (json.dumps(info, indent=2) + "\n").encode())


def read_tfrecord(path: Path) -> Iterator[bytes]:
    """The records of a tfrecord file: each is its length (8 bytes, little-endian), 4 bytes, itself, 4 bytes.

    Raises:
      UserError: the file ends in the midst of a record.
    """
    with path.open("rb") as file:
        while head := file.read(12):
            length = int.from_bytes(head[:8], "little")
            record = file.read(length)
            if len(head) < 12 or len(record) < length or len(file.read(4)) < 4:
                raise UserError(f"{path} ends in the midst of a record: delete {path.parent} and prepare it again")
            yield record
