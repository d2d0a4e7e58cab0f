"""Published weights: names against torchvision's own, layouts by hand, what an error lists, files and the hub."""

import hashlib
import sys
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict
from safetensors.numpy import load_file, save_file

from cnnlab import weights
from cnnlab.errors import UserError
from cnnlab.models.alexnet import AlexNet
from cnnlab.models.googlenet import GoogLeNet
from cnnlab.models.inception_v3 import InceptionV3
from cnnlab.models.lenet import LeNet
from cnnlab.models.resnet import ResNet
from cnnlab.models.vgg import VGG
from cnnlab.published import convention, published
from tests.small import same, shapes
from tests.torch_pickles import save

# Of the lines "name shape" of torchvision 0.29's state dicts, sorted: how many, and how their SHA-256 begins.
DICTS = {
    "alexnet": (AlexNet(variant="one_column"), 16, "935c1ea73a7869ee"),
    "vgg11": (VGG("A"), 22, "b11acd4f90d9643f"),
    "vgg11_bn": (VGG("A", batch_norm=True), 54, "eb52f2d89ad478d4"),
    "vgg13": (VGG("B"), 26, "79ca8fd7a1480aa7"),
    "vgg13_bn": (VGG("B", batch_norm=True), 66, "e71996a6a29bacd7"),
    "vgg16": (VGG("D"), 32, "ba63c2556d912509"),
    "vgg16_bn": (VGG("D", batch_norm=True), 84, "d8308b804a50efac"),
    "vgg19": (VGG("E"), 38, "393fac8b08b63fbe"),
    "vgg19_bn": (VGG("E", batch_norm=True), 102, "8f342fea647d72df"),
    "resnet18": (ResNet(18), 102, "2bb53b15765c4651"),
    "resnet34": (ResNet(34), 182, "b945021fb00b779b"),
    "resnet50": (ResNet(50, stride_on_3x3=True), 267, "cf11dad974eadeaa"),
    "resnet101": (ResNet(101, stride_on_3x3=True), 522, "d916ed2068e1af5d"),
    "resnet152": (ResNet(152, stride_on_3x3=True), 777, "2fe195791c8ffb5f"),
    "googlenet": (GoogLeNet("published"), 305, "732f27ed6f1a18ed"),
    "inception_v3": (InceptionV3(), 484, "b57ada785681682b"),
}


def first_shapes(model, size):
    """The variables' shapes, for pictures of size×size."""
    x = jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)
    return jax.eval_shape(lambda x: model.init(jax.random.key(0), x), x)


def pytorch_shape(shape):
    return {4: lambda h, w, i, o: (o, i, h, w), 2: lambda i, o: (o, i), 1: lambda c: (c,)}[len(shape)](*shape)


@pytest.mark.parametrize("name", DICTS)
def test_names_and_shapes_are_torchvisions(name):
    model, count, digest = DICTS[name]
    variables = first_shapes(model, convention(model).size)
    leaves = flatten_dict(variables)
    lines = sorted(f"{n} {pytorch_shape(leaves[p].shape)}" for p, n in weights.torch_names(model, variables).items())
    assert len(lines) == count
    assert hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16] == digest


@pytest.mark.parametrize("model", [AlexNet("one_column"), VGG("A")])
def test_the_map_that_is_flattened(model):
    channels, height, width = published(model).flattened["fc6"]
    assert shapes(model)[1]["pool5"][1:] == (height, width, channels)


def test_a_flattened_map_is_permuted():
    """What a fully connected layer computes of a map is the same in both layouts."""
    rng = np.random.default_rng(0)
    maps, matrix = rng.normal(size=(5, 2, 3, 4)), rng.normal(size=(7, 24))  # channels last; out, in
    theirs = maps.transpose(0, 3, 1, 2).reshape(5, -1) @ matrix.T
    ours = weights.from_torch(matrix, flattened=(4, 2, 3))
    assert np.allclose(maps.reshape(5, -1) @ ours, theirs)
    assert np.array_equal(weights.to_torch(ours, flattened=(4, 2, 3)), matrix)
    by_hand = np.array([[10, 11, 12, 13, 20, 21, 22, 23]])  # channel 1's 2×2 pixels, then channel 2's
    assert weights.from_torch(by_hand, flattened=(2, 2, 2)).ravel().tolist() == [10, 20, 11, 21, 12, 22, 13, 23]


