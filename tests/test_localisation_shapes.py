"""The localisation experiment: what its fields refuse, what its network begins from, and how its input is made."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnlab import begin
from cnnlab.errors import UserError
from cnnlab.models.localiser import on_alexnet
from cnnlab.transfer import head_layers
from experiments import localisation_shapes


def built(**fields):
    config = localisation_shapes.get_config()
    config.update(fields)
    return localisation_shapes.build(config)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"net": "vgg61"}, r'config\.net is "vgg61"; did you mean vgg19 or vgg16'),
        ({"net": "?"}, r'config\.net is "\?": it must be one of small, alexnet'),
        ({"box_weight": 0.0}, r"config\.box_weight is 0\.0; it must be positive"),
        ({"size": 0}, "pictures are resized to sides of 0"),
        ({"data": "nowhere"}, r'config\.data is "nowhere": it must be "shapes"'),
        ({"batch_size": 0}, r"config\.batch_size is 0; it must be positive"),
        ({"learning_rate": 0.0}, "the learning rate is 0.0 over 1500 steps; both must be positive"),
    ],
)
def test_bad_fields(fields, message):
    with pytest.raises(UserError, match=message):
        built(**fields)


def test_the_body_is_the_backbone():
    # The one box for all classes is no classifier, but it has to be learnt with the new ones all the same.
    assert built(freeze="body").task.frozen == ("backbone",)


@pytest.mark.parametrize(("per_class", "heads"), [(False, ("scores",)), (True, ("boxes", "scores"))])
def test_what_new_classes_replace(per_class, heads):
    image = jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32)
    assert head_layers(built(per_class=per_class).task.model, image) == heads


def test_the_input_is_made_as_where_the_weights_were_learnt(tmp_path):
    runs = {
        "classifier": ("vgg_imagenet", {"init_from": ""}),
        "published": ("vgg_imagenet", {"init_from": "owner/weights"}),
        "scratch": ("localisation_shapes", {"init_from": "", "box_weight": 1.0}),
        "grafted": ("localisation_shapes", {"init_from": str(tmp_path / "classifier"), "box_weight": 1.0}),
    }
    for name, (experiment, config) in runs.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(json.dumps({"experiment": experiment, "config": config}))
    white = {
        name: float(built(init_from=source).task.preprocess(jnp.full((1, 1, 1, 3), 255))[0, 0, 0, 0])
        for name, source in {"none": "", "hub": "owner/weights", **{n: str(tmp_path / n) for n in runs}}.items()
    }
    scaled, unscaled = pytest.approx((1 - 0.485) / 0.229, rel=1e-4), pytest.approx(255 * (1 - 0.485), rel=1e-4)
    wanted = {"none": scaled, "hub": scaled, "published": scaled, "scratch": scaled}
    assert white == {**wanted, "classifier": unscaled, "grafted": unscaled}


def test_a_classifiers_layers_go_into_the_backbone():
    # As `begin.load` does it with a run of a classifier, but for reading it; every array a number.
    model = on_alexnet("one_column", num_classes=3)
    image = jax.ShapeDtypeStruct((1, 224, 224, 3), jnp.float32)
    fresh = jax.eval_shape(model.init, jax.random.key(0), image)
    classifier = model.backbone.clone(maps=(), parent=None, name=None)
    trained = jax.eval_shape(classifier.init, jax.random.key(0), image)
    trained = jax.tree.map(lambda leaf: np.broadcast_to(np.float32(7), leaf.shape), trained)
    began = begin.grafted("somewhere", trained, fresh)["params"]
    assert all(isinstance(leaf, np.ndarray) and leaf.flat[0] == 7 for leaf in jax.tree.leaves(began["backbone"]))
    rest = jax.tree.leaves({name: began[name] for name in ("scores", "boxes")})
    assert all(isinstance(leaf, jax.ShapeDtypeStruct) for leaf in rest)
