"""The film of a run: its frames, and the GIF of them."""

import numpy as np
from PIL import Image

from cnnlab.figures import film


def test_frames_become_a_film(tmp_path):
    assert film.write_film(tmp_path) is None
    for step, grey in ((10, 0.0), (5, 1.0), (100, 0.5), (10, 0.2)):  # the last replaces the first
        film.add_frame(tmp_path, step, np.full((4, 6, 1), grey))
    with Image.open(film.write_film(tmp_path)) as found:
        assert (found.n_frames, found.size) == (3, (6, 4))
        greys, times = [], []
        for i in range(3):
            found.seek(i)
            greys.append(np.asarray(found.convert("L"))[0, 0].item())
            times.append(found.info["duration"])
    assert np.allclose(greys, [255, 51, 128], atol=2)
    assert times == [400, 400, 2000]


def test_colours_and_values_beyond_the_range(tmp_path):
    picture = np.array([[[-1.0, 0.5, 2.0]]])
    film.add_frame(tmp_path, 0, picture)
    with Image.open(tmp_path / "film" / "000000000.png") as found:
        assert np.asarray(found).tolist() == [[[0, 128, 255]]]
