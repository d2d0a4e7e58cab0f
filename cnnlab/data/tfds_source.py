"""Data sets of TensorFlow Datasets, read by index from array_record files, without TensorFlow."""

import dataclasses
import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int

from cnnlab.data.pictures import CorruptPicture, decode_picture
from cnnlab.data.source import MEMORY_LIMIT, ArraySource, Source
from cnnlab.errors import UserError

BLOCK = 2000  # records read at a time


def data_dir() -> Path:
    """Where data sets lie: the environment's TFDS_DATA_DIR (which launch.py's --data_dir sets), or TFDS's own place."""
    return Path(os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets").expanduser()


def version_folder(name: str) -> Path | None:
    """Where a data set stands: of its versions, the newest one with array_record files, else the newest; or None."""
    found = sorted((data_dir() / name).glob("**/dataset_info.json"), key=lambda path: path.stat().st_mtime)
    folders = [path.parent for path in found]
    # `max` keeps the first of equals: newest first.
    return max(reversed(folders), key=lambda folder: "array_record" in formats(folder), default=None)


def formats(folder: Path) -> list[str]:
    """The file formats that one version of a data set stands in, as its dataset_info.json says."""
    try:
        info = json.loads((folder / "dataset_info.json").read_text())
    except (OSError, ValueError) as error:
        raise UserError(f"{folder / 'dataset_info.json'} is damaged: delete {folder} and prepare it again") from error
    return [info.get("fileFormat", "tfrecord"), *info.get("alternativeFileFormats", [])]


def open_split(name: str, split: str, experiment: str, within: str = "") -> tuple[Any, tuple[str, ...]]:
    """The raw records of a split, by index, and the class names.

    Args:
      name: of the data set, "mnist" or "voc/2007", say.
      split: in TFDS's words: "train", "test[:1000]", "train+validation" …
      experiment: whose `--mode=prepare` prepares the data set; named where it is missing.
      within: the feature that has the labels, "objects" in sets for detectors; empty: the record itself has one.

    Raises:
      UserError: the data set is not prepared, stands as tfrecord only, or has no such split.
    """
    import tensorflow_datasets as tfds  # late: half a second that only runs on TFDS data need

    how = f"prepare it with: python launch.py --experiment={experiment} --mode=prepare --data_dir={data_dir()}"
    folder = version_folder(name)
    if folder is None:
        raise UserError(f"the data set {name} is not in {data_dir()}; {how}")
    if "array_record" not in formats(folder):
        raise UserError(f"{folder} stands as {', '.join(formats(folder))}, which has no random access; {how}")
    builder = tfds.builder_from_directory(folder)
    try:
        records = builder.as_data_source(split=split, decoders={"image": tfds.decode.SkipDecoding()})
        records.__getitems__([0, len(records) - 1] if len(records) else [])  # the files are opened no sooner
    except (ValueError, KeyError) as error:
        known = ", ".join(builder.info.splits)
        raise UserError(f"the data set {name} has no split {split!r}; it has {known}") from error
    except (OSError, RuntimeError) as error:
        raise UserError(f"the data set in {folder} cannot be read: {error}; {how}") from error
    features = builder.info.features[within] if within else builder.info.features
    return records, tuple(features["label"].names)


@dataclasses.dataclass(frozen=True)
class RecordSource:
    """Labelled pictures decoded when they are asked for; undecodable ones are masked out."""

    records: Any
    shape: tuple[int, ...]
    class_names: tuple[str, ...]
    crop: bool = False

    def __len__(self) -> int:
        return len(self.records)

    def batch(self, indices: Int[np.ndarray, " n"]) -> dict[str, np.ndarray]:
        found = self.records.__getitems__([int(i) for i in indices])
        image, mask = np.zeros((len(found), *self.shape), np.uint8), np.ones(len(found), np.float32)
        for i, record in enumerate(found):
            try:
                image[i] = decode_picture(record["image"], self.shape, crop=self.crop)
            except CorruptPicture:
                mask[i] = 0
        label = np.array([record["label"] for record in found], np.int32)
        return {"image": image, "label": label, **({} if mask.all() else {"mask": mask})}


def tfds_source(
    name: str, split: str, shape: tuple[int, ...], experiment: str, crop: bool = False, workers: int = 2
) -> Source:
    """The labelled pictures of a TFDS split: in memory if they fit, else decoded batch by batch.

    Args:
      name: of the data set, for example "mnist".
      split: for example "train" or "test[:1000]".
      shape: (height, width, channels) that pictures are resized to, or three squares of each; see `read_picture`.
      experiment: whose `--mode=prepare` prepares the data set; named where it is missing.
      crop: keep the pictures' proportions; see `read_picture`.
      workers: threads that decode.

    Raises:
      UserError: see `open_split`; or none of the pictures can be decoded.
    """
    records, class_names = open_split(name, split, experiment)
    lazy = RecordSource(records, shape, class_names, crop)
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
