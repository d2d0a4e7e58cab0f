"""COCO's captions as JSON: sentences about pictures in folders.

A caption of a missing picture is refused; pictures without captions are told and left out.
"""

from pathlib import Path
from typing import Any

from cnnlab.data import coco
from cnnlab.data.annotations import Findings
from cnnlab.data.described import Described, columns, say_bare, tell_bare
from cnnlab.data.text import parse_json
from cnnlab.errors import UserError


def is_coco(folder: Path) -> bool:
    """Whether a folder looks like COCO's with captions."""
    return any((folder / "annotations").glob("captions_*.json"))


def read(path: Path, findings: Findings) -> list[Described]:
    """The pictures of a file of captions with their sentences.

    Args:
      path: FOLDER/annotations/captions_NAME.json; for the pictures' places see `coco.picture_folder`.
      findings: tells which pictures have no sentences.

    Raises:
      UserError: broken JSON or UTF-8, a picture that is not there, a caption that is no text or of no picture.
    """
    content = parse_json(path)
    for key in ("images", "annotations"):
        if not isinstance(content, dict) or not isinstance(content.get(key), list):
            raise UserError(f'{path} has no list "{key}": it should be COCO\'s captions')
    found: dict[Any, list[tuple[str, str]]] = {}
    for number, image in enumerate(content["images"], 1):
        identity = _field(image, "id", path, f"image {number}")
        if identity in found:
            raise UserError(f"{path}: the image id {identity} stands there twice")
        found[identity] = []
    for number, caption in enumerate(content["annotations"], 1):
        known = isinstance(caption, dict) and "id" in caption
        place = f"annotation {caption['id'] if known else number}"
        of, text = (_field(caption, key, path, place) for key in ("image_id", "caption"))
        if of not in found:
            raise UserError(f"{path}, {place} is for the image {of}, which is not among the {len(found)} images there")
        if not isinstance(text, str):
            raise UserError(f"{path}, {place}: the caption is {str(text)[:30]}; it must be a text")
        found[of].append((text, f"{path}, {place}"))
    described = []
    for image in content["images"]:
        name, sentences = _field(image, "file_name", path, f"image {image['id']}"), found[image["id"]]
        picture = coco.picture_folder(path, name) / name
        if not picture.is_file():
            raise UserError(f"{path}, image {image['id']} has no picture: there is no {picture}")
        if not sentences:
            say_bare(f"{path}, image {image['id']}", name, findings)
            continue
        number = image["id"] if isinstance(image["id"], int) else len(described)
        described.append(Described(picture, *columns(sentences), number))
    if not described:
        raise UserError(f"{path} has no images with captions")
    tell_bare(path, {one.picture for one in described}, {image["file_name"] for image in content["images"]}, findings)
    return described


def _field(thing: Any, key: str, path: Path, place: str) -> Any:
    if not isinstance(thing, dict) or key not in thing:
        raise UserError(f'{path}: {place} has no "{key}"')
    return thing[key]
