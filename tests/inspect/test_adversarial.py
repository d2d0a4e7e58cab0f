"""The measures, the table, the curves and the sheet, on outcomes made by hand and on small networks."""

import io
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial
from PIL import Image

from cnnlab import configs, inspection, loop
from cnnlab.data.augment import keys_of
from cnnlab.errors import UserError
from cnnlab.inspect import adversarial, attacks
from cnnlab.inspect.robustness import Attempt, Outcome, attempt, curve, outcome, together
from tests.small import small_experiment, tiny_resnet

PICTURES = np.random.default_rng(0).integers(0, 256, (7, 2, 2, 1), np.uint8)
KEYS = keys_of(jax.random.key(0), jnp.arange(7))


def brightness(offset, x):
    """Two classes: dark and bright."""
    bright = x.mean((1, 2, 3)) - 0.5 + offset
    return jnp.stack([-bright, bright], -1)


DARK_OR_BRIGHT = Partial(brightness, 0.0)


def options(**fields):
    found = configs.options_of("inspect")
    found.update({"inspect": "adversarial", "pictures": 2, "examples": 30, "adversarial": fields})
    return found


def made(name="fgsm", epsilon=0.1, before=(0, 1, 1, 0), after=(0, 0, 0, 1), size=(0.1, 0.2, 0.3, 0.4), elsewhere=None):
    """What an attack might have done to four pictures, of classes 0, 1, 1, 1."""
    sizes = np.array(size, np.float32)
    classes = [None if array is None else np.array(array) for array in (before, after, elsewhere)]
    return Outcome(
        Attempt(name, epsilon, attempt("none").attack), *classes[:2], sizes / 10, sizes, sizes / 2, classes[2]
    )


LABELS = np.array([0, 1, 1, 1])


def test_an_outcome_by_hand():
    labels = np.array([0, 1, 0, 1, 0, 1, 0])
    brighter = Attempt("bright", 0.2, lambda logits, x, labels, keys: jnp.clip(x + 0.2, 0, 1))
    found = outcome(brighter, DARK_OR_BRIGHT, PICTURES, labels, KEYS, 7, "l2", Partial(brightness, -0.1))
    x = PICTURES / 255
    changed = np.minimum(x + 0.2, 1)
    means, flat = changed.mean((1, 2, 3)), (changed - x).reshape(7, 4)
    np.testing.assert_array_equal(found.before, x.mean((1, 2, 3)) > 0.5)
    np.testing.assert_array_equal(found.after, means > 0.5)
    np.testing.assert_array_equal(found.elsewhere, means > 0.6)
    np.testing.assert_allclose(found.distortion, np.sqrt((flat**2).mean(1)), rtol=1e-5)
    np.testing.assert_allclose(found.size, np.linalg.norm(flat, axis=1), rtol=1e-5)
    np.testing.assert_allclose(found.greatest, flat.max(1), rtol=1e-5)


def test_many_pictures_are_attacked_some_at_a_time():
    sizes, one = [], attempt("pgd", 0.1)

    def counted(logits, x, labels, keys):
        sizes.append(len(x))
        return one.attack(logits, x, labels, keys)

    whole = outcome(one, DARK_OR_BRIGHT, PICTURES, np.zeros(7, int), KEYS, 7)
    parts = outcome(Attempt("pgd", 0.1, counted), DARK_OR_BRIGHT, PICTURES, np.zeros(7, int), KEYS, 3)
    assert sizes == [3, 3, 3]
    np.testing.assert_allclose(parts.distortion, whole.distortion, atol=1e-6)
    np.testing.assert_array_equal(parts.after, whole.after)
    assert together(1000, (28, 28, 1)) == 100
    assert together(7, (28, 28, 1)) == 7
    assert together(1000, (227, 227, 3)) == 12


