"""The classification task with a network whose logits are the picture's pixels plus a trainable offset."""

import io

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from cnnlab.data.source import ArraySource
from cnnlab.models.lenet import LeNet
from cnnlab.ops.dropout import Dropout
from cnnlab.tasks.classification import Classification, cross_entropy, smoothed_cross_entropy

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
