"""What road finders' configurations refuse, and what becomes of their losses."""

import jax.numpy as jnp
import pytest

from cnnlab.errors import UserError
from cnnlab.recipes.roads import loss_of
from cnnlab.tasks import label_noise
from experiments import roads_folder, roads_synthetic


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("loss", "squared", "must be cross_entropy, omission or translation"),
        ("step", 6, r"config\.step is 6: it must divide the 16"),
        ("patches", 0, r"config\.patches is 0; it must be positive"),
        ("features", (32, 48, 64), r"config\.features is \(32, 48, 64\); it must be two positive numbers"),
        ("features", (0, 48), r"config\.features is \(0, 48\); it must be two positive numbers"),
        ("threshold", 1.0, r"config\.threshold is 1\.0 and config\.slack 3\.0"),
        ("optimizer", "lamb", 'must be "sgd" or "adam"'),
    ],
)
def test_values_out_of_their_range(field, value, message):
    config = roads_synthetic.get_config()
    config[field] = value
    with pytest.raises(UserError, match=message):
        roads_synthetic.build(config)


def test_noise_of_the_loss_is_checked():
    config = roads_synthetic.get_config()
    config.update(loss="omission", theta1=1.2)
    with pytest.raises(UserError, match="their sum less than 1"):
        roads_synthetic.build(config)
    config.update(loss="translation", theta1=0.2, reach=8)
    with pytest.raises(UserError, match=r"config\.reach is 8: maps may be displaced by 0 to 7 pixels"):
        roads_synthetic.build(config)


def test_losses_have_the_configs_noise():
    config = roads_synthetic.get_config()
    logits, labels, wide = jnp.ones((1, 16, 16)), jnp.zeros((1, 16, 16), int), jnp.zeros((1, 20, 20), int)
    config.update(theta0=0.1, theta1=0.2, reach=2)
    for name, right in (
        ("cross_entropy", label_noise.cross_entropy(logits, labels)),
        ("omission", label_noise.robust_to_omission(logits, labels, 0.1, 0.2)),
        ("translation", label_noise.robust_to_translation(logits, wide, 2, 0.1, 0.2)),
    ):
        config.loss = name
        given = wide if roads_synthetic.build(config).task.reach else labels
        assert float(loss_of(config)(logits, given)[0]) == pytest.approx(float(right[0]))


def test_maps_to_test_on_are_always_true():
    config = roads_synthetic.get_config()
    config.update(scenes=2, test_scenes=2, side=64, omitted=0.6, shift=5)
    experiment = roads_synthetic.build(config)
    train, test = experiment.train_data().maps, experiment.test_data().maps
    assert (train.omitted, train.shift, test.omitted, test.shift) == (0.6, 5, 0.0, 0)


def test_a_folder_is_wanted_when_it_is_read(tmp_path):
    config = roads_folder.get_config()
    with pytest.raises(UserError, match=r"config\.data is not set"):
        roads_folder.build(config).train_data()
    config.data = str(tmp_path)
    with pytest.raises(UserError, match="should hold sat/ and map/"):
        roads_folder.build(config).train_data()