def test_filters_and_matrices_are_transposed():
    filters = np.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5)  # out, in, height, width
    ours = weights.from_torch(filters)
    assert ours.shape == (4, 5, 3, 2)
    assert ours[3, 1, 2, 0] == filters[0, 2, 3, 1]
    assert np.array_equal(weights.to_torch(ours), filters)
    assert weights.from_torch(np.array([[1, 2, 3], [4, 5, 6]])).tolist() == [[1, 4], [2, 5], [3, 6]]
    assert weights.from_torch(np.array([1, 2])).tolist() == [1, 2]


def random_variables(model, size=32, seed=0):
    """Normal random numbers in the place of every variable."""
    rng = np.random.default_rng(seed)
    tree = first_shapes(model, size)
    return jax.tree.map(lambda leaf: jnp.asarray(rng.standard_normal(leaf.shape, np.float32)), tree)


@pytest.fixture(scope="module")
def resnet(tmp_path_factory):
    """A ResNet of 3 classes, its variables and their file."""
    model = ResNet(18, num_classes=3)
    variables = random_variables(model)
    path = tmp_path_factory.mktemp("weights") / "resnet.safetensors"
    weights.export_torchvision(model, variables, path)
    return model, variables, path


def test_out_and_in_again_bit_for_bit(resnet):
    model, variables, path = resnet
    read = weights.load_torchvision(str(path), model, first_shapes(model, 32))
    assert jax.tree.structure(read) == jax.tree.structure(variables)
    assert same(read, variables)


def test_values_by_name(resnet):
    _, variables, path = resnet
    tensors, params, stats = load_file(path), variables["params"], variables["batch_stats"]
    block = "layer2.0.downsample"
    assert np.array_equal(tensors[f"{block}.0.weight"], params["conv3_1"]["shortcut"]["kernel"].transpose(3, 2, 0, 1))
    assert np.array_equal(tensors[f"{block}.1.weight"], params["conv3_1"]["shortcut_bn"]["scale"])
    assert np.array_equal(tensors[f"{block}.1.bias"], params["conv3_1"]["shortcut_bn"]["bias"])
    assert np.array_equal(tensors[f"{block}.1.running_mean"], stats["conv3_1"]["shortcut_bn"]["mean"])
    assert np.array_equal(tensors[f"{block}.1.running_var"], stats["conv3_1"]["shortcut_bn"]["var"])
    assert np.array_equal(tensors["fc.weight"], params["fc"]["kernel"].T)


@pytest.mark.parametrize("legacy", [False, True])
def test_a_pth_file_of_a_checkpoint(resnet, tmp_path, legacy):
    model, variables, path = resnet
    tensors = {f"module.{name}": tensor for name, tensor in load_file(path).items()}
    tensors["module.bn1.num_batches_tracked"] = np.array(7)
    pth = save(tmp_path / "x.pth", {"state_dict": tensors, "epoch": 90}, legacy)
    assert same(weights.load_torchvision(str(pth), model, variables), variables)


def altered(resnet, tmp_path, **changes):
    """The ResNet's file with tensors added, replaced, or, where None is given, left out; dots are written as "__"."""
    tensors = load_file(resnet[2])
    for name, tensor in changes.items():
        tensors.pop(name.replace("__", "."), None)
        if tensor is not None:
            tensors[name.replace("__", ".")] = tensor
    save_file(tensors, tmp_path / "altered.safetensors")
    return str(tmp_path / "altered.safetensors")


def test_every_misfit_is_listed(resnet, tmp_path):
    model, variables, _ = resnet
    changes = {
        "conv1__weight": None,
        "layer4__1__bn2__running_var": None,
        "layer5__0__conv1__weight": np.zeros((2, 2), np.float32),
        "bn1__weight": np.zeros(65, np.float32),
        "bn1__bias": np.zeros(64, np.int32),
    }
    with pytest.raises(UserError) as error:
        weights.load_torchvision(altered(resnet, tmp_path, **changes), model, variables)
    message = str(error.value)
    assert "altered.safetensors does not fit this ResNet; " in message
    assert "2 missing: layer4.1.bn2.running_var, conv1.weight; " in message
    assert "1 left over: layer5.0.conv1.weight; " in message
    assert "1 of another shape: bn1.weight (65,) instead of (64,); " in message
    assert message.endswith("1 of no floating type: bn1.bias int32")
    assert "\n" not in message


def test_another_number_of_classes(resnet):
    _, variables, path = resnet
    model = ResNet(18, num_classes=5)
    fresh = random_variables(model, seed=1)
    with pytest.raises(UserError, match=r"has 3 classes and not 5: replace the head \(--config\.replace_head=True\)"):
        weights.load_torchvision(str(path), model, fresh)
    read = weights.load_torchvision(str(path), model, fresh, replace_head=True)
    assert same(read["params"].pop("fc"), fresh["params"]["fc"])
    assert same(read["params"], {name: leaf for name, leaf in variables["params"].items() if name != "fc"})
    assert same(read["batch_stats"], variables["batch_stats"])