def test_attacks_by_name():
    x, labels = jnp.asarray(PICTURES, jnp.float32) / 255, jnp.zeros(7, jnp.int32)
    np.testing.assert_array_equal(attempt("none").attack(DARK_OR_BRIGHT, x, labels, KEYS), x)
    brighter, darker = jnp.minimum(x + 0.1, 1), jnp.maximum(x - 0.1, 0)
    for name in ("fgsm", "bim", "pgd"):
        for target, wanted in ((None, brighter), (1, brighter), (0, darker)):
            made = attempt(name, 0.1, target=target)
            assert (made.name, made.epsilon) == (name, 0.1)
            np.testing.assert_allclose(made.attack(DARK_OR_BRIGHT, x, labels, KEYS), wanted, atol=1e-5)
    for name in ("deepfool", "lbfgs"):
        assert attempt(name, 0.1).epsilon is None
        found = attempt(name).attack(DARK_OR_BRIGHT, x, labels, KEYS)
        np.testing.assert_allclose(found.mean((1, 2, 3)), jnp.maximum(x.mean((1, 2, 3)), 0.5), atol=0.01)
    to_dark = attempt("lbfgs", target=0).attack(DARK_OR_BRIGHT, x, labels, KEYS)
    np.testing.assert_allclose(to_dark.mean((1, 2, 3)), jnp.minimum(x.mean((1, 2, 3)), 0.5), atol=0.01)
    with pytest.raises(UserError, match="there is no attack 'fgms'; did you mean fgsm"):
        attempt("fgms", 0.1)


def test_a_line_of_the_table_by_hand():
    # Of four pictures three were right, of which two are fooled: those of distortions 0.02 and 0.03.
    assert adversarial.line(made(), LABELS).split() == ["fgsm", "0.1", "50.00%", "66.67%", "0.0250", "0.0300", "0.1500"]
    # To be taken for class 0: two were not to begin with, and both are now.
    assert adversarial.line(made(), LABELS, 0).split()[3] == "100.00%"
    assert adversarial.line(made(), LABELS, 1).split()[3:] == ["50.00%", "0.0400", "0.0400", "0.2000"]
    other = adversarial.line(made("lbfgs", None, after=(0, 1, 1, 0), elsewhere=(0, 1, 1, 1)), LABELS).split()
    assert other == ["lbfgs", "75.00%", "0.00%", "–", "–", "–", "100.00%"]
    assert len(adversarial.line(made(elsewhere=LABELS), LABELS)) == len(adversarial.header(True))


def test_curves_by_hand():
    rising = [made("none", 0.0, after=(0, 1, 1, 0)), made(epsilon=0.1), made(epsilon=0.2, after=(1, 0, 0, 1))]
    assert curve(rising, LABELS, 0.2) == ([0.0, 0.1, 0.2], [0.75, 0.5, 0.25])
    # The first is right to 0.1, the second to 0.2; the last is wrong, and right from 0.4 on.
    x, y = curve([made("deepfool", None, after=(1, 0, 1, 1))], LABELS, 0.5)
    found = dict(zip(np.round(x, 3), y, strict=True))
    assert [found[at] for at in (0.0, 0.09, 0.11, 0.19, 0.21, 0.39, 0.41)] == [0.75, 0.75, 0.5, 0.5, 0.25, 0.25, 0.5]


def test_the_curves_are_drawn():
    panel = [made("none", 0.0, after=(0, 1, 1, 0), elsewhere=LABELS), made(elsewhere=LABELS), made("lbfgs", None)]
    drawn = adversarial.curves({"against A": panel, "against B": panel[:2]}, LABELS, "l2", "Both")
    first, second = drawn.axes
    assert [line.get_label() for line in first.lines] == ["fgsm", "fgsm, the other network", "lbfgs, least in L2"]
    assert first.lines[0].get_ydata().tolist() == [75, 50]
    assert first.lines[1].get_ydata().tolist() == [100, 100]
    assert second.get_title() == "against B"
    assert "length of the change" in first.get_xlabel()


