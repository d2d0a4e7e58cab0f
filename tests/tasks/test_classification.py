"""The classification task with a network whose logits are the picture's pixels plus a trainable offset."""

import io

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from cnnlab.data.augment import keys_of
from cnnlab.data.source import ArraySource
from cnnlab.errors import UserError
from cnnlab.inspect import attacks
from cnnlab.models.lenet import LeNet
from cnnlab.ops.dropout import Dropout
from cnnlab.tasks.classification import Classification, cross_entropy, smoothed_cross_entropy
from experiments import lenet_digits

NAMES = ("ant", "bee", "cat")
KEY = jax.random.key(0)


class Offset(nn.Module):
    """One logit a pixel."""

    @nn.compact
    def __call__(self, x, *, train=False):
        x = x.reshape(len(x), -1)
        return x + self.param("offset", nn.initializers.zeros, (x.shape[-1],))


class Noisy(nn.Module):
    """`Offset` behind dropout."""

    @nn.compact
    def __call__(self, x, *, train=False):
        return Offset(name="offset")(Dropout(0.5)(x, train=train))


class Beside(nn.Module):
    """`Offset` with two auxiliary classifiers in training, which see the negative and the double of it."""

    @nn.compact
    def __call__(self, x, *, train=False):
        logits = Offset(name="offset")(x)
        return (logits, -logits, 2 * logits) if train else logits


class Normed(nn.Module):
    """Logits that are normalised pixels."""

    @nn.compact
    def __call__(self, x, *, train=False):
        x = x.reshape(len(x), -1)
        return nn.BatchNorm(use_running_average=not train, momentum=0.9, name="bn")(x)


def task_of(class_names=NAMES, **options):
    options = {"optimizer": optax.sgd(0.5), "model": Offset(), **options}
    return Classification(preprocess=lambda image: image.astype(jnp.float32) / 10, class_names=class_names, **options)


def batch_of(logits, labels, **fields):
    """Pictures that give these logits, in tenths."""
    image = np.round(10 * np.array(logits)).astype(np.uint8)[:, None, None, :]
    n = len(labels)
    common = {"image": image, "label": np.array(labels, np.int32), "position": np.arange(n, dtype=np.int32)}
    evaluation = {"mask": np.ones(n, np.float32), "index": np.arange(n, dtype=np.int32)}
    return {name: jnp.asarray(value) for name, value in {**common, **evaluation, **fields}.items()}


def softmax(logits):
    powers = np.exp(np.asarray(logits, np.float64))
    return powers / powers.sum(-1, keepdims=True)


def identity(tree):
    return tree


# Right and sure; wrong, the true class second; wrong, the true class last; padding.
LOGITS = np.array([[3.0, 1.0, 0.0], [2.0, 1.5, 0.5], [0.0, 2.5, 0.5], [9.0, 0.0, 0.0]])
LABELS = np.array([0, 1, 0, 2])


def test_cross_entropy_by_hand():
    losses = cross_entropy(jnp.asarray(LOGITS), jnp.asarray(LABELS))
    np.testing.assert_allclose(losses, -np.log(softmax(LOGITS)[range(4), LABELS]), rtol=1e-5)
    np.testing.assert_allclose(cross_entropy(jnp.zeros((1, 4)), jnp.array([2])), [np.log(4)], rtol=1e-6)


def test_smoothed_cross_entropy_by_hand():
    wanted = 0.9 * np.eye(3)[LABELS] + 0.1 / 3
    losses = smoothed_cross_entropy(jnp.asarray(LOGITS), jnp.asarray(LABELS))
    np.testing.assert_allclose(losses, -(wanted * np.log(softmax(LOGITS))).sum(-1), rtol=1e-5)
    plain = smoothed_cross_entropy(jnp.asarray(LOGITS), jnp.asarray(LABELS), smoothing=0.0)
    np.testing.assert_allclose(plain, cross_entropy(jnp.asarray(LOGITS), jnp.asarray(LABELS)), rtol=1e-5)


def test_auxiliary_classifiers_count_in_training_only():
    task = task_of(model=Beside(), auxiliary_weight=0.3)
    batch = batch_of(LOGITS, LABELS)
    state = task.init(KEY, batch)
    main, first, second = (-np.log(softmax(k * LOGITS)[range(4), LABELS]).mean() for k in (1, -1, 2))
    loss, (metrics, _) = task.loss_fn(state.params, {}, batch, KEY)
    assert float(loss) == pytest.approx(main + 0.3 * first + 0.3 * second, rel=1e-5)
    assert float(metrics["error"]) == pytest.approx(3 / 4)
    assert float(task.eval_step(state, batch)["loss"].mean()) == pytest.approx(main, rel=1e-5)


