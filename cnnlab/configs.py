"""Experiment files and their configurations: finding them, overriding fields, building experiments."""

import ast
import errno
import importlib
import json
import math
import pkgutil
import re
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from absl import flags, logging
from ml_collections import ConfigDict, config_flags

import experiments
from cnnlab import workdirs
from cnnlab.errors import Interrupted, UserError, nearest
from cnnlab.experiment import Experiment
from cnnlab.inspect.options import get_options

MODES = ("train", "eval", "predict", "compare", "inspect", "summary", "benchmark", "prepare", "export")
SEVERAL = ("compare", "eval")  # modes that take several workdirs


def names() -> list[str]:
    """The experiments that there are, sorted."""
    return sorted(module.name for module in pkgutil.iter_modules(experiments.__path__))


def load(name: str) -> ModuleType:
    """The module of an experiment.

    Raises:
      UserError: there is none of that name; the nearest names are given.
    """
    if name not in names():
        raise UserError(
            f"there is no experiment {name!r}{nearest(name, names()) or ': it is one of ' + ', '.join(names())}"
        )
    return importlib.import_module(f"experiments.{name}")


def first_lines() -> dict[str, str]:
    """Each experiment's first docstring line, by name; read without importing, so that the list comes at once."""
    found = {}
    for name in names():
        source = (Path(experiments.__path__[0]) / f"{name}.py").read_text()
        found[name] = (ast.get_docstring(ast.parse(source)) or "").partition("\n")[0]
    return found


def listing() -> str:
    """The experiments, a line each, and how to run one."""
    lines = [f"{name:22} {line}" for name, line in first_lines().items()]
    how = "Run one with: python launch.py --experiment=NAME [--mode=...] [--config.field=value]"
    return "\n".join([*lines, "", how])


def choose(experiment: str | None, workdir: str | None, trains: bool) -> tuple[str, Path, ConfigDict]:
    """The experiment's name, its workdir, and its configuration before overrides.

    Without `experiment` the workdir's own is used. Training by name starts from the file's defaults; everything else
    from the configuration that the workdir was trained with.
    """
    folder = Path(workdir).expanduser() if workdir else Path("runs") / experiment
    found = workdirs.read(folder)
    if experiment is None and found is None:
        raise UserError(f"{folder} holds no run: name an --experiment, or the --workdir of a run")
    name = experiment or found["experiment"]
    config = load(name).get_config()
    if found and found["experiment"] != name and not trains:
        raise UserError(f"{folder} holds a run of {found['experiment']}, not of {name}")
    if found and found["experiment"] == name and not (trains and experiment):
        config = update(config, found["config"])
    return name, folder, config


def build_from(workdir: Path, stored_size: int = 0) -> Experiment:
    """The experiment that a workdir holds, of the configuration that it was trained with.

    Args:
      workdir: the run's folder.
      stored_size: of the pictures before they are cropped, in pixels, in place of that in training; 0: the same.

    Raises:
      UserError: the folder holds no run, it cannot be built here, or its pictures are stored in one size only.
    """
    name, _, config = choose(None, str(workdir), trains=False)
    workdirs.refuse_series(workdir)
    if stored_size:
        if "stored_size" not in config:
            raise UserError(f"{workdir} holds a run of {name}, which has no config.stored_size: leave it out")
        config.stored_size = stored_size
    try:
        return load(name).build(config)
    except UserError as error:  # the devices here are others, say, than those it was trained on
        raise UserError(f"{workdir}: {error}") from error


def run_of_task(folder: Path, task: type, field: str, what: str) -> Experiment:
    """The experiment that a folder holds, which must be of some task.

    Args:
      folder: that a config field names.
      task: the class of its task.
      field: the config field, for the message.
      what: a run of that task in a word, likewise.

    Raises:
      UserError: the folder holds no run, that of another task, or a whole series.
    """
    experiment = build_from(folder) if workdirs.read(folder) and not workdirs.holds_series(folder) else None
    if not isinstance(getattr(experiment, "task", None), task):
        raise UserError(f"{field} is {folder}, which holds no {what}: name the workdir of a trained one")
    return experiment


