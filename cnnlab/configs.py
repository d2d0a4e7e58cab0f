"""Experiment files and their configurations: finding them, overriding fields, building experiments."""

import ast
import errno
import importlib
import json
import math
import pkgutil
import signal
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from absl import flags, logging
from ml_collections import ConfigDict

import experiments
from cnnlab import workdirs
from cnnlab.errors import Interrupted, UserError, nearest


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


def update(config: ConfigDict, values: Mapping[str, Any]) -> ConfigDict:
    """A copy of `config` with the fields of a saved configuration; fields that either lacks keep the default."""
    config = config.copy_and_resolve_references()
    flat = workdirs.flatten(config.to_dict())
    saved = {name: value for name, value in workdirs.flatten(values).items() if name in flat}
    for name, value in saved.items():
        saved[name] = tuple(value) if isinstance(value, list) else value
    config.update_from_flattened_dict(saved)
    return config


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
        if equals and not _parses(text, kind):
            raise UserError(f"config.{field} is of type {kind.__name__} (now {fields[field]!r}), not {text!r}")


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
    except OSError as error:
        if debug or error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES):
            raise
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    return 0
