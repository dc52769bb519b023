"""Reads YAML into values that remember their lines.

It does not know what a catalogue holds: see `entries.py`.
"""

import math
import re
from dataclasses import dataclass, field
from typing import Any, Final

import yaml

from tallyman.errors import InvalidCatalogue, InvalidParameter

DEEPEST: Final = 40
MOST_NODES: Final = 1_000_000  # aliases count each time
# Numbers that the API has as text keep the text of the file: no float comes in between.
AS_WRITTEN: Final = frozenset(
    {"amount", "up_to_amount", "conversion_factor", "minimum_amount", "maximum_amount", "usage"}
)
_FLOAT: Final = "tag:yaml.org,2002:float"
_INT: Final = "tag:yaml.org,2002:int"
_TIME: Final = "tag:yaml.org,2002:timestamp"
_MERGE: Final = "tag:yaml.org,2002:merge"

_UNKEPT: Final = re.compile("[\x00\ud800-\udfff]")  # neither database can keep one

Path = tuple[str | int, ...]


@dataclass
class YamlFile:
    """What a file holds, and the line of each part of it."""

    name: str
    value: Any = None
    lines: dict[Path, int] = field(default_factory=dict)

    def error(self, path: Path, reason: str, rule: str = "invalid") -> InvalidCatalogue:
        """What is wrong at a place, with the line of the nearest part that the file has."""
        return InvalidCatalogue([self.fault(path, reason, rule)])

    def fault(self, path: Path, reason: str, rule: str = "invalid") -> InvalidParameter:
        """The same, as one of several."""
        known = path
        while known and known not in self.lines:
            known = known[:-1]
        at = f"{self.name}:{self.lines.get(known, 1)}"
        return InvalidParameter(write_path(path), rule, reason, extra={"at": at})


def write_path(path: Path) -> str:
    """As in `plans[0].phases[0].key`."""
    text = ""
    for step in path:
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else step
    return text


def read_path(text: str) -> Path:
    """`write_path` backwards."""
    steps: list[str | int] = []
    for part in text.replace("[", ".[").split("."):
        if part.startswith("[") and part[1:-1].isdigit():
            steps.append(int(part[1:-1]))
        elif part:
            steps.append(part)
    return tuple(steps)


def read_yaml(text: str, name: str) -> YamlFile:
    """Read one document; the keys of a mapping must be text, and each there once.

    Raises:
        InvalidCatalogue: it is no YAML; names the line, and the key where there is one.
    """
    file = YamlFile(name)
    try:
        loader = yaml.SafeLoader(text)
    except yaml.reader.ReaderError as err:
        file.lines[()] = text.count("\n", 0, err.position) + 1
        raise file.error((), "is not YAML: it holds a control character") from err
    try:
        node = loader.get_single_node()
        if node is not None:
            file.value = _Reader(file, loader).read(node, ())
    except yaml.MarkedYAMLError as err:
        mark = err.problem_mark or err.context_mark
        file.lines[()] = mark.line + 1 if mark else 1
        raise file.error((), f"is not YAML: {err.problem}") from err
    except (yaml.YAMLError, RecursionError) as err:
        raise file.error((), "is not YAML, or nested too deep") from err
    finally:
        loader.dispose()
    return file


class _Reader:
    """Turns nodes into values; an alias is read again wherever it is used."""

    def __init__(self, file: YamlFile, loader: yaml.SafeLoader) -> None:
        self._file = file
        self._loader = loader
        self._nodes = 0

    def read(self, node: yaml.Node, path: Path) -> Any:
        self._nodes += 1
        self._file.lines[path] = node.start_mark.line + 1
        if len(path) > DEEPEST or self._nodes > MOST_NODES:
            raise self._file.error(
                path[:1], "is nested too deep, or an alias that repeats too much"
            )
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            return [self.read(item, (*path, index)) for index, item in enumerate(node.value)]
        return self._scalar(node, path)

    def _mapping(self, node: yaml.MappingNode, path: Path) -> dict[str, Any]:
        merged = any(key.tag == _MERGE for key, _ in node.value)
        names = [key.value for key, _ in node.value if key.tag != _MERGE]
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise self._file.error(path, "has a key that is no text")
            if names.count(key.value) > 1:
                last = [one for one, _ in node.value if one.value == key.value][-1]
                self._file.lines[(*path, key.value)] = last.start_mark.line + 1
                raise self._file.error((*path, key.value), "is there twice")
        if merged:
            self._loader.flatten_mapping(node)
        found = {}
        for key, value in node.value:
            found[str(key.value)] = self.read(value, (*path, str(key.value)))
            # The key's line: what is below it may begin on the next one.
            self._file.lines[(*path, str(key.value))] = key.start_mark.line + 1
        return found

    def _scalar(self, node: yaml.Node, path: Path) -> Any:
        if node.tag == _TIME:
            return node.value
        if node.tag in (_INT, _FLOAT) and path and path[-1] in AS_WRITTEN:
            return str(node.value).replace("_", "")
        try:
            value = self._loader.construct_object(node)
        except ValueError as err:  # such as 0o9
            raise self._file.error(path, "is no number") from err
        if not isinstance(value, str | int | float | None) or value in (math.inf, -math.inf):
            raise self._file.error(path, "must be text, a number, true, false or null")
        if isinstance(value, str) and _UNKEPT.search(value):
            raise self._file.error(path, "must not hold a NUL or half of a surrogate pair")
        if value != value:
            raise self._file.error(path, "must be a number")
        return value