def several_workdirs(text: str | None, mode: str, beside: Sequence[str] = ()) -> tuple[Path, ...]:
    """The folders that --workdirs names, for the modes that take several.

    Args:
      text: the flag's value, None where it is missing.
      mode: "compare", which takes two, or "eval", which takes two or more.
      beside: flags that have no place beside it; the runs' folders say what they would.

    Raises:
      UserError: there are too few or too many, a folder holds no run, or a flag has no place here.

    >>> several_workdirs("runs/a", "compare")
    Traceback (most recent call last):
    cnnlab.errors.UserError: --mode=compare needs --workdirs=A,B, the folders of two trained runs, not 1: runs/a
    """
    usage = f"--mode={mode} needs --workdirs=A,B, the folders of two trained runs"
    if mode not in SEVERAL:
        raise UserError(f"--workdirs is for --mode={' and --mode='.join(SEVERAL)}; --mode={mode} takes one --workdir")
    if beside:
        raise UserError(f"{usage}, and no {beside[0]}: each folder says what was run in it")
    names = [name.strip() for name in (text or "").split(",")]
    if not text or len(names) < 2 or (mode == "compare" and len(names) > 2) or not all(names):
        given = [name for name in names if name]
        raise UserError(usage + (f", not {len(given)}: {text}" if text else ""))
    folders = tuple(Path(name).expanduser() for name in names)
    for folder in folders:
        if workdirs.read(folder) is None:
            raise UserError(f"{folder} holds no run: {usage}")
    return folders


def update(config: ConfigDict, values: Mapping[str, Any]) -> ConfigDict:
    """A copy of `config` with the fields of a saved configuration; fields that either lacks keep the default."""
    config = config.copy_and_resolve_references()
    flat = workdirs.flatten(config.to_dict())
    saved = {name: value for name, value in workdirs.flatten(values).items() if name in flat}
    for name, value in saved.items():
        saved[name] = tuple(value) if isinstance(value, list) else value
    config.update_from_flattened_dict(saved)
    return config


def options_of(mode: str, several: bool = False) -> ConfigDict:
    """Fields that a mode has beside the experiment's own, on one workdir or several; they are no part of a run."""
    options = ConfigDict()
    if mode == "eval":
        options.eval = ConfigDict()
        options.eval.crops = 1  # views of a picture to average over: the centre; 10: AlexNet; 144 or 48: GoogLeNet
        options.eval.ranks = ()  # of Fast and Faster R-CNN: fc6 and fc7 cut to these ranks, (1024, 256) for VGG-16
        options.eval.dense = ""  # VGG on whole pictures of these sizes and their mirror images: "256,384,512"
        if several:
            options.stored_size = 0  # of pictures before they are cropped, as many views of large nets need
    elif mode == "export":
        options.export = ConfigDict()
        options.export.format = "program"  # runs with JAX alone; "torchvision": weights for its net of the same kind
        options.export.batch_size = 0  # pictures that a program takes at once; 0: any number
    elif mode == "inspect":
        options = get_options()
    elif mode == "predict":
        options.num_samples = 64  # of nets that make pictures: how many; with --input they judge pictures instead
        options.label = ""  # of nets that make pictures of classes: which, by name or number; "": all in turn
        options.query = ""  # of nets that know sentences: one, which the pictures are ranked by
        options.regions = False  # of nets that describe pictures: describe each region that config.detector finds
    return options


def check_overrides(config: ConfigDict, arguments: list[str]) -> None:
    """Raises a `UserError` for the first `--config.field=value` that names no field or has a value of another type."""
    fields = workdirs.flatten(config.to_dict())
    for argument in arguments:
        if not argument.startswith(("--config.", "--noconfig.")):
            continue
        name, equals, text = argument.lstrip("-").partition("=")
        field = name.partition(".")[2]
        if field not in fields:
            near = nearest(field, fields, prefix="config.")
            raise UserError(f"there is no field config.{field}{near or ': it has ' + ', '.join(fields)}")
        kind = type(fields[field])
        if not equals and kind is not bool:
            raise UserError(f"config.{field} needs a value: --config.{field}={fields[field]!r}, say")
        if equals and kind is tuple and not _parses_tuple(text, fields[field]):
            now = ",".join(map(str, fields[field])) or "1,2"
            raise UserError(f"config.{field} takes values with commas between, as in {now}, or (): not {text!r}")
        if equals and not _parses(text, kind):
            raise UserError(f"config.{field} is of type {kind.__name__} (now {fields[field]!r}), not {text!r}")


