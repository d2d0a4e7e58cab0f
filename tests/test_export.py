"""Programs of trained nets say what the nets say, of any number of pictures, and without this project."""

import json
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export as programs

from cnnlab import export, loop
from cnnlab.data.digits import digits
from cnnlab.errors import UserError
from experiments import alignment_shapes, caption_shapes, gan_mnist, localisation_shapes, roads_synthetic
from tests.small import options, same, small_experiment

RUN = """
import pathlib, sys
import jax, numpy as np
program = jax.export.deserialize(pathlib.Path("program.jax").read_bytes())
np.save("outputs.npy", program.call({"image": np.load("pictures.npy")}))
assert not any(name.partition(".")[0] in ("cnnlab", "flax") for name in sys.modules)
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """An experiment and the workdir that it was trained in."""
    experiment = small_experiment(steps=4)
    folder = tmp_path_factory.mktemp("trained") / "w"
    loop.train(experiment, folder)
    return experiment, folder


def test_the_file_predicts_with_jax_alone(trained, capsys):
    experiment, folder = trained
    export.export_and_say(experiment, folder, "latest", options("export"))
    assert b".py" not in (folder / "exported" / "program.jax").read_bytes()  # no paths of this machine
    pictures = digits("test").arrays["image"][:5]
    np.save(folder / "exported" / "pictures.npy", pictures)
    subprocess.run([sys.executable, "-c", RUN], cwd=folder / "exported", check=True)
    found = np.load(folder / "exported" / "outputs.npy")
    task, state = experiment.task, loop.restored_state(experiment, folder)
    assert np.allclose(found, task.predict_step(state, {"image": jnp.asarray(pictures)}), atol=1e-6)
    said = json.loads((folder / "exported" / "program.json").read_text())
    assert said == {
        "experiment": "lenet_digits",
        "step": 4,
        "inputs": {"image": {"shape": ["n", 28, 28, 1], "dtype": "uint8"}},
        "outputs": {"output": {"shape": ["n", 10], "dtype": "float32"}},
        "classes": [str(i) for i in range(10)],
    }
    assert "inputs   image uint8(n, 28, 28, 1)\noutputs  output float32(n, 10)\n" in capsys.readouterr().out


def small(module, **fields):
    """An experiment of some fields."""
    config = module.get_config()
    config.update(fields)
    return module.build(config)


def made(module, batch_size=0, **fields):
    """The task of an experiment of some fields, its first state, the program of it, and the experiment."""
    experiment = small(module, **fields)
    state = loop.initial_state(experiment)
    return experiment.task, state, export.program(experiment, state, batch_size), experiment


def test_pictures_are_made_of_seeds():
    task, state, program, _ = made(gan_mnist, data="digits", conditional=True)
    batch = {"seed": np.array([3, 5, 3], np.uint32), "label": np.array([1, 1, 1], np.int32)}
    found = program.call(batch)
    keys = jax.vmap(jax.random.key)(batch["seed"])
    assert np.allclose(found, task.sample(state, keys, jnp.asarray(batch["label"])), atol=1e-6)
    assert same(found[0], found[2])
    assert not np.allclose(found[0], found[1])


def test_a_program_takes_the_fields_that_the_net_needs():
    task, state, program, experiment = made(localisation_shapes, batch_size=2)
    assert program.platforms == ("cpu", "cuda", "tpu")
    batch = experiment.test_data().batch(np.arange(2))
    batch = {name: batch[name] for name in ("image", "original", "size")}
    found = program.call(batch)
    wanted = task.predict_step(state, jax.tree.map(jnp.asarray, batch))
    assert set(found) == set(wanted)
    for name in wanted:
        assert np.allclose(found[name], wanted[name], atol=1e-4), name
    said = export.describe(program, experiment)
    assert said["inputs"]["size"] == {"shape": [2, 2], "dtype": "int32"}
    assert said["outputs"]["boxes"] == {"shape": [2, 5, 4], "dtype": "float32"}


def test_large_pictures_are_seen_in_windows():
    task, state, program, experiment = made(roads_synthetic, scenes=2, test_scenes=1, side=64)
    pictures = np.random.default_rng(0).integers(0, 256, (3, *experiment.picture_shape), dtype=np.uint8)
    read = programs.deserialize(program.serialize())
    assert np.allclose(
        read.call({"image": pictures}), task.predict_step(state, {"image": jnp.asarray(pictures)}), atol=1e-5
    )


def test_words_are_named():
    task, _, program, experiment = made(caption_shapes, batch_size=1, size=64, drawings=50)
    words = export.describe(program, experiment)["words"]
    assert words[:4] == ["<pad>", "<start>", "<end>", "<unk>"]
    assert len(words) == len(task.vocabulary)


def test_a_net_that_must_know_how_many_pictures_there_are(trained, monkeypatch):
    experiment, folder = trained

    def predict_step(task, state, batch):
        return jnp.zeros(len(task.class_names) if batch["image"].shape[0] > 3 else 1)

    monkeypatch.setattr(type(experiment.task), "predict_step", predict_step)
    state = loop.restored_state(experiment, folder)
    with pytest.raises(UserError, match=r"for any number of pictures: name one, --config\.export\.batch_size=1"):
        export.program(experiment, state)
    assert export.program(experiment, state, 4).out_avals[0].shape == (10,)


def test_what_cannot_be_exported_is_said(trained):
    experiment, folder = trained
    with pytest.raises(UserError, match=r"config.export.format is 'onnx'; it must be 'program' or 'torchvision'"):
        export.export_and_say(experiment, folder, "latest", options("export", format="onnx"))
    with pytest.raises(UserError, match=r"config.export.batch_size is -1; it must be 0, for any number, or more"):
        export.export_and_say(experiment, folder, "latest", options("export", batch_size=-1))
    with pytest.raises(UserError, match="no weights are published for this LeNet"):
        export.export_and_say(experiment, folder, "latest", options("export", format="torchvision"))
    with pytest.raises(UserError, match="alignment_shapes finds pictures by a sentence"):
        export.program(small(alignment_shapes, drawings=50), loop.restored_state(experiment, folder))
