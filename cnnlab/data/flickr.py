"""Flickr8k's and Flickr30k's files of sentences, in their own form and in that of their re-releases.

Their own has lines `name.jpg#0<TAB>sentence`, the re-releases' are tables with the header `image,caption`, or
`image_name| comment_number| comment`. Where lists of pictures to train and to test on lie beside it, as Flickr8k's
Flickr_8k.trainImages.txt and Flickr_8k.testImages.txt, they are followed; else a share is held out by a hash of each
picture's name.

A sentence of a missing picture is refused; pictures without sentences are told and left out.
"""

import collections
import csv
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from cnnlab.data.annotations import Findings
from cnnlab.data.described import Described, columns, say_bare, tell_bare
from cnnlab.data.folders import check_share, held_out
from cnnlab.data.text import read_text
from cnnlab.errors import UserError

# The files by their names; those of lemmas, beside Flickr8k's, are no sentences.
SENTENCES = ("*.token.txt", "*.token", "captions.txt", "captions.csv", "results.csv")
LISTS = (("*trainImages.txt", "*testImages.txt"), ("train.txt", "test.txt"))
LINE = re.compile(r"(.+)#\d+\t(.*)")
COLUMNS = (("image", "image_name", "filename"), ("caption", "comment", "sentence"))


def sentence_file(folder: Path) -> Path | None:
    """The file of sentences of a folder as Flickr8k's or Flickr30k's, in it or in one of its folders; None: none.

    Raises:
      UserError: there are several.
    """
    for pattern in SENTENCES:
        found = [file for file in _within(folder, pattern) if "lemma" not in file.name]
        if len(found) > 1:
            raise UserError(f"{folder} has several files of sentences, {found[0]} and {found[1]}: leave one there")
        if found:
            return found[0]
    return None


def _within(folder: Path, pattern: str) -> list[Path]:
    return [*sorted(folder.glob(pattern)), *sorted(folder.glob(f"*/{pattern}"))]


def read(folder: Path, test_share: float, findings: Findings) -> tuple[list[Described], list[Described]]:
    """The pictures of a folder to train and to test on, with their sentences; see the top of this file.

    Args:
      folder: with a file of sentences and the pictures, each in it or in a folder of it.
      test_share: of the pictures that are held out where there are no lists.
      findings: tells which pictures have no sentences, and how many are on no list.

    Raises:
      UserError: a line that is none, a picture that is not there, a picture on both lists, one list only; a share that
        is none, or that holds out all or nothing.
    """
    path = sentence_file(folder)
    if path is None:
        raise UserError(f"{folder} has no file of sentences: it should hold one of {', '.join(SENTENCES)}")
    sentences: dict[str, list[tuple[str, str]]] = collections.defaultdict(list)
    for line, name, sentence in sentence_lines(path):
        sentences[name].append((sentence, f"{path}:{line}"))
    if not sentences:
        raise UserError(f"{path} has no sentences")
    place, lists = picture_place(folder, path, sentences), split_lists(folder)
    if lists is None:
        check_share(test_share)
        sides = [[n for n in sentences if held_out(Path(n), test_share) is side] for side in (False, True)]
        if not all(sides):
            raise UserError(
                f"{path} has {len(sentences)} pictures, too few to hold out {test_share:.0%} for testing: add some"
            )
    else:
        sides = [_listed(file, sentences, findings) for file in lists]
        both = sorted(set(sides[0]) & set(sides[1]))
        if both:
            raise UserError(f"{both[0]} is in {lists[0]} and in {lists[1]}: test pictures must not be trained on")
        unused = len(sentences) - len(set(sides[0] + sides[1]))
        if unused:
            findings.say(
                str(path), f"{unused} pictures are in neither {' nor '.join(f.name for f in lists)}", "pictures"
            )
    numbers = {name: i for i, name in enumerate(sentences)}
    made = [[_described(place / name, sentences[name], numbers[name]) for name in names] for names in sides]
    tell_bare(path, {one.picture for side in made for one in side}, set(sentences), findings)
    return made[0], made[1]


def _described(picture: Path, sentences: list[tuple[str, str]], number: int) -> Described:
    texts, places = columns(sentences)
    if not picture.is_file():
        raise UserError(f"{places[0]}: there is no picture {picture}: put it there, or take its sentences out")
    return Described(picture, texts, places, number)


