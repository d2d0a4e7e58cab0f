"""Pictures and the sentences about them as files have them, before the checks of the words."""

import dataclasses
from collections.abc import Iterable
from pathlib import Path

from cnnlab.data.annotations import Findings
from cnnlab.data.pictures import SUFFIXES


@dataclasses.dataclass(frozen=True, eq=False)
class Described:
    """A picture and the sentences about it, as a file has them.

    Attributes:
      picture: its file, or the file's bytes.
      sentences: unchecked.
      places: where each stands, for messages.
      number: the data set's own of this picture.
    """

    picture: Path | bytes
    sentences: tuple[str, ...]
    places: tuple[str, ...]
    number: int = 0


def columns(sentences: Iterable[tuple[str, str]]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """`sentences` and `places` of pairs of both."""
    texts, places = zip(*sentences, strict=True)
    return texts, places


def say_bare(place: str, name: str, findings: Findings) -> None:
    """Tells a picture that has no sentence."""
    findings.say(place, f"{name} has no sentence and is left out", "pictures have no sentence and are left out")


def tell_bare(path: Path, pictures: set[Path], known: set[str], findings: Findings) -> None:
    """Says which pictures beside those of a file are not in it."""
    for folder in sorted({picture.parent for picture in pictures}):
        for picture in sorted(folder.iterdir()):
            if picture.suffix.lower() in SUFFIXES and picture.name not in known:
                say_bare(str(path), str(picture), findings)
