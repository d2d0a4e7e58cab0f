"""COCO's instances as JSON: boxes, polygons and run lengths of objects in folders of pictures.

A box is x y width height in pixels from the picture's upper left corner, so that its edges are x, y, x + width and
y + height. Classes are the categories in the order of their ids, 0 … K − 1; crowds are `ignored`.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cnnlab.data.annotations import Annotation, Findings, Mark, agreed_size, checked
from cnnlab.data.outlines import check_fits, enclosed, outline_of
from cnnlab.data.pictures import SUFFIXES
from cnnlab.errors import UserError

# The 80 categories of COCO's boxes and masks: their ids, which have gaps, and names, in the order of the ids.
IDS = tuple(sorted({*range(1, 91)} - {12, 26, 29, 30, 45, 66, 68, 69, 71, 83}))
NAMES = tuple(
    """
person, bicycle, car, motorcycle, airplane, bus, train, truck, boat, traffic light, fire hydrant, stop sign,
parking meter, bench, bird, cat, dog, horse, sheep, cow, elephant, bear, zebra, giraffe, backpack, umbrella, handbag,
tie, suitcase, frisbee, skis, snowboard, sports ball, kite, baseball bat, baseball glove, skateboard, surfboard,
tennis racket, bottle, wine glass, cup, fork, knife, spoon, bowl, banana, apple, sandwich, orange, broccoli, carrot,
hot dog, pizza, donut, cake, chair, couch, potted plant, bed, dining table, toilet, tv, laptop, mouse, remote, keyboard,
cell phone, microwave, oven, toaster, sink, refrigerator, book, clock, vase, scissors, teddy bear, hair drier,
toothbrush
""".strip()
    .replace("\n", " ")
    .split(", ")
)
SPLITS = (("train", "test"), ("train", "val"))  # beginnings of the names of what to train and to test on


def is_coco(folder: Path) -> bool:
    """Whether a folder looks like COCO's."""
    return any((folder / "annotations").glob("instances_*.json"))


def files_of(folder: Path, kind: str = "instances") -> tuple[Path, Path]:
    """The files to train and to test on: annotations/KIND_train*.json, and …_test*.json or …_val*.json.

    Raises:
      UserError: they are not there, or there are several of one.
    """
    place = folder / "annotations"
    for pair in SPLITS:
        found = [sorted(place.glob(f"{kind}_{split}*.json")) for split in pair]
        if all(found):
            for files in found:
                if len(files) > 1:
                    raise UserError(f"{place} has {' and '.join(file.name for file in files)}: leave one of them there")
            return found[0][0], found[1][0]
    raise UserError(f"{place} should hold {kind}_train*.json and {kind}_val*.json (or …_test*.json)")


def parse(path: Path) -> dict[str, Any]:
    """The JSON of a file of instances, with "images", "annotations" and "categories".

    Raises:
      UserError: it cannot be read, is broken (the line is named), or is no such file.
    """
    try:
        content = json.loads(path.read_bytes())
    except json.JSONDecodeError as error:
        raise UserError(f"{path}:{error.lineno}: the JSON is broken, at column {error.colno} ({error.msg})") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: byte {error.start} is no UTF-8: it should be COCO's instances as JSON") from error
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror})") from error
    for key in ("images", "annotations", "categories"):
        if not isinstance(content, dict) or not isinstance(content.get(key), list):
            raise UserError(f'{path} has no list "{key}": it should be COCO\'s instances')
    return content


def categories_of(content: Mapping[str, Any], path: Path) -> dict[int, str]:
    """The categories' names by id, in the order of the ids, which is that of the labels.

    Raises:
      UserError: there are none, or an id or a name stands twice.
    """
    found: dict[int, str] = {}
    for number, category in enumerate(content["categories"], 1):
        identity, name = (_field(category, key, path, "category", number) for key in ("id", "name"))
        if identity in found or name in found.values():
            raise UserError(f'{path}: category {number}, id {identity} "{name}", stands there twice')
        found[identity] = name
    if not found:
        raise UserError(f"{path} has no categories")
    return dict(sorted(found.items()))


def picture_folder(path: Path, file_name: str) -> Path:
    """Where the pictures of a file of instances lie: beside its folder, as train2017/, images/train2017/ or images/.

    Args:
      path: FOLDER/annotations/instances_NAME.json.
      file_name: of one picture.

    Raises:
      UserError: it is in none of these.
    """
    folder, name = path.parent.parent, path.stem.partition("_")[2]
    places = [folder / name, folder / "images" / name, folder / "images", folder]
    for place in places:
        if (place / file_name).is_file():
            return place
    for place in places[:3]:
        if place.is_dir():
            return place
    raise UserError(f"{path} has the picture {file_name}, and it is neither in {', nor in '.join(map(str, places))}")