def test_a_replaced_head_may_be_missing(resnet, tmp_path):
    model, variables, _ = resnet
    source = altered(resnet, tmp_path, fc__weight=None, fc__bias=None)
    assert same(weights.load_torchvision(source, model, variables, replace_head=True), variables)
    with pytest.raises(UserError, match=r"2 missing: fc\.\w+, fc\.\w+$"):
        weights.load_torchvision(source, model, variables)


def test_other_ways_to_hold_the_same(resnet, tmp_path):
    """Half precision, and a fully connected layer as a convolution."""
    model, variables, path = resnet
    tensors = load_file(path)
    half = tensors["conv1.weight"].astype(np.float16)
    matrix = tensors["fc.weight"]
    source = altered(resnet, tmp_path, conv1__weight=half, fc__weight=matrix.reshape(3, 128, 2, 2))
    read = weights.load_torchvision(source, model, variables)["params"]
    assert read["conv1"]["kernel"].dtype == jnp.float32
    assert np.array_equal(read["conv1"]["kernel"], half.astype(np.float32).transpose(2, 3, 1, 0))
    assert np.array_equal(read["fc"]["kernel"], matrix.T)


def test_names_of_another_library():
    aliases = published(VGG("D")).aliases
    names = ("features.0.weight", "pre_logits.fc1.weight", "pre_logits.fc2.bias", "head.fc.weight")
    renamed = ["features.0.weight", "classifier.0.weight", "classifier.3.bias", "classifier.6.weight"]
    assert [weights.torchvision_name(name, aliases) for name in names] == renamed


def test_auxiliary_heads_may_be_left_out(tmp_path):
    model = GoogLeNet("published", num_classes=3)
    variables = random_variables(model, 64)
    path = tmp_path / "googlenet.safetensors"
    weights.export_torchvision(model, variables, path)
    read = weights.load_torchvision(str(path), model, variables)
    assert same(read, variables)
    kernel, tensor = variables["params"]["auxiliary4a"]["fc"]["kernel"], load_file(path)["aux1.fc1.weight"]
    assert tensor[5].reshape(128, 4, 4)[7, 1, 2] == kernel.reshape(4, 4, 128, 1024)[1, 2, 7, 5]
    alone = GoogLeNet("published", num_classes=3, auxiliary=False)
    rest = {
        part: {name: leaf for name, leaf in tree.items() if not name.startswith("auxiliary")}
        for part, tree in variables.items()
    }
    read = weights.load_torchvision(str(path), alone, jax.tree.map(jnp.zeros_like, rest))
    assert jax.tree.structure(read) == jax.tree.structure(rest)
    assert same(read, rest)
    # The other way round they are missing: 7 parameters and 2 statistics each.
    weights.export_torchvision(alone, read, path)
    with pytest.raises(UserError, match=r"18 missing: aux1\."):
        weights.load_torchvision(str(path), model, variables)


@pytest.mark.parametrize(
    ("model", "instead"),
    [
        (AlexNet(), 'this AlexNet: variant="one_column" has them'),
        (VGG("C"), 'this VGG: configuration="A", "B", "D" and "E" have them'),
        (VGG("A-LRN"), 'this VGG: configuration="A", "B", "D" and "E" have them'),
        (ResNet(50), 'this ResNet: plain=False, option="B", stride_on_3x3=True has them'),
        (ResNet(34, plain=True), "this ResNet: plain=False"),
        (ResNet(18, option="A"), "this ResNet: plain=False"),
        (GoogLeNet(), 'this GoogLeNet: variant="published" has them'),
        (LeNet(), "this LeNet: AlexNet, VGG, GoogLeNet, InceptionV3 and ResNet have them"),
    ],
)
def test_what_has_no_published_weights(tmp_path, model, instead):
    for call in (
        lambda: weights.load_torchvision("x.pth", model, {}),
        lambda: weights.export_torchvision(model, {}, tmp_path / "x.safetensors"),
        lambda: convention(model),
    ):
        with pytest.raises(UserError) as error:
            call()
        assert f"no weights are published for {instead}" in str(error.value)
    assert not list(tmp_path.iterdir())


def test_pictures_of_another_size():
    model = VGG("A")
    with pytest.raises(UserError, match=r"fc6 .* sees 32768 values, .* 25088: give it pictures of 224×224"):
        weights.load_torchvision("x.pth", model, first_shapes(model, 256))