def test_pictures_are_shown_at_the_least_that_fools():
    shown = np.array([115, 97, 26, 179], np.uint8).reshape(4, 1, 1, 1)
    tried, labels = [attempt("fgsm", epsilon) for epsilon in (0.1, 0.2, 0.3)], np.zeros(4, int)
    found = adversarial.fooling(tried, DARK_OR_BRIGHT, shown, labels, KEYS[:4], 3)
    assert found.epsilons == (0.1, 0.2, 0.3, 0.3)
    became = np.array([115 / 255 + 0.1, 97 / 255 + 0.2, 26 / 255 + 0.3, 1])
    np.testing.assert_allclose(found.pictures.ravel(), became, atol=1e-6)
    bright = 1 / (1 + np.exp(1 - 2 * became))
    np.testing.assert_allclose(found.probabilities, np.stack([1 - bright, bright], 1), atol=1e-5)
    # The last is bright to begin with: for that target the least is enough.
    found = adversarial.fooling([attempt("fgsm", 0.1, target=1)] * 2, DARK_OR_BRIGHT, shown, labels, KEYS[:4], 4, 1)
    assert found.epsilons == (0.1, 0.1, 0.1, 0.1)


def test_the_sheet_says_what_is_seen():
    picture = np.full((1, 2, 2, 1), 51, np.uint8)
    changed, after = np.full((1, 2, 2, 1), 0.3, np.float32), np.array([[0.1, 0.9]], np.float32)
    changed[0, 0] = 0.2
    fooled = adversarial.Fooling("fgsm", (0.1,), changed, after)
    stays = adversarial.Fooling("lbfgs", (None,), np.full((1, 2, 2, 1), 0.2, np.float32), after[:, ::-1])
    drawn = adversarial.sheet(picture, ["dark"], after[:, ::-1], [fooled, stays], ("dark", "bright"))
    titles = [axes.get_title() for axes in drawn.axes]
    assert titles[:3] == ["dark: taken for dark\n(90.0%)", "fgsm, ε 0.1\n× 5", "taken for bright\n(90.0%)"]
    assert titles[3:] == ["lbfgs\nno change", "taken for dark\n(90.0%)"]
    assert [axes.title.get_color() for axes in drawn.axes[2::2]] == ["tab:red", "black"]
    np.testing.assert_allclose(drawn.axes[1].images[0].get_array(), [[0.5, 0.5], [1, 1]], atol=1e-5)
    drawn.savefig(io.BytesIO())


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A LeNet after 60 steps, and its folder."""
    folder = tmp_path_factory.mktemp("runs") / "lenet"
    experiment = small_experiment(steps=60, eval_every=60)
    loop.train(experiment, folder)
    return experiment, folder


def rows_of(output, name):
    return [line.split() for line in output.splitlines() if line.startswith(name)]


def test_all_attacks_on_the_users_own_pictures(trained, tmp_path, capsys):
    experiment, folder = trained
    batch = experiment.test_data().batch(np.arange(4))
    for i, picture in enumerate(batch["image"]):
        Image.fromarray(picture[..., 0]).save(tmp_path / f"{i}.png")
    subject = inspection.subject_of(experiment, folder, files=tuple(sorted(tmp_path.glob("*.png"))))
    asked = options(attacks="lbfgs,fgsm,pgd,deepfool", epsilons="0.3,0.1", steps=4)
    inspection.inspect_and_save(subject, folder, asked)
    output = capsys.readouterr().out
    assert "4 pictures against lenet_digits\n" in output
    assert rows_of(output, "none")[0][2:4] == ["100.00%", "0.00%"]
    for name in ("fgsm", "pgd"):
        assert [row[1] for row in rows_of(output, name)] == ["0.1", "0.3"]
    for name in ("deepfool", "lbfgs"):
        assert rows_of(output, name)[0][1:3] == ["0.00%", "100.00%"]
    x = jnp.asarray(batch["image"], jnp.float32) / 255
    logits = lambda x: subject.logits(255 * x)
    labels = jnp.asarray(subject.labels)
    fooled = attacks.fgsm(logits, x, labels, epsilon=0.3)
    assert rows_of(output, "fgsm")[1][2] == f"{np.mean(logits(fooled).argmax(-1) == labels):.2%}"
    for name in ("adversarial", "adversarial_pictures"):
        with Image.open(folder / "figures" / f"{name}.png") as drawn:
            assert drawn.width > 500


def test_for_a_target_its_own_pictures_are_left_out(trained, capsys):
    experiment, folder = trained
    subject = inspection.subject_of(experiment, folder, count=2)
    drawn = adversarial.draw(subject, options(attacks="bim", epsilons="0.4", steps=10, target="3"))
    output = capsys.readouterr().out
    batch = next(subject.examples(30))
    assert f"{(batch['label'] != 3).sum()} pictures against lenet_digits, to be taken for 3" in output
    assert float(rows_of(output, "bim")[0][3].rstrip("%")) > 90
    taken = [axes.get_title() for axes in drawn["adversarial_pictures"].axes[2::3]]
    assert [title.split("\n")[0] for title in taken] == ["taken for 3"] * 2


def test_what_fools_one_is_shown_to_the_other(trained, capsys):
    experiment, folder = trained
    subject = inspection.subject_of(experiment, folder, count=1)
    drawn = adversarial.draw(subject, options(attacks="fgsm", epsilons="0.1", transfer_to=str(folder)))
    output = capsys.readouterr().out
    for name in ("none", "fgsm"):
        # The other network is the same one, and so are both tables.
        first, second = rows_of(output, name)
        assert first == second
        assert first[2] == first[-1]
    assert [axes.get_title() for axes in drawn["adversarial"].axes] == [
        "against this network",
        f"against {folder} (lenet_digits)",
    ]


def test_a_network_with_batch_normalisation(tmp_path, capsys):
    experiment = tiny_resnet(steps=1)
    loop.train(experiment, tmp_path / "run")
    subject = inspection.subject_of(experiment, tmp_path / "run", count=1)
    asked = options(attacks="fgsm", epsilons="0.02")
    asked.examples = 2
    drawn = adversarial.draw(subject, asked)
    assert len(drawn["adversarial_pictures"].axes) == 3
    assert "2 pictures against resnet_cifar10" in capsys.readouterr().out


def test_what_is_out_of_range(trained, tmp_path):
    experiment, folder = trained
    subject = inspection.subject_of(experiment, folder, count=1)
    other = tiny_resnet(steps=1)
    loop.train(other, tmp_path / "resnet")
    shutil.copytree(folder, tmp_path / "untrained", ignore=shutil.ignore_patterns("checkpoints"))
    for fields, error in (
        ({"attacks": "fgsm,pdg"}, "there is no attack 'pdg'; did you mean pgd"),
        ({"attacks": " "}, r"config\.adversarial\.attacks is ' '; write it as in fgsm,pgd"),
        ({"epsilons": "0.1,x"}, r"config\.adversarial\.epsilons is '0.1,x'; write it as in 0.1,0.25"),
        ({"epsilons": "0.1,1.5"}, r"config\.adversarial\.epsilons is 1.5; .* it must be from 0 to 1$"),
        ({"epsilons": "-0.1"}, r"config\.adversarial\.epsilons is -0.1"),
        ({"epsilons": "29", "norm": "l2"}, r"in the norm l2 it must be from 0 to 28$"),
        ({"norm": "l1"}, r"config\.adversarial\.norm is 'l1'; did you mean l2"),
        ({"steps": 0}, r"config\.adversarial\.steps is 0; it must be at least 1"),
        ({"target": "ten"}, "there is no class 'ten'"),
        ({"transfer_to": str(tmp_path / "none")}, "none holds no run"),
        ({"transfer_to": str(tmp_path / "untrained")}, "untrained holds no trained state"),
        ({"transfer_to": str(tmp_path / "resnet")}, "pictures of shape 8, 8, 3; this network, 28, 28, 1"),
    ):
        with pytest.raises(UserError, match=error) as caught:
            adversarial.draw(subject, options(**fields))
        assert "\n" not in str(caught.value)