def read(path: Path, class_names: Sequence[str]) -> list[Annotation]:
    """The pictures of a file of instances and what is marked on them.

    What is repaired, left out or empty is told on stderr.

    Raises:
      UserError: broken JSON, other categories than `class_names`, a picture that is not there, an annotation of no
        picture or of an unknown category, a box that cannot be; see `annotations.checked`; an outline likewise, see
        `outlines.outline_of`.
    """
    content, findings = parse(path), Findings()
    categories = categories_of(content, path)
    if tuple(categories.values()) != tuple(class_names):
        odd = sorted(set(categories.values()) ^ set(class_names))
        what = f"{', '.join(odd[:5])} is in one only" if odd else "they are in another order"
        raise UserError(f"the categories of {path} are not the {len(class_names)} classes that are trained on: {what}")
    labels = {identity: label for label, identity in enumerate(categories)}
    marks: dict[int, list[Mark]] = {}
    for number, image in enumerate(content["images"], 1):
        identity = _field(image, "id", path, "image", number)
        if identity in marks:
            raise UserError(f"{path}: the image id {identity} stands there twice")
        marks[identity] = []
    for number, thing in enumerate(content["annotations"], 1):
        of = _field(thing, "image_id", path, "annotation", number)
        if of not in marks:
            place = _place(thing, path, number)
            raise UserError(f"{place} is for the image {of}, which is not among the {len(marks)} images there")
        marks[of].append(_mark(thing, labels, path, number))
    annotations = [_annotation(image, marks[image["id"]], path, findings) for image in content["images"]]
    if not annotations:
        raise UserError(f"{path} has no images")
    _tell_unlisted(annotations, path, findings)
    findings.close()
    return annotations


def _annotation(image: Mapping[str, Any], marks: Sequence[Mark], path: Path, findings: Findings) -> Annotation:
    place = f"{path}, image {image['id']}"
    file_name = _field(image, "file_name", path, "image", image["id"])
    picture = picture_folder(path, file_name) / file_name
    if not picture.is_file():
        raise UserError(f"{place} has no picture: there is no {picture}")
    sizes = image.get("height"), image.get("width")
    stated = sizes if all(isinstance(size, int) and size > 0 for size in sizes) else None
    height, width = agreed_size(picture, stated, place)
    for mark in marks:
        check_fits(mark.outline, height, width, mark.place)
    if not marks:
        findings.say(place, f"{file_name} has no annotation; it is background", "pictures have no annotation")
    return checked(picture, height, width, marks, findings, image["id"])


def _mark(thing: Mapping[str, Any], labels: Mapping[int, int], path: Path, number: int) -> Mark:
    place = _place(thing, path, number)
    category, box = (_field(thing, key, path, "annotation", number) for key in ("category_id", "bbox"))
    if category not in labels:
        raise UserError(f"{place} is of the category {category}, which is not among the {len(labels)} categories there")
    numbers = isinstance(box, list) and len(box) == 4 and all(isinstance(value, int | float) for value in box)
    if not numbers:
        raise UserError(f"{place}: bbox is {str(box)[:50]}; it must be four numbers, x y width height")
    x, y, width, height = box
    outline = outline_of(thing.get("segmentation"), place)
    edges = (x, y, x + width, y + height)
    return Mark(edges, labels[category], bool(thing.get("iscrowd", 0)), place, thing.get("area"), outline)


def _field(thing: Mapping[str, Any], key: str, path: Path, kind: str, number: int) -> Any:
    if not isinstance(thing, dict) or key not in thing:
        raise UserError(f'{path}: {kind} {number} has no "{key}"')
    return thing[key]


def _place(thing: Mapping[str, Any], path: Path, number: int) -> str:
    return f"{path}, annotation {thing['id']}" if "id" in thing else f"{path}: annotation {number}"


def _tell_unlisted(annotations: Sequence[Annotation], path: Path, findings: Findings) -> None:
    """Says which pictures of the folders are not in the file: nobody has annotated them."""
    known = {annotation.picture for annotation in annotations}
    name = path.stem.partition("_")[2]
    for folder in {picture.parent for picture in known if picture.parent.name == name}:
        for picture in sorted(folder.iterdir()):
            if picture.suffix.lower() in SUFFIXES and picture not in known:
                findings.say(str(picture), f"is not in {path} and is left out", "pictures are not annotated")


def instances(
    files: Sequence[Path],
    sizes: Sequence[tuple[int, int]],
    things: Sequence[Sequence[Mapping[str, Any]]],
    class_names: Sequence[str],
) -> bytes:
    """Objects that were found in pictures as a file of instances, which this file's `parse` reads.

    Args:
      files: the pictures.
      sizes: their heights and widths.
      things: of each picture the objects: "class", a name, "polygons", lists x y x y … as in `outlines.py`, and where
        it is known "score".
      class_names: the categories; their ids count from 1.
    """
    ids = {name: number for number, name in enumerate(class_names, 1)}
    images, annotations = [], []
    for number, (file, (height, width), found) in enumerate(zip(files, sizes, things, strict=True), 1):
        images.append({"id": number, "file_name": file.name, "height": height, "width": width})
        for thing in found:
            points = np.concatenate([np.reshape(polygon, (-1, 2)) for polygon in thing["polygons"]])
            (x0, y0), (x1, y1) = points.min(0).tolist(), points.max(0).tolist()
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": ids[thing["class"]],
                    "segmentation": thing["polygons"],
                    "bbox": [x0, y0, x1 - x0, y1 - y0],
                    "area": sum(map(enclosed, thing["polygons"])),
                    "iscrowd": 0,
                    **({"score": thing["score"]} if "score" in thing else {}),
                }
            )
    categories = [{"id": number, "name": name} for name, number in ids.items()]
    return json.dumps({"images": images, "annotations": annotations, "categories": categories}).encode()
