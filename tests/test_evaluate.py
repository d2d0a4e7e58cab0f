"""Testing as the papers do, from a workdir or several: crops, dense, ensembles; and the mistakes one can make."""

import jax
import numpy as np
import pytest
from PIL import Image

from cnnlab import configs, evaluate, loop, workdirs
from cnnlab.errors import UserError
from cnnlab.models.dense import Dense
from experiments import alexnet_imagenet, faster_rcnn_shapes, resnet_cifar10, vgg_imagenet
from tests.small import options, tiny_resnet


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Two trained workdirs."""
    folders = []
    for seed in (0, 1):
        folders.append(tmp_path_factory.mktemp(f"seed{seed}"))
        loop.train(tiny_resnet(seed=seed), folders[-1])
    return folders


def test_several_runs_vote_by_the_mean_of_their_probabilities(trained):
    metrics = evaluate.ensemble(trained, "latest")
    source = tiny_resnet().test_data()
    batch = source.batch(np.arange(len(source)))
    outputs = []
    for folder in trained:
        experiment = configs.build_from(folder)
        state = loop.restored_state(experiment, folder)
        outputs.append(jax.jit(experiment.task.predict_step)(state, {"image": jax.numpy.asarray(batch["image"])}))
    mean = np.mean(outputs, 0)
    assert metrics.compute()["count"] == len(source)
    assert np.isclose(metrics.compute()["error"], np.mean(mean.argmax(-1) != batch["label"]))
    loss = -np.log(mean[np.arange(len(source)), batch["label"]]).mean()
    assert np.isclose(metrics.compute()["loss"], loss, rtol=1e-4)


def test_a_run_with_itself_is_itself(trained):
    experiment = tiny_resnet()
    alone = loop.evaluate(experiment, loop.restored_state(experiment, trained[0]), experiment.test_data()).compute()
    assert evaluate.ensemble([trained[0], trained[0]], "latest").compute() == pytest.approx(alone, rel=1e-5)


def test_ten_crops_of_the_networks_size():
    experiment = alexnet_imagenet.build(alexnet_imagenet.get_config())
    views = evaluate.as_in_papers(experiment, options("eval", crops=10)).task.views
    stored = jax.ShapeDtypeStruct((2, 256, 256, 3), np.uint8)
    assert jax.eval_shape(views, stored).shape == (2, 10, 227, 227, 3)
    assert evaluate.as_in_papers(experiment, options("eval")) is experiment


def test_forty_eight_crops_want_pictures_stored_larger():
    config = alexnet_imagenet.get_config()
    config.update(variant="one_column", stored_size=352)
    views = evaluate.as_in_papers(alexnet_imagenet.build(config), options("eval", crops=48)).task.views
    stored = jax.ShapeDtypeStruct((2, 352, 352, 3), np.uint8)
    assert jax.eval_shape(views, stored).shape == (2, 48, 224, 224, 3)


def test_a_hundred_and_forty_four_of_three_squares(tmp_path):
    for i in range(12):
        (tmp_path / "ab"[i % 2]).mkdir(exist_ok=True)
        Image.new("RGB", (704, 352), (i, 0, 0)).save(tmp_path / "ab"[i % 2] / f"{i}.png")
    config = alexnet_imagenet.get_config()
    config.update(variant="one_column", stored_size=352, data=str(tmp_path), test_share=0.5)
    experiment = evaluate.as_in_papers(alexnet_imagenet.build(config), options("eval", crops=144))
    pictures = experiment.test_data().batch(np.arange(1))["image"]
    assert pictures.shape == (1, 3, 352, 352, 3)
    assert jax.eval_shape(experiment.task.views, jax.numpy.asarray(pictures)).shape == (1, 144, 224, 224, 3)
    with pytest.raises(UserError, match="the test pictures of resnet_cifar10 are squares: their 48 views"):
        evaluate.as_in_papers(tiny_resnet(), options("eval", crops=144))


def test_vgg_is_tested_densely():
    config = vgg_imagenet.get_config()
    config.stored_size = 320
    task = evaluate.as_in_papers(vgg_imagenet.build(config), options("eval", dense="256,320")).task
    assert isinstance(task.model, Dense)
    sizes = jax.eval_shape(task.views, jax.ShapeDtypeStruct((1, 320, 320, 3), np.uint8))
    assert [view.shape for view in sizes] == [(1, 2, 256, 256, 3), (1, 2, 320, 320, 3)]
    assert task.preprocess(jax.numpy.zeros((1, 300, 300, 3), np.uint8)).shape == (1, 300, 300, 3)


def test_the_command_writes_figures_and_prints(trained, capsys):
    evaluate.evaluate_and_say(tiny_resnet(), trained[0], "latest", options("eval"))
    assert "resnet_cifar10 at step 2: loss" in capsys.readouterr().out
    assert (trained[0] / "figures" / "confusion.png").exists()
    evaluate.ensemble_and_say(trained, "latest", options("eval"))
    assert "2 runs together: loss" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("module", "fields", "message"),
    [
        (alexnet_imagenet, {"crops": 7}, "config.eval.crops is 7; it must be 1, 10, 48 or 144"),
        (alexnet_imagenet, {"dense": "256"}, "config.eval.dense is for VGG"),
        (vgg_imagenet, {"dense": "256,384"}, "stored at 256: add --config.stored_size=384"),
        (vgg_imagenet, {"dense": "large"}, "write sizes as in 256,384,512"),
        (vgg_imagenet, {"dense": "256", "crops": 10}, "choose one"),
        (vgg_imagenet, {"dense": "0,256"}, "sizes are in pixels, 1 or more"),
        (alexnet_imagenet, {"crops": 48}, r"of 227×227 need pictures of 357×357, .*: add --config\.stored_size=357"),
        (
            resnet_cifar10,
            {"crops": 48},
            "of 50×50, these are 32×32, and resnet_cifar10 has no larger ones",
        ),
        (resnet_cifar10, {"crops": 10}, "ten crops of resnet_cifar10 are one and its mirror image"),
    ],
)
def test_views_that_cannot_be(module, fields, message):
    with pytest.raises(UserError, match=message):
        evaluate.as_in_papers(module.build(module.get_config()), options("eval", **fields))


def test_what_does_not_vote_names_its_folder(trained):
    with pytest.raises(UserError, match=rf"{trained[0]}: ten crops of resnet_cifar10 are one"):
        evaluate.ensemble(trained, "latest", options("eval", crops=10))
    with pytest.raises(UserError, match=r"config\.eval\.ranks is of one detector"):
        evaluate.ensemble(trained, "latest", options("eval", ranks=(3, 4)))


def test_detectors_do_not_vote(tmp_path):
    experiment = faster_rcnn_shapes.build(faster_rcnn_shapes.get_config())
    for name in "ab":
        (tmp_path / name).mkdir()
        workdirs.claim(tmp_path / name, experiment)
    with pytest.raises(UserError, match=r"a holds a run of faster_rcnn_shapes, which has no class probabilities"):
        evaluate.ensemble([tmp_path / "a", tmp_path / "b"], "latest")


def test_ranks_are_for_fc6_and_fc7():
    experiment = tiny_resnet()
    with pytest.raises(UserError, match=r"config.eval.ranks is \(4, 4\): it takes two numbers, of detectors"):
        evaluate.with_ranks(experiment, loop.fresh_state(experiment), (4, 4))
