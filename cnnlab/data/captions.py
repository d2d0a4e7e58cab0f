"""Pictures with sentences: photographs as files and records have them, and drawn shapes.

A batch has, besides what `pipeline.py` adds (n pictures of size×size, s sentences each, L tokens at most):
  image     uint8 (n, size, size, 3), the picture stretched to a square: nothing that a sentence names is cut off;
  size      int32 (n, 2), `size` twice;
  original  int32 (n, 2), height and width of the picture as it is stored;
  tokens    int32 (n, s, L), START, the words, END, and PAD; see `text.Vocabulary.encode`;
  length    int32 (n, s), of each sentence with START and END; 0: the picture has no such sentence, its tokens are PAD;
and where boxes are asked for
  boxes, label, ignored, area: as in `detection.py`, in pixels of the square;
and of drawings, where they are asked for
  kinds     uint8 (n, p, p, k), how many things of each kind there are at each of p×p places; see `shapes.py`.
"""

import dataclasses
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int, UInt8

from cnnlab.data.annotations import Annotation, Findings, check_count, picture_size
from cnnlab.data.described import Described
from cnnlab.data.detection import padded
from cnnlab.data.pictures import CorruptPicture, LeftOut, decode_picture, read_picture
from cnnlab.data.sentences import EACH, LONGEST, generator, written
from cnnlab.data.shapes import CLASS_NAMES, Scene, annotation_of, draw, kinds_at_places
from cnnlab.data.text import Vocabulary, checked_words, words_of
from cnnlab.data.tfds_objects import Records
from cnnlab.errors import UserError


@dataclasses.dataclass(frozen=True, eq=False)
class Captioned:
    """A picture, its sentences, and their words.

    Attributes:
      picture: its file, or the file's bytes.
      sentences: all that have words, as they are stored.
      words: of each sentence.
      number: the data set's own of this picture.
      annotation: the objects in it, where they are asked for.
    """

    picture: Path | bytes
    sentences: tuple[str, ...]
    words: tuple[tuple[str, ...], ...]
    number: int = 0
    annotation: Annotation | None = None


def checked(one: Described, most: int, cut: bool, findings: Findings, annotation: Annotation | None) -> Captioned:
    """A picture with the words of its sentences; empty ones are told and left out.

    Args:
      one: the picture.
      most, cut, findings: see `text.checked_words`.
      annotation: of the picture.

    Raises:
      UserError: a sentence is too long.
    """
    pairs = [
        (" ".join(sentence.split()), words)
        for sentence, place in zip(one.sentences, one.places, strict=True)
        if (words := checked_words(sentence, place, most, cut, findings))
    ]
    if len(pairs) > EACH:
        what = f"the picture has {len(pairs)} sentences; batches have the first {EACH}"
        findings.say(one.places[0], what, f"pictures have more than {EACH} sentences; batches have the first {EACH}")
    sentences, words = zip(*pairs, strict=True) if pairs else ((), ())
    return Captioned(one.picture, sentences, words, one.number, annotation)


def tokens_of(
    words: Sequence[Sequence[Sequence[str]]], vocabulary: Vocabulary, most: int, each: int = EACH
) -> dict[str, np.ndarray]:
    """ "tokens" and "length" of a batch.

    Args:
      words: of each sentence of each picture; of a picture the first `each` count.
      vocabulary: that numbers them.
      most: words a sentence; L is 2 more.
      each: sentences a picture.

    Raises:
      UserError: a sentence is longer.
    """
    tokens = np.zeros((len(words), each, most + 2), np.int32)
    length = np.zeros((len(words), each), np.int32)
    for i, own in enumerate(words):
        for k, sentence in enumerate(own[:each]):
            tokens[i, k], length[i, k] = vocabulary.encode(sentence, most + 2), len(sentence) + 2
    return {"tokens": tokens, "length": length}