def split_lists(folder: Path) -> tuple[Path, Path] | None:
    """The lists of pictures to train and to test on; None: there are none.

    Raises:
      UserError: there is one of them only, or several.
    """
    for patterns in LISTS:
        found = [_within(folder, pattern) for pattern in patterns]
        if any(found):
            if [len(files) for files in found] != [1, 1]:
                names = ", ".join(str(file) for files in found for file in files)
                raise UserError(f"{folder} should hold one list {patterns[0]} and one {patterns[1]}; it has {names}")
            return found[0][0], found[1][0]
    return None


def _listed(path: Path, sentences: Mapping[str, Any], findings: Findings) -> list[str]:
    """The pictures on a list, by name, with or without suffix; those without sentences are told."""
    stems = {Path(name).stem: name for name in sentences}
    names: dict[str, None] = {}
    for number, line in enumerate(read_text(path).split("\n"), 1):
        name = line.strip()
        if not name:
            continue
        known = name if name in sentences else stems.get(name)
        if known is None:
            say_bare(f"{path}:{number}", name, findings)
        else:
            names[known] = None
    if not names:
        raise UserError(f"{path} names no picture that has sentences")
    return list(names)


def picture_place(folder: Path, path: Path, names: Iterable[str]) -> Path:
    """Where the pictures lie: the folder, or one within it or within those, that has most of some first names.

    Raises:
      UserError: there are none.
    """
    some = [name for name, _ in zip(names, range(100), strict=False)]
    places = [folder, *(entry for depth in ("*", "*/*") for entry in sorted(folder.glob(depth)) if entry.is_dir())]
    counts = {place: sum((place / name).is_file() for name in some) for place in places}
    best = max(places, key=counts.__getitem__)
    if not counts[best]:
        raise UserError(f"{path} has the picture {some[0]}, and it is in no folder of {folder}")
    return best


def sentence_lines(path: Path) -> Iterator[tuple[int, str, str]]:
    """Of each sentence of a file its line, its picture's name and itself.

    Raises:
      UserError: a line is not as it should be; the file is no UTF-8.
    """
    lines = read_text(path).split("\n")
    first = next((line.rstrip("\r") for line in lines if line.strip()), "")
    if LINE.fullmatch(first):
        return _token_lines(path, lines)
    return _table_lines(path, lines, "|" if first.count("|") else ",")


def _token_lines(path: Path, lines: list[str]) -> Iterator[tuple[int, str, str]]:
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        match = LINE.fullmatch(line.rstrip("\r"))
        if match is None:
            raise UserError(f'{path}:{number}: "{_short(line)}" is not name.jpg#0, a tab and a sentence')
        yield number, match[1].strip(), match[2].strip()


def _table_lines(path: Path, lines: list[str], separator: str) -> Iterator[tuple[int, str, str]]:
    quoting = csv.QUOTE_MINIMAL if separator == "," else csv.QUOTE_NONE
    whole = (f"{line}\n" for line in lines)
    rows, started = csv.reader(whole, delimiter=separator, quoting=quoting, strict=True), 1
    at: list[int] = []
    try:
        for row in rows:
            start, started = started, rows.line_num + 1
            cells = [cell.strip() for cell in row]
            if not any(cells):
                continue
            if not at:
                at = [_column(path, start, cells, names) for names in COLUMNS]
                width = len(cells)
                continue
            if len(cells) == width - 1 and separator == "|":  # Flickr30k's re-release lacks a | before one sentence
                cells = [*cells[:-1], *re.sub(r"^(\d+)\s+", r"\1|", cells[-1]).split("|", 1)]
            if len(cells) < width or (len(cells) > width and at[1] != width - 1):
                raise UserError(
                    f'{path}:{start}: "{_short(separator.join(row))}" has not the {width} columns of line 1'
                )
            # Commas that nobody quoted are the sentence's.
            sentence = separator.join(row[at[1] :]).strip() if at[1] == width - 1 and len(row) > width else cells[at[1]]
            yield start, cells[at[0]], sentence
    except csv.Error as error:
        raise UserError(
            f'{path}:{started}: the table is broken: a quote (") that opens here is not closed at the end of a column'
        ) from error


def _column(path: Path, line: int, header: list[str], names: tuple[str, ...]) -> int:
    found = [i for i, cell in enumerate(header) if cell.lower() in names]
    if not found:
        raise UserError(
            f'{path}:{line}: "{_short(",".join(header))}" is neither name.jpg#0, a tab and a sentence, nor a header '
            f"with a column {' or '.join(names)}"
        )
    return found[0]


def _short(line: str) -> str:
    return " ".join(line.split())[:40]