def override(
    known: flags.FlagValues, argv: list[str], rest: list[str], config: ConfigDict, options: ConfigDict
) -> None:
    """Reads the `--config.*` flags into an experiment's configuration and its mode's options.

    Args:
      known: the launcher's flags.
      argv: the command line.
      rest: what of it is none of the launcher's flags.
      config, options: changed in place.

    Raises:
      UserError: a field that there is not, or a value of another type; a flag that there is not.
    """
    both = ConfigDict({**config, **options}, convert_dict=False)
    check_overrides(both, rest)
    refuse_unknown([argument for argument in rest if "config." not in argument], known)
    read = config_flags.DEFINE_config_dict("config", both)
    known(argv)
    for fields in (config, options):
        fields.update({name: read.value[name] for name in fields})


def beside_workdirs(known: flags.FlagValues, rest: list[str], options: ConfigDict) -> list[str]:
    """The flags of a command line that have no place beside --workdirs: those of one experiment.

    Raises:
      UserError: an argument is no flag at all.
    """
    refuse_unknown([argument for argument in rest if "config." not in argument], known)
    named = [f"--{name}" for name in ("experiment", "workdir", "input") if known[name].present]
    fields = (argument for argument in rest if argument.lstrip("-").startswith(("config.", "noconfig.")))
    return named + [field for field in fields if re.split("[.=]", field.partition("config.")[2])[0] not in options]


def _parses_tuple(text: str, default: tuple) -> bool:
    """Whether a flag's text is a tuple, of numbers where the default has numbers; the empty one is written ().

    >>> [_parses_tuple(text, (30.0, 60.0)) for text in ("10,20", "(5,)", "()", "", "10;20")]
    [True, True, True, False, False]
    """
    if text.strip() in ("()", "[]"):
        return True
    values = [part.strip() for part in text.strip("()[] ").removesuffix(",").split(",")]
    numbers = default and not any(isinstance(value, str) for value in default)
    return all(_parses(value, float) for value in values) if numbers else all(values)


def _parses(text: str, kind: type) -> bool:
    if kind is bool:
        return text.lower() in ("true", "false", "1", "0")
    if kind in (int, float):
        try:
            return math.isfinite(kind(text))
        except ValueError:
            return False
    return True


def plain(config: ConfigDict) -> dict[str, Any]:
    """The configuration as JSON's types, for config.json."""
    return json.loads(json.dumps(config.to_dict()))


def refuse_unknown(arguments: list[str], known: Any) -> None:
    """Raises a `UserError` for the first argument that is no flag."""
    for argument in arguments:
        if not argument.startswith("-"):
            raise UserError(f"{argument!r} is not a flag: flags are written --name=value")
        if argument.startswith(("--config", "--noconfig")):
            raise UserError(f"{argument} needs --experiment")
        name = argument.lstrip("-").partition("=")[0]
        raise UserError(f"there is no flag --{name}{nearest(name, list(known))}")


def exit_code(command: Callable[[], None], debug: bool) -> int:
    """Runs a command; a mistake becomes one line on stderr and 2, an interruption 128 + the signal, success 0.

    Args:
      command: what to run.
      debug: let exceptions through, with their tracebacks.
    """
    if not debug:
        logging.set_verbosity(logging.ERROR)  # libraries' warnings say nothing that a user could act on
    try:
        command()
    except Interrupted as stop:
        print(stop, file=sys.stderr)
        return 128 + stop.signum
    except (UserError, flags.Error) as error:
        if debug:
            raise
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # as with "| head": what it was printed for has seen enough
        return 128 + signal.SIGPIPE
    except OSError as error:
        if debug or error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES):
            raise
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except RuntimeError as error:
        if debug or "RESOURCE_EXHAUSTED" not in str(error):
            raise
        print(
            "error: the device has too little memory: lower config.batch_size (in testing config.eval_batch_size), or "
            f"compute it in parts, --config.accumulate=2 ({' '.join(str(error).split())[:200]})",
            file=sys.stderr,
        )
        return 2
    return 0