@dataclasses.dataclass(frozen=True)
class CaptionRecords:
    """Captioned pictures by index, made of the records of TFDS's coco_captions when they are asked for.

    Attributes:
      records: random access; of each "image" is the file's bytes, "captions" has "text" and "id", and for boxes
        "objects" is as in `tfds_objects.Records`.
      name: of the data set, for messages.
      most, cut: see `text.checked_words`.
      boxes: whether the objects are wanted.
    """

    records: Any
    name: str
    most: int
    cut: bool = False
    boxes: bool = False
    _findings: Findings = dataclasses.field(default_factory=Findings, repr=False, compare=False)

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> Captioned:
        """A picture with its sentences, none where all are empty.

        Raises:
          UserError: a sentence is too long or no UTF-8.
          CorruptPicture: objects are asked for, and not even the picture's size can be read.
        """
        record = self.records[index]
        place = f"{self.name}, picture {index}"
        texts = [_text(text, f"{place}, sentence {k}") for k, text in enumerate(record["captions"]["text"], 1)]
        places = tuple(f"{place}, sentence {k}" for k in range(1, len(texts) + 1))
        annotation = Records({index: record}, self.name, False, self._findings)[index] if self.boxes else None
        described = Described(record["image"], tuple(texts), places, int(record.get("image/id", index)))
        return checked(described, self.most, self.cut, self._findings, annotation)


def _text(text: bytes | str, place: str) -> str:
    try:
        return text.decode() if isinstance(text, bytes) else str(text)
    except UnicodeDecodeError as error:
        raise UserError(f"{place}: the byte 0x{text[error.start]:02x} is no UTF-8: prepare the set again") from error