def test_conventions():
    for model in (AlexNet("one_column"), VGG("A"), ResNet(18)):
        expected = convention(model)
        assert (expected.size, expected.resize) == (224, 256)
        white = expected.normalise(jnp.full((1, 1, 1, 3), 255, jnp.uint8)).ravel()
        assert np.allclose(white, [0.515 / 0.229, 0.544 / 0.224, 0.594 / 0.225], atol=1e-5)
    for model, sizes in ((GoogLeNet("published"), (224, 256)), (InceptionV3(), (299, 342))):
        expected = convention(model)
        assert (expected.size, expected.resize) == sizes
        ends = expected.normalise(jnp.array([[[[0, 255, 255]]]], jnp.uint8)).ravel()
        assert np.allclose(ends, [-1, 1, 1], atol=1e-6)


def test_bad_files(resnet, tmp_path):
    model, variables, path = resnet
    read = lambda source: weights.load_torchvision(str(source), model, variables)
    content = path.read_bytes()
    bad = tmp_path / "bad.safetensors"
    for length in (9, 100, len(content) // 2, len(content) - 1):
        bad.write_bytes(content[:length])
        with pytest.raises(UserError, match=r"bad\.safetensors is damaged or cut short: "):
            read(bad)
    header = b'{"w":{"dtype":"F8_E4M3","shape":[2],"data_offsets":[0,2]}}'
    bad.write_bytes(len(header).to_bytes(8, "little") + header + b"ab")
    with pytest.raises(UserError, match=r"bad\.safetensors holds tensors of a type that cannot be read"):
        read(bad)
    for foreign in (b"", b"GIF89a...", b"<html>nothing here</html>"):
        bad.write_bytes(foreign)
        with pytest.raises(UserError, match=r"bad\.safetensors is neither a \.safetensors nor a \.pth file"):
            read(bad)
    for missing in (tmp_path / "none.pth", "none.pth", "folder/none.pth", tmp_path, "no way to/name it", ""):
        with pytest.raises(UserError, match="is no weights file: name a"):
            read(missing)
    with pytest.raises(UserError, match=r"x\.pth is no \.safetensors file"):
        weights.export_torchvision(model, variables, tmp_path / "x.pth")
    assert not (tmp_path / "x.pth").exists()


@pytest.mark.parametrize("module", ["safetensors.numpy", "huggingface_hub"])
def test_an_extra_that_is_not_installed(resnet, monkeypatch, module):
    model, variables, path = resnet
    monkeypatch.setitem(sys.modules, module, None)
    source = str(path) if module == "safetensors.numpy" else "timm/resnet18.tv_in1k"
    said = rf"this needs {module.partition('.')[0]}: pip install -e '\.\[weights\]'"
    with pytest.raises(UserError, match=said):
        weights.load_torchvision(source, model, variables)


@pytest.fixture
def hub(monkeypatch):
    """A hub that answers with what `answer` is set to, a path or an error; it keeps what it was asked for."""
    errors = pytest.importorskip("huggingface_hub.errors")
    place = types.SimpleNamespace(answer=None, asked=[], errors=errors)

    def download(repository, file):
        place.asked.append((repository, file))
        if isinstance(place.answer, Exception):
            raise place.answer
        return str(place.answer)

    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    return place


def test_a_file_on_the_hub(resnet, hub):
    model, variables, hub.answer = resnet
    for source in ("timm/resnet18.tv_in1k", "me/nets/sub/net.safetensors", "me/nets/old.pth"):
        assert same(weights.load_torchvision(source, model, variables), variables)
    asked = [("timm/resnet18.tv_in1k", "model.safetensors"), ("me/nets", "sub/net.safetensors"), ("me/nets", "old.pth")]
    assert hub.asked == asked


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("LocalEntryNotFoundError", "the hub cannot be reached and the file was not downloaded before"),
        ("RepositoryNotFoundError", "there is no such file here, and no such repository on the hub"),
        (
            "RemoteEntryNotFoundError",
            r"timm/none on the hub has no file model\.safetensors: name one, as OWNER/NAME/FILE",
        ),
        ("HFValidationError", "cannot be fetched from the hub: HFValidationError"),
    ],
)
def test_the_hubs_errors(hub, kind, said):
    error = getattr(hub.errors, kind)
    hub.answer = error.__new__(error)
    hub.answer.args = (kind,)
    with pytest.raises(UserError, match=said):
        weights.find("timm/none")
