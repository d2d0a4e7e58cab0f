"""Two runs on the same examples: the table adds up, and what were not the same examples is refused in one line."""

import dataclasses
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cnnlab import compare, loop
from cnnlab.data.digits import digits
from cnnlab.data.source import ArraySource
from cnnlab.errors import UserError
from cnnlab.metrics.mcnemar import McNemar
from cnnlab.tasks.classification import Classification
from experiments import lenet_folder
from tests import test_launch
from tests.small import small_experiment

run = test_launch.run  # the fixture


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Two workdirs of a few steps from different seeds, with the last test error of each, and what is in them."""
    folder = tmp_path_factory.mktemp("runs")
    workdirs = folder / "a", folder / "b"
    errors = [
        loop.train(small_experiment({"seed": seed}), workdir)["error"] for seed, workdir in enumerate(workdirs, start=1)
    ]
    return workdirs, errors


@pytest.fixture(scope="module")
def folder_run(tmp_path_factory):
    """A workdir of lenet_folder, on four pictures of two classes."""
    folder = tmp_path_factory.mktemp("other")
    for i, image in enumerate(digits("test").arrays["image"][:4]):
        for side in ("train", "test"):
            path = folder / "pictures" / side / ("odd" if i % 2 else "even") / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image[..., 0]).save(path)
    config = lenet_folder.get_config()
    config.update({"folder": str(folder / "pictures"), "batch_size": 2, "eval_batch_size": 4, "epochs": 0.5})
    loop.train(lenet_folder.build(config), folder / "w")
    return folder / "w"


def files(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


def test_the_table_is_of_both_runs(trained):
    workdirs, errors = trained
    before = [files(workdir) for workdir in workdirs]
    found = compare.compare(workdirs)
    assert [files(workdir) for workdir in workdirs] == before
    assert found.pictures_compared
    table = found.test.table
    assert table.sum() == 359
    assert table[1].sum() / 359 == pytest.approx(errors[0])
    assert table[:, 1].sum() / 359 == pytest.approx(errors[1])
    assert found.test.discordant > 0
    for workdir, tested in zip(workdirs, found.runs, strict=True):
        assert (tested.workdir, tested.experiment, tested.step) == (workdir, "lenet_digits", 12)
        np.testing.assert_array_equal(tested.index, np.arange(359))
    other = compare.compare(workdirs[::-1])
    np.testing.assert_array_equal(other.test.table, table.T)
    assert other.test.exact == found.test.exact


def test_a_run_does_not_differ_from_itself(trained):
    workdir = trained[0][0]
    found = compare.compare((workdir, workdir))
    assert (found.test.only_first, found.test.only_second) == (0, 0)
    assert (found.test.exact, found.test.chi2_p) == (1, 1)
    assert compare.report(found).endswith("Nothing tells A and B apart: they are right on the very same examples.")


def test_the_checkpoint_asked_for_is_compared(run, trained, monkeypatch):
    restored_state, asked = loop.restored_state, []

    def note(experiment, workdir, which):
        asked.append((workdir, which))
        return restored_state(experiment, workdir, which)

    monkeypatch.setattr(loop, "restored_state", note)
    workdirs, _ = trained
    for which in ("latest", "best"):
        arguments = [f"--workdirs={workdirs[0]},{workdirs[1]}"] + ["--checkpoint=best"] * (which == "best")
        assert run("--mode=compare", *arguments)[0] == 0
        assert asked == [(workdirs[0], which), (workdirs[1], which)]
        asked.clear()


def test_the_report_in_full():
    right = np.array([True] * 80 + [True] + [False] * 9 + [False] * 10)
    other = np.array([True] * 80 + [False] + [True] * 9 + [False] * 10)
    index = np.arange(100)
    runs = (
        compare.Run(Path("runs/a"), "lenet_digits", 9, index, right),
        compare.Run(Path("runs/b"), "resnet_cifar10", 1200, index, other),
    )
    text = compare.report(compare.Comparison(runs, McNemar(80, 1, 9, 10), True))
    assert text.splitlines() == [
        "A: runs/a, lenet_digits at step 9: error 19.00% (19 of 100)",
        "B: runs/b, resnet_cifar10 at step 1200: error 11.00% (11 of 100)",
        "",
        "             B right     B wrong       total",
        "A right           80           1          81",
        "A wrong            9          10          19",
        "total             89          11         100",
        "",
        "McNemar's test, exact (binomial): p = 0.0215",
        "McNemar's test, χ² with continuity correction: χ² = 4.9, p = 0.0269",
        McNemar(80, 1, 9, 10).reading("A", "B"),
    ]
    shapes = compare.report(compare.Comparison(runs, McNemar(80, 1, 9, 10), False))
    assert "different shapes" in shapes.splitlines()[2]
    assert "holds only if they are" in shapes.splitlines()[2]


def source(n=5, names=("cat", "dog"), label=None, image=None, mask=None, size=2):
    arrays = {
        "image": np.arange(n, dtype=np.uint8)[:, None, None, None].repeat(size, 1).repeat(size, 2),
        "label": np.arange(n, dtype=np.int32) % 2,
    }
    for name, change in (("label", label), ("image", image)):
        for at in change or ():
            arrays[name][at] = 1 - arrays[name][at] if name == "label" else 99
    if mask is not None:
        arrays["mask"] = np.array(mask, np.float32)
    return ArraySource(arrays, names)


@pytest.mark.parametrize("batch_size", [2, 5, 8])
@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize(
    ("other", "difference"),
    [
        (source(n=6), "a has 5 and b has 6"),
        (source(names=("cat", "dog", "owl")), "a has 2 classes and b has 3"),
        (source(names=("cat", "cow")), "class 1 is 'dog' in a and 'cow' in b"),
        (source(names=("dog", "cat")), "class 0 is 'cat' in a and 'dog' in b"),
        (source(label=[3, 4]), "2 of the 5 labels differ, the first is number 3"),
        (source(label=[0]), "1 of the 5 labels differ, the first is number 0"),
        (source(image=[1, 4]), "2 of the 5 pictures differ, the first is number 1"),
        (source(mask=[1, 1, 0, 1, 1]), "1 of the 5 pictures can be read in one only, the first is number 2"),
        (source(size=3, label=[2]), "1 of the 5 labels differ, the first is number 2"),
    ],
)
def test_other_examples_are_refused(other, difference, batch_size, workers):
    with pytest.raises(UserError) as error:
        compare.check_same_examples(source(), other, ("a", "b"), batch_size, workers)
    assert str(error.value) == f"a and b were not tested on the same examples: {difference}"


def test_same_examples_pass_and_pictures_of_other_shapes_are_not_compared():
    assert compare.check_same_examples(source(), source(), ("a", "b"), 2)
    assert not compare.check_same_examples(source(), source(size=3), ("a", "b"), 2)
    assert compare.check_same_examples(source(mask=[1, 0, 1, 1, 1]), source(mask=[1, 0, 1, 1, 1]), ("a", "b"), 2)


def test_several_squares_of_a_picture_are_compared():
    def squares(changed=()):
        arrays = {"image": np.zeros((5, 3, 4, 4, 3), np.uint8), "label": np.zeros(5, np.int32)}
        arrays["image"][list(changed), 2, 3, 3, 1] = 9
        return ArraySource(arrays, ("cat", "dog"))

    assert compare.check_same_examples(squares(), squares(), ("a", "b"), 2)
    with pytest.raises(UserError, match="1 of the 5 pictures differ, the first is number 4"):
        compare.check_same_examples(squares(), squares([4]), ("a", "b"), 2)


def test_a_task_without_right_and_wrong_is_refused(trained, monkeypatch):
    workdirs, _ = trained

    class OnlySums:
        def add(self, outputs):
            pass

        def compute(self):
            return {}

    class Other(Classification):
        def metrics(self):
            return OnlySums()

    experiment = small_experiment()
    task = Other(**{field.name: getattr(experiment.task, field.name) for field in dataclasses.fields(Classification)})
    monkeypatch.setattr("experiments.lenet_digits.build", lambda config: dataclasses.replace(experiment, task=task))
    with pytest.raises(UserError, match="whose examples are not simply right or wrong"):
        compare.compare(workdirs)


def test_the_command_prints_the_report(run, trained):
    workdirs, errors = trained
    code, out, err = run("--mode=compare", f"--workdirs={workdirs[0]},{workdirs[1]}")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    for name, line, workdir, error in zip("AB", lines[:2], workdirs, errors, strict=True):
        assert line.startswith(f"{name}: {workdir}, lenet_digits at step 12: error {error:.2%} (")
    numbers = [[int(n) for n in re.findall(r"\d+", line)] for line in lines[4:7]]
    assert [row[0] + row[1] for row in numbers] == [row[2] for row in numbers]
    assert [numbers[0][i] + numbers[1][i] for i in range(3)] == numbers[2]
    assert lines[-3].startswith("McNemar's test, exact (binomial): p = ")


def test_runs_of_other_test_sets_are_refused_in_one_line(run, trained, folder_run):
    code, out, err = run("--mode=compare", f"--workdirs={trained[0][0]},{folder_run}")
    assert (code, out) == (2, "")
    assert len(err.splitlines()) == 1
    assert f"{trained[0][0]} and {folder_run} were not tested on the same examples" in err
    assert "has 10 classes" in err


MISTAKES = {
    "no workdirs": ([], "--mode=compare needs --workdirs=A,B, the folders of two trained runs"),
    "one": (["--workdirs=x"], "the folders of two trained runs, not 1: x"),
    "three": (["--workdirs=x,y,z"], "the folders of two trained runs, not 3: x,y,z"),
    "an empty one": (["--workdirs=x,"], "the folders of two trained runs, not 1: x,"),
    "no run": (["--workdirs=x,y"], "x holds no run: --mode=compare needs"),
    "a config field": (["--workdirs=x,y", "--config.seed=3"], "and no --config.seed=3: each folder says"),
    "an experiment": (["--workdirs=x,y", "--experiment=lenet_digits"], "and no --experiment: each folder says"),
    "a workdir": (["--workdir=x,y"], "and no --workdir: each folder says"),
    "an unknown flag": (["--wrkdirs=x,y"], "no flag --wrkdirs; did you mean workdirs"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_one_line_and_nothing_is_written(run, tmp_path, name):
    arguments, message = MISTAKES[name]
    code, out, err = run("--mode=compare", *arguments)
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert len(err.splitlines()) == 1
    assert message in err
    assert list(tmp_path.iterdir()) == []


def test_a_configuration_that_cannot_be_run_here_is_named(run, trained, tmp_path):
    (tmp_path / "w").mkdir()
    text = (trained[0][0] / "config.json").read_text()
    (tmp_path / "w" / "config.json").write_text(text.replace('"eval_batch_size": 360', '"eval_batch_size": 0'))
    code, _, err = run("--mode=compare", f"--workdirs={trained[0][0]},{tmp_path / 'w'}")
    assert code == 2
    assert err == f"error: {tmp_path / 'w'}: config.eval_batch_size is 0; it must be positive\n"


def test_a_run_without_a_checkpoint_is_named(run, trained, tmp_path):
    (tmp_path / "w").mkdir()
    (tmp_path / "w" / "config.json").write_bytes((trained[0][0] / "config.json").read_bytes())
    code, _, err = run("--mode=compare", f"--workdirs={trained[0][0]},{tmp_path / 'w'}")
    assert code == 2
    assert f"{tmp_path / 'w'} holds no trained state" in err
    assert len(err.splitlines()) == 1