@dataclasses.dataclass(frozen=True)
class CaptionSource:
    """Captioned pictures, decoded and stretched when they are asked for.

    Those that cannot be read or have no sentence are named once and masked out.

    Attributes:
      pictures: by index.
      vocabulary: of the tokens.
      size: height and width, in pixels.
      words: a sentence at most; L is 2 more.
      class_names: of the boxes, in the order of the labels; () where there are none.
      objects: a picture, which boxes are padded to; 0: batches have no boxes.
    """

    pictures: Sequence[Captioned] | CaptionRecords
    vocabulary: Vocabulary
    size: int
    words: int
    class_names: tuple[str, ...] = ()
    objects: int = 0
    _left_out: LeftOut = dataclasses.field(default_factory=LeftOut, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.size < 1:
            raise UserError(f"pictures are stretched to {self.size}×{self.size}: it must be 1 or more")

    def __len__(self) -> int:
        return len(self.pictures)

    def batch(self, indices: Int[np.ndarray, " n"]) -> dict[str, np.ndarray]:
        """The pictures at `indices` with their sentences; see the top of this file."""
        found = [self._captioned(i) for i in indices.tolist()]
        read = [self._read(i, one) for i, one in zip(indices.tolist(), found, strict=True)]
        batch = {
            "image": np.stack([picture for picture, _ in read]),
            "size": np.full((len(found), 2), self.size, np.int32),
            "original": np.array([original or (1, 1) for _, original in read], np.int32),
        }
        batch |= tokens_of([one.words for one in found], self.vocabulary, self.words)
        if self.objects:
            annotations = [one.annotation or nothing() for one in found]
            check_count(annotations, self.objects, "config.objects")
            batch |= padded(annotations, batch["size"], self.objects)
        good = [original is not None and bool(one.words) for one, (_, original) in zip(found, read, strict=True)]
        if not all(good):
            batch["mask"] = np.array(good, np.float32)
        return batch

    def sentences(self, index: int) -> tuple[str, ...]:
        """All sentences of a picture as they are stored, also those over five: the references of scores."""
        return self._captioned(index).sentences

    def number(self, index: int) -> int:
        """The data set's own number of a picture."""
        return self._captioned(index).number

    def picture(self, index: int) -> UInt8[np.ndarray, "h w 3"]:
        """A picture as it is stored, for figures; black where it cannot be read."""
        one = self._captioned(index)
        size = _stored_size(one.picture) or (1, 1)
        try:
            return _decoded(one.picture, size)
        except CorruptPicture as error:
            self._say(index, one, error)
            return np.zeros((*size, 3), np.uint8)

    def _captioned(self, index: int) -> Captioned:
        try:
            return self.pictures[index]
        except CorruptPicture as error:
            self._left_out.say(str(error))
            return Captioned(b"", (), ())

    def _read(self, index: int, one: Captioned) -> tuple[np.ndarray, tuple[int, int] | None]:
        """The square and the height and width of what is stored; these are None where it cannot be read."""
        try:
            return _decoded(one.picture, (self.size, self.size)), _stored_size(one.picture)
        except CorruptPicture as error:
            self._say(index, one, error)
            return np.zeros((self.size, self.size, 3), np.uint8), None

    def _say(self, index: int, one: Captioned, error: CorruptPicture) -> None:
        if one.picture:
            self._left_out.say(
                str(error) if isinstance(one.picture, Path) else f"picture {index} is not whole ({error})"
            )


def nothing() -> Annotation:
    """The annotation of a picture that cannot be read."""
    none = np.zeros(0, np.float32)
    return Annotation(b"", 1, 1, none.reshape(0, 4), none.astype(int), none.astype(bool), none)


def _stored_size(picture: Path | bytes) -> tuple[int, int] | None:
    return picture_size(picture if isinstance(picture, Path) else io.BytesIO(picture))


def _decoded(picture: Path | bytes, size: tuple[int, int]) -> UInt8[np.ndarray, "h w 3"]:
    read = read_picture if isinstance(picture, Path) else decode_picture
    return read(picture, (*size, 3))


@dataclasses.dataclass(frozen=True)
class DrawnCaptions:
    """Drawn shapes with the sentences of `sentences.py`, each drawn anew when it is asked for.

    Attributes:
      split: "train" or "test".
      numbers: of the drawings, by index.
      vocabulary: of the tokens.
      size: height and width, in pixels.
      most: shapes a picture, from 1 to 6, which boxes are padded to.
      boxes: whether batches have them.
      places: p of the batches' "kinds"; 0: they have none.
    """

    split: str
    numbers: Int[np.ndarray, " k"]
    vocabulary: Vocabulary
    size: int
    most: int = 6
    boxes: bool = False
    places: int = 0

    @property
    def class_names(self) -> tuple[str, ...]:
        return CLASS_NAMES

    def __len__(self) -> int:
        return len(self.numbers)

    def scene(self, index: int) -> Scene:
        """A drawing with all that is true of it."""
        return draw(self.split, int(self.numbers[index]), self.size, self.most)

    def picture(self, index: int) -> UInt8[np.ndarray, "h w 3"]:
        """A drawing, for figures."""
        return self.scene(index).picture

    def number(self, index: int) -> int:
        """The number of a drawing."""
        return int(self.numbers[index])

    def sentences(self, index: int) -> tuple[str, ...]:
        """The sentences of a drawing."""
        return written(self.scene(index), generator(self.split, self.number(index)))

    def batch(self, indices: Int[np.ndarray, " n"]) -> dict[str, np.ndarray]:
        """The drawings at `indices` with their sentences; see the top of this file."""
        scenes = [self.scene(i) for i in indices.tolist()]
        size = np.full((len(scenes), 2), self.size, np.int32)
        pairs = list(zip(scenes, map(self.number, indices.tolist()), strict=True))
        words = [tuple(map(words_of, written(scene, generator(self.split, number)))) for scene, number in pairs]
        batch = {"image": np.stack([scene.picture for scene in scenes]), "size": size, "original": size.copy()}
        batch |= tokens_of(words, self.vocabulary, LONGEST)
        if self.boxes:
            batch |= padded([annotation_of(scene, number) for scene, number in pairs], size, self.most)
        if self.places:
            batch["kinds"] = np.stack([kinds_at_places(scene, self.places) for scene in scenes])
        return batch
