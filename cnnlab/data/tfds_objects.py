"""TFDS's `voc` and `coco`: the records of a split as annotations, without TensorFlow."""

import dataclasses
import io
from typing import Any

import numpy as np

from cnnlab.data.annotations import Annotation, Findings, Mark, checked, picture_size
from cnnlab.data.pictures import CorruptPicture


@dataclasses.dataclass(frozen=True)
class Records:
    """Annotations by index, made of TFDS's records when they are asked for.

    Attributes:
      records: random access; of each "image" is the file's bytes, and "objects" has "bbox" (ymin xmin ymax xmax as
        shares of the picture), "label", and "is_difficult" or "is_crowd".
      name: of the data set, for messages.
      one_based: boxes are VOC's, which count pixels from 1; see `voc.py`. TFDS leaves them as they are.
    """

    records: Any
    name: str
    one_based: bool
    _findings: Findings = dataclasses.field(default_factory=Findings, repr=False, compare=False)

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> Annotation:
        """The annotation of a picture.

        Raises:
          CorruptPicture: not even the picture's size can be read.
        """
        record = self.records[index]
        size = picture_size(io.BytesIO(record["image"]))
        if size is None:
            raise CorruptPicture(f"picture {index} of {self.name} is not a whole picture")
        height, width = size
        things, place = record["objects"], f"{self.name}, picture {index}"
        ignored = things["is_difficult"] if "is_difficult" in things else things["is_crowd"]
        marks = []
        for i, (top, left, bottom, right) in enumerate(np.reshape(things["bbox"], (-1, 4)).astype(float)):
            x0, y0, x1, y1 = left * width, top * height, right * width, bottom * height
            if self.one_based and x1 > x0 and y1 > y0:
                x0, y0 = x0 - 1, y0 - 1
            area = float(things["area"][i]) if "area" in things else None
            marks.append(Mark((x0, y0, x1, y1), int(things["label"][i]), bool(ignored[i]), place, area))
        return checked(record["image"], height, width, marks, self._findings, int(record.get("image/id", index)))
