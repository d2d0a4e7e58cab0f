"""Selective search: Uijlings, van de Sande, Gevers, Smeulders, 2013: where in a picture objects may be, of any class.

Segments of a picture are joined, the most alike first, and every segment on the way is a proposal. OpenCV does it; its
shuffling of the proposals, which is part of the method (section 4.3 of the paper), is seeded here, so that the same
picture has the same proposals in the same order.
"""

import ctypes
from types import ModuleType

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from cnnlab.errors import UserError

WIDTH = 500  # pixels that wider pictures are scaled down to, as in R-CNN's paper (section 2.2)


def opencv() -> ModuleType:
    """OpenCV with its contributed modules.

    Raises:
      UserError: it is not installed, or without them.
    """
    try:
        import cv2

        cv2.ximgproc.segmentation  # noqa: B018
    except (ImportError, AttributeError) as error:
        raise UserError("selective search needs OpenCV's contributed modules: pip install -e '.[detection]'") from error
    return cv2


def selective_search(
    picture: UInt8[np.ndarray, "h w 3"], quality: bool = False, limit: int = 2000, seed: int = 0
) -> Float[np.ndarray, "p 4"]:
    """Proposals of a picture.

    Args:
      picture: RGB.
      quality: look with more colours and likenesses: about three times the proposals in five times the time.
      limit: at most so many, the first ones.
      seed: of the order.

    Returns:
      Boxes x0 y0 x1 y1 in pixels of the picture, without repeats, likelier ones first.

    Raises:
      UserError: OpenCV's contributed modules are not installed.
    """
    cv2 = opencv()
    height, width = picture.shape[:2]
    scale = min(1.0, WIDTH / width)
    if scale < 1:
        size = WIDTH, max(1, round(height * scale))
        picture = np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.BILINEAR))
    ctypes.CDLL(None).srand(seed + 1)  # OpenCV draws from C's generator, to which 0 and 1 are one seed
    search = cv2.ximgproc.segmentation.createSelectiveSearchSegmentation()
    search.setBaseImage(np.ascontiguousarray(picture[..., ::-1]))
    (search.switchToSelectiveSearchQuality if quality else search.switchToSelectiveSearchFast)()
    found = np.asarray(search.process(), np.float32).reshape(-1, 4)[:limit]
    boxes = np.concatenate([found[:, :2], found[:, :2] + found[:, 2:]], 1)
    factor = np.array([width, height, width, height]) / np.tile(picture.shape[1::-1], 2)
    return (boxes * factor).astype(np.float32)