def in_parts(task, batch, key, parts):
    """The mean loss of a batch that so many devices share."""
    state = task.init(KEY, batch)
    shares = [{k: v[i * len(v) // parts : (i + 1) * len(v) // parts] for k, v in batch.items()} for i in range(parts)]
    return np.mean([float(task.loss_fn(state.params, {}, share, key)[0]) for share in shares])


def test_augmentation_is_by_place_in_the_batch_in_training_only():
    seen = []

    def augment(keys, batch):
        bright = jax.vmap(lambda key: jax.random.randint(key, (), 0, 100))(keys)
        seen.extend(bright.tolist())
        brighter = batch["image"] + bright[:, None, None, None] * jnp.array([1, 0, 0])
        return {**batch, "image": brighter.astype(jnp.uint8)}

    task, batch = task_of(augment=augment), batch_of(LOGITS, LABELS)
    losses = [in_parts(task, batch, KEY, parts) for parts in (1, 2, 4)]
    assert seen[:4] == seen[4:8] == seen[8:]
    assert len(set(seen)) == 4
    np.testing.assert_allclose(losses, losses[0], rtol=1e-5)
    brighter = LOGITS + np.array(seen[:4])[:, None] / 10 * [1, 0, 0]
    assert losses[0] == pytest.approx(-np.log(softmax(brighter)[range(4), LABELS]).mean(), rel=1e-5)
    in_parts(task, batch, jax.random.key(1), 1)
    assert seen[12:] != seen[:4]
    plain = task_of()
    state = task.init(KEY, batch)
    np.testing.assert_array_equal(task.eval_step(state, batch)["loss"], plain.eval_step(state, batch)["loss"])
    assert len(seen) == 16


def towards(logits, x, labels, keys):
    """Each picture's true class brightened by a number of its key, 0.04 of 1, which is a logit of 1.02, at most."""
    bright = jax.vmap(lambda key: jax.random.uniform(key, (), maxval=0.04))(keys)
    return x + bright[:, None, None, None] * jax.nn.one_hot(labels, 3)[:, None, None, :]


@pytest.mark.parametrize("clean", [0.0, 0.25])
def test_attacked_pictures_count_beside_the_clean_ones(clean):
    batch = batch_of(LOGITS, LABELS)
    task, plain = task_of(attack=towards, clean_weight=clean), task_of()
    state = task.init(KEY, batch)
    keys = keys_of(jax.random.fold_in(KEY, 2), batch["position"])
    changed = 255 * np.asarray(towards(None, batch["image"] / 255, batch["label"], keys)) / 10
    attacked = -np.log(softmax(changed[:, 0, 0])[range(4), LABELS])
    unchanged = -np.log(softmax(LOGITS)[range(4), LABELS])
    loss, (metrics, _) = task.loss_fn(state.params, {}, batch, KEY)
    assert float(loss) == pytest.approx(clean * unchanged.mean() + (1 - clean) * attacked.mean(), rel=1e-5)
    wrong = (changed[:, 0, 0].argmax(1) != LABELS).mean()
    assert wrong < 3 / 4
    assert float(metrics["error"]) == pytest.approx(clean * 3 / 4 + (1 - clean) * wrong)
    losses = [in_parts(task, batch, KEY, parts) for parts in (1, 2, 4)]
    np.testing.assert_allclose(losses, losses[0], rtol=1e-5)
    np.testing.assert_array_equal(task.eval_step(state, batch)["loss"], plain.eval_step(state, batch)["loss"])


def test_auxiliary_classifiers_see_attacked_pictures_too():
    batch = batch_of(LOGITS, LABELS)
    same = task_of(model=Beside(), attack=lambda logits, x, labels, keys: x, clean_weight=0.5)
    plain = task_of(model=Beside())
    state = plain.init(KEY, batch)
    found, wanted = (task.loss_fn(state.params, {}, batch, KEY)[0] for task in (same, plain))
    assert float(found) == pytest.approx(float(wanted), rel=1e-5)


def test_the_attack_sees_the_network_in_evaluation_mode_and_augmented_pictures():
    seen = []

    def look(logits, x, labels, keys):
        seen.append((logits(x), x))
        return x

    def darken(keys, batch):
        return {**batch, "image": batch["image"] // 2}

    task, batch = task_of(model=Noisy(), attack=look, augment=darken), batch_of(LOGITS, LABELS)
    task.loss_fn({"offset": {"offset": jnp.array([1.0, 2.0, 3.0])}}, {}, batch, KEY)
    (outputs, pictures), half = seen[0], np.asarray(batch["image"]) // 2
    np.testing.assert_allclose(pictures, half / 255, rtol=1e-6)
    np.testing.assert_allclose(outputs, half[:, 0, 0] / 10 + [1, 2, 3], rtol=1e-5)  # nothing is dropped


def test_no_gradient_flows_through_the_attack():
    def follow(logits, x, labels, keys):
        return x + logits(x)[:, None, None, :] / 100

    batch = batch_of(LOGITS, LABELS)
    task = task_of(attack=follow, clean_weight=0.0)
    offset = jnp.array([0.5, -0.5, 1.0])
    gradient = jax.grad(lambda params: task.loss_fn(params, {}, batch, KEY)[0])({"offset": offset})["offset"]
    seen = LOGITS + 2.55 * (LOGITS + np.asarray(offset)) / 10 + np.asarray(offset)
    np.testing.assert_allclose(gradient, (softmax(seen) - np.eye(3)[LABELS]).mean(0), atol=1e-5)


def test_batch_normalisation_sees_both_halves_and_not_the_attack():
    """Its averages are far from the batch's: an attack in training mode would see other outputs."""
    seen = []

    def brighten(logits, x, labels, keys):
        seen.append(logits(x))
        return x + 0.02

    batch = batch_of(LOGITS, LABELS)
    task = task_of(model=Normed(), attack=brighten, clean_weight=0.5)
    state = task.init(KEY, batch)
    _, (_, model_state) = task.loss_fn(state.params, state.model_state, batch, KEY)
    both = np.concatenate([LOGITS, LOGITS + 0.51])
    np.testing.assert_allclose(model_state["batch_stats"]["bn"]["mean"], 0.1 * both.mean(0), rtol=1e-4)
    np.testing.assert_allclose(model_state["batch_stats"]["bn"]["var"], 0.9 + 0.1 * both.var(0), rtol=1e-4)
    np.testing.assert_allclose(seen[0], LOGITS, rtol=1e-4)  # by averages of 0 and variances of 1


def test_a_step_of_fast_gradient_signs_by_hand():
    """`Offset` is linear: the sign of each pixel's gradient is known."""
    batch = batch_of(LOGITS, LABELS)
    fgsm = lambda logits, x, labels, keys: attacks.fgsm(logits, x, labels, epsilon=0.01)
    task = task_of(attack=fgsm, clean_weight=0.5)
    state = task.init(KEY, batch)
    changed = np.clip(LOGITS + 0.255 * (1 - 2 * np.eye(3)[LABELS]), 0, 25.5)
    both = np.concatenate([LOGITS, changed])
    wanted = -np.log(softmax(both)[range(8), np.tile(LABELS, 2)]).mean()
    assert float(task.loss_fn(state.params, {}, batch, KEY)[0]) == pytest.approx(wanted, rel=1e-5)
    new, _ = task.train_step(state, batch, KEY, identity)
    gradient = (softmax(both) - np.eye(3)[np.tile(LABELS, 2)]).mean(0)
    np.testing.assert_allclose(new.params["offset"], -0.5 * gradient, atol=1e-6)


def test_adversaries_of_the_digits_by_configuration():
    config = lenet_digits.get_config()
    assert lenet_digits.build(config).task.attack is None
    config.attack.update(epsilon=0.1, clean_weight=0.25)
    task = lenet_digits.build(config).task
    assert task.clean_weight == 0.25
    logits, x = lambda x: jnp.stack([-x.mean((1, 2, 3)), x.mean((1, 2, 3))], -1), jnp.full((2, 2, 2, 1), 0.5)
    keys, dark = keys_of(KEY, jnp.arange(2)), jnp.array([0, 1])
    for steps in (1, 3):
        config.attack.steps = steps
        found = lenet_digits.build(config).task.attack(logits, x, dark, keys)
        np.testing.assert_allclose(found[:, 0, 0, 0], [0.6, 0.4], atol=1e-6)
    for field, value, error in (
        ("epsilon", 1.5, r"config\.attack\.epsilon is 1.5; .* from 0 to 1$"),
        ("epsilon", -0.1, r"config\.attack\.epsilon is -0.1"),
        ("steps", 0, r"config\.attack\.steps is 0; it must be at least 1"),
        ("clean_weight", 1.0, r"config\.attack\.clean_weight is 1.0; it must be from 0 to below 1"),
    ):
        wrong = lenet_digits.get_config()
        wrong.attack[field] = value
        with pytest.raises(UserError, match=error):
            lenet_digits.build(wrong)


def test_dropout_differs_between_the_devices_shares():
    task = task_of(model=Noisy())
    same = {k: jnp.concatenate([v, v]) for k, v in batch_of(LOGITS, LABELS).items()}
    batch = {**same, "position": jnp.arange(8)}
    state = task.init(KEY, batch)
    first, second, again = (
        float(task.loss_fn(state.params, {}, {k: v[part] for k, v in batch.items()}, KEY)[0])
        for part in (slice(4), slice(4, 8), slice(4))
    )
    assert first == again
    assert first != second


def test_a_fresh_state():
    state = task_of().init(KEY, batch_of(LOGITS, LABELS))
    assert int(state.step) == 0
    assert state.params["offset"].tolist() == [0, 0, 0]
    assert state.model_state == {}
    assert state.parameter_count() == 3


def test_eval_step_and_metrics_by_hand():
    task = task_of()
    batch = batch_of(LOGITS, LABELS, mask=np.array([1, 1, 1, 0], np.float32), index=np.array([7, 8, 9, 0], np.int32))
    outputs = jax.device_get(task.eval_step(task.init(KEY, batch), batch))
    assert outputs["predicted"].tolist() == [0, 0, 1, 0]
    assert outputs["rank"].tolist() == [0, 1, 2, 1]
    assert outputs["index"].tolist() == [7, 8, 9, 0]
    np.testing.assert_allclose(outputs["probability"], softmax(LOGITS).max(1), rtol=1e-5)
    losses = -np.log(softmax(LOGITS)[range(4), LABELS])
    np.testing.assert_allclose(outputs["loss"], losses, rtol=1e-5)
    metrics = task.metrics()
    metrics.add(outputs)
    assert metrics.compute() == pytest.approx({"loss": losses[:3].mean(), "error": 2 / 3, "count": 3}, rel=1e-5)
    assert [(row["index"], row["label"], row["predicted"]) for row in metrics.worst()] == [(9, 0, 1), (8, 1, 0)]


def test_a_tie_goes_to_the_lower_class_and_keeps_the_rank():
    task = task_of()
    batch = batch_of([[1, 1, 0], [1, 1, 0]], [0, 1])
    outputs = task.eval_step(task.init(KEY, batch), batch)
    assert outputs["predicted"].tolist() == [0, 0]
    assert outputs["rank"].tolist() == [0, 0]


def test_top5_error_counts_true_classes_below_the_fifth():
    task = task_of(tuple("abcdefg"))
    batch = batch_of([[7, 6, 5, 4, 3, 2, 1]] * 7, range(7))
    metrics = task.metrics()
    metrics.add(jax.device_get(task.eval_step(task.init(KEY, batch), batch)))
    assert metrics.compute()["top5_error"] == pytest.approx(2 / 7)
    assert metrics.compute()["error"] == pytest.approx(6 / 7)


def test_loss_fn_is_the_mean_with_its_error_rate():
    task = task_of()
    batch = batch_of(LOGITS, LABELS)
    state = task.init(KEY, batch)
    loss, (metrics, model_state) = task.loss_fn(state.params, state.model_state, batch, KEY)
    assert float(loss) == pytest.approx(-np.log(softmax(LOGITS)[range(4), LABELS]).mean(), rel=1e-5)
    assert float(metrics["error"]) == pytest.approx(3 / 4)
    assert model_state == {}


def test_another_loss_is_used():
    task = task_of(loss=lambda logits, labels: logits[:, 0])
    batch = batch_of(LOGITS, LABELS)
    state = task.init(KEY, batch)
    assert float(task.loss_fn(state.params, {}, batch, KEY)[0]) == pytest.approx(LOGITS[:, 0].mean())
    np.testing.assert_allclose(task.eval_step(state, batch)["loss"], LOGITS[:, 0], rtol=1e-6)


def test_two_train_steps_are_two_sgd_updates():
    task = task_of(optimizer=optax.sgd(0.5))
    batch = batch_of(LOGITS, LABELS)
    state = task.init(KEY, batch)
    offset = np.zeros(3)
    for step in range(2):
        expected_loss = -np.log(softmax(LOGITS + offset)[range(4), LABELS]).mean()
        offset = offset - 0.5 * (softmax(LOGITS + offset) - np.eye(3)[LABELS]).mean(0)
        state, metrics = task.train_step(state, batch, KEY, identity)
        assert int(state.step) == step + 1
        assert float(metrics["loss"]) == pytest.approx(expected_loss, rel=1e-5)
        assert set(metrics) == {"loss", "error"}
        np.testing.assert_allclose(state.params["offset"], offset, atol=1e-6)


def test_reduce_applies_to_gradients_and_metrics():
    task = task_of(optimizer=optax.sgd(0.5))
    batch = batch_of(LOGITS, LABELS)
    state = task.init(KEY, batch)
    plain, plain_metrics = task.train_step(state, batch, KEY, identity)
    tripled, metrics = task.train_step(state, batch, KEY, lambda tree: jax.tree.map(lambda x: 3 * x, tree))
    np.testing.assert_allclose(tripled.params["offset"], 3 * plain.params["offset"], rtol=1e-6)
    for name, value in plain_metrics.items():
        assert float(metrics[name]) == pytest.approx(3 * float(value), rel=1e-6)
    assert int(tripled.step) == 1


def test_predictions_are_described_best_first():
    task = task_of()
    batch = batch_of(LOGITS, LABELS)
    outputs = np.asarray(task.predict_step(task.init(KEY, batch), {"image": batch["image"]}))
    np.testing.assert_allclose(outputs, softmax(LOGITS), rtol=1e-5)
    row = task.describe(outputs)[2]
    assert row["classes"] == ["bee", "cat", "ant"]
    assert row["probabilities"] == pytest.approx([softmax(LOGITS)[2][i] for i in (1, 2, 0)], rel=1e-5)


def test_at_most_five_classes_are_described():
    row = task_of(tuple("abcdefg")).describe(np.array([[0.1, 0.05, 0.3, 0.02, 0.2, 0.08, 0.25]], np.float32))[0]
    assert row["classes"] == list("cgeaf")
    assert all(isinstance(p, float) for p in row["probabilities"])


def evaluated(task, batch):
    metrics = task.metrics()
    state = task.init(KEY, batch)
    metrics.add(jax.device_get(task.eval_step(state, batch)))
    source = ArraySource({"image": np.full((10, 4, 4, 1), 9, np.uint8), "label": np.zeros(10, np.int32)})
    return state, metrics, source


def test_a_finished_evaluation_is_drawn():
    drawn = task_of().draw(*evaluated(task_of(), batch_of(LOGITS, LABELS)))
    assert set(drawn) == {"confusion", "worst_mistakes"}
    titles = [axes.get_title() for axes in drawn["worst_mistakes"].axes]
    assert titles[0] == "cat taken for\nant (100%)"
    assert len(titles) == 3


def test_no_mistakes_and_a_network_with_filters():
    task = task_of()
    _, metrics, source = evaluated(task, batch_of(LOGITS[:1], LABELS[:1]))
    lenet = task_of(model=LeNet(variant="modern", num_classes=3))
    state = jax.jit(lenet.init)(KEY, {"image": jnp.zeros((1, 32, 32, 1), jnp.uint8)})
    drawn = task.draw(state, metrics, source)
    assert set(drawn) == {"confusion", "filters"}
    assert len(drawn["filters"].axes) == 6
    assert drawn["filters"].get_suptitle().startswith("C1: 6 filters")


def test_predictions_are_drawn():
    task = task_of()
    rows = task.describe(softmax(LOGITS[:2]).astype(np.float32))
    figure = task.draw_predictions([np.zeros((4, 4, 1), np.uint8)] * 2, ["a.png", "b.png"], rows)
    assert [axes.get_title() for axes in figure.axes] == ["a.png\nant (84%)", "b.png\nant (55%)"]
    figure.savefig(io.BytesIO())
