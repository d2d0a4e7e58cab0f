"""The film of a run: a picture every so many steps, and all of them as a GIF."""

import io
from pathlib import Path

import numpy as np
from jaxtyping import Float
from PIL import Image

from cnnlab.writer import write_whole

FOLDER = "film"  # in the workdir
SECONDS = 10.0  # that a film lasts at most
LONGEST = 0.4  # seconds of a frame at most


def add_frame(workdir: Path, step: int, picture: Float[np.ndarray, "h w c"]) -> None:
    """Writes the picture of a step, from 0 (black) to 1 (white); done again, it is replaced."""
    write_whole(workdir / FOLDER / f"{step:09}.png", as_png(picture))


def as_png(picture: Float[np.ndarray, "h w c"]) -> bytes:
    """A picture from 0 (black) to 1 (white), grey or RGB, as a PNG file's bytes."""
    pixels = np.clip(np.round(255 * picture), 0, 255).astype(np.uint8)
    content = io.BytesIO()
    Image.fromarray(pixels.squeeze(-1) if pixels.shape[-1] == 1 else pixels).save(content, "PNG")
    return content.getvalue()


def write_film(workdir: Path) -> Path | None:
    """All frames up to now as figures/film.gif, in the order of their steps; None where there is none."""
    files = sorted((workdir / FOLDER).glob("*.png"))
    if not files:
        return None
    frames = [Image.open(file).convert("P", palette=Image.Palette.ADAPTIVE) for file in files]
    each = round(1000 * min(LONGEST, SECONDS / len(frames)))
    content = io.BytesIO()
    # The last picture stays for a while before the film begins again.
    lasts = [each] * (len(frames) - 1) + [2000]
    frames[0].save(content, "GIF", save_all=True, append_images=frames[1:], duration=lasts, loop=0)
    path = workdir / "figures" / "film.gif"
    write_whole(path, content.getvalue())
    return path
