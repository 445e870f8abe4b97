"""Data of one's own from a Python file: `--data FILE.py:FUNCTION`."""

import importlib.util
import re
import sys
import traceback
from pathlib import Path
from types import ModuleType

from offdiag._checks import ConfigError, DataError
from offdiag.data.data import Data

OWN_FILE = re.compile(r"(?P<file>.+\.py):(?P<function>[A-Za-z_]\w*)")


def data_of_file(spec: str) -> Data:
    """What the function returns, called without arguments; the file's code is run.

    The file may import what lies beside it. ConfigError and DataError say what is missing.
    """
    found = OWN_FILE.fullmatch(spec)
    if found is None:
        raise ConfigError(f"data of your own is given as FILE.py:FUNCTION; got {spec!r}.")
    path, name = Path(found["file"]).expanduser(), found["function"]
    if not path.is_file():
        raise ConfigError(f"there is no file {path}: give --data FILE.py:FUNCTION.")
    module = _imported(path)
    function = getattr(module, name, None)
    if not callable(function):
        there = [key for key, value in vars(module).items() if _is_own(value, module)]
        has = f"its functions: {', '.join(there)}" if there else "it has none"
        raise ConfigError(f"{path} has no function {name!r}; {has}.")
    try:
        data = function()
    except Exception as error:
        raise _failed(path, error) from error
    if not isinstance(data, Data):
        raise ConfigError(
            f"{name} in {path} must return an offdiag.Data; got {type(data).__name__}."
        )
    return data


def _imported(path: Path) -> ModuleType:
    name = f"offdiag_own_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look themselves up there
    sys.path.insert(0, str(path.resolve().parent))
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise _failed(path, error) from error
    finally:
        sys.path.pop(0)
    return module


def _is_own(value: object, module: ModuleType) -> bool:
    return callable(value) and getattr(value, "__module__", None) == module.__name__


def _failed(path: Path, error: Exception) -> DataError:
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if Path(frame.filename) == path]
    line = error.lineno if isinstance(error, SyntaxError) else lines[-1] if lines else None
    place = "" if line is None else f", line {line}"
    text = str(error).splitlines()
    told = f": {text[0]}" if text else ""
    return DataError(f"{path}{place} failed ({type(error).__name__}{told}): mend it.")
