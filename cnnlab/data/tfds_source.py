"""Data sets of TensorFlow Datasets, read by index from array_record files, without TensorFlow."""

import dataclasses
import importlib.util
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int

from cnnlab.data.pictures import CorruptPicture, decode_picture
from cnnlab.data.source import ArraySource, Source
from cnnlab.errors import UserError

MEMORY_LIMIT = 1 << 30  # bytes of decoded pictures that are kept in memory; larger sets are decoded batch by batch
BLOCK = 2000  # records read at a time


def data_dir() -> Path:
    """Where data sets lie: the environment's TFDS_DATA_DIR (which launch.py's --data_dir sets), or TFDS's own place."""
    return Path(os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets").expanduser()


def open_split(name: str, split: str, experiment: str) -> tuple[Any, tuple[str, ...]]:
    """The raw records of a split ("train", "test", "train[:1000]" …) and the class names; see `tfds_source`.

    Raises:
      UserError: the data set is not prepared, stands as tfrecord only, or has no such split.
    """
    import tensorflow_datasets as tfds  # late: half a second that only runs on TFDS data need

    how = f"prepare it with: python launch.py --experiment={experiment} --mode=prepare --data_dir={data_dir()}"
    versions = sorted((data_dir() / name).glob("**/dataset_info.json"), key=lambda path: path.stat().st_mtime)
    if not versions:
        raise UserError(f"the data set {name} is not in {data_dir()}; {how}")
    builder = tfds.builder_from_directory(versions[-1].parent)
    if builder.info.file_format is not tfds.core.FileFormat.ARRAY_RECORD:
        stands = builder.info.file_format.value
        raise UserError(f"{versions[-1].parent} stands as {stands}, which has no random access; {how}")
    try:
        records = builder.as_data_source(split=split, decoders={"image": tfds.decode.SkipDecoding()})
        records.__getitems__([0, len(records) - 1] if len(records) else [])  # the files are opened no sooner
    except (ValueError, KeyError) as error:
        known = ", ".join(builder.info.splits)
        raise UserError(f"the data set {name} has no split {split!r}; it has {known}") from error
    except (OSError, RuntimeError) as error:
        raise UserError(f"the data set in {versions[-1].parent} cannot be read: {error}; {how}") from error
    return records, tuple(builder.info.features["label"].names)


@dataclasses.dataclass(frozen=True)
class RecordSource:
    """Labelled pictures decoded when they are asked for; undecodable ones are masked out."""

    records: Any
    shape: tuple[int, int, int]
    class_names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.records)

    def batch(self, indices: Int[np.ndarray, " n"]) -> dict[str, np.ndarray]:
        found = self.records.__getitems__([int(i) for i in indices])
        image, mask = np.zeros((len(found), *self.shape), np.uint8), np.ones(len(found), np.float32)
        for i, record in enumerate(found):
            try:
                image[i] = decode_picture(record["image"], self.shape)
            except CorruptPicture:
                mask[i] = 0
        label = np.array([record["label"] for record in found], np.int32)
        return {"image": image, "label": label, **({} if mask.all() else {"mask": mask})}


def tfds_source(name: str, split: str, shape: tuple[int, int, int], experiment: str, workers: int = 2) -> Source:
    """The labelled pictures of a TFDS split: in memory if they fit, else decoded batch by batch.

    Args:
      name: of the data set, for example "mnist".
      split: for example "train" or "test[:1000]".
      shape: (height, width, channels) that pictures are resized to.
      experiment: whose `--mode=prepare` prepares the data set; named where it is missing.
      workers: threads that decode.

    Raises:
      UserError: see `open_split`; or none of the pictures can be decoded.
    """
    records, class_names = open_split(name, split, experiment)
    lazy = RecordSource(records, shape, class_names)
    if len(records) * int(np.prod(shape)) > MEMORY_LIMIT:
        return lazy
    blocks = np.array_split(np.arange(len(records)), max(1, len(records) // BLOCK))
    with ThreadPoolExecutor(workers) as pool:
        parts = list(pool.map(lazy.batch, blocks))
    whole = [part.pop("mask", np.ones(len(part["label"]))) > 0 for part in parts]
    arrays = {k: np.concatenate([p[k][good] for p, good in zip(parts, whole, strict=True)]) for k in parts[0]}
    if not len(arrays["label"]):
        raise UserError(f"none of the {len(records)} pictures of {name} {split} can be decoded")
    return ArraySource(arrays, class_names)


def prepare(name: str) -> None:
    """Downloads a data set and writes it as array_record. Needs TensorFlow, this once.

    Raises:
      UserError: TensorFlow is missing, the name is unknown, or the download failed.
    """
    if importlib.util.find_spec("tensorflow") is None:
        raise UserError(f"building {name} for the first time needs TensorFlow: pip install -e '.[prepare]'")
    import tensorflow_datasets as tfds

    try:
        tfds.builder(name, data_dir=data_dir(), file_format="array_record").download_and_prepare()
    except Exception as error:  # downloads fail in as many ways as there are hosts
        reason = " ".join(str(error).split())[:300]
        raise UserError(f"{name} could not be prepared in {data_dir()}: {reason}") from error
    print(f"{name} is prepared in {data_dir()}")
