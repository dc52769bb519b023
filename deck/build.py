"""Writes the usage reader and the plugin's configuration into the decK files, which cannot include any.

It changes nothing but what stands between `# <reader …>` or `# <tallyman>` and its end.
"""

import re
from pathlib import Path

HERE = Path(__file__).parent
FILES = ("kong.yaml", "no-plugin.yaml", "providers.yaml")
_REGION = re.compile(
    r"^(?P<indent> *)# <(?P<name>reader|tallyman)(?P<options>[^>\n]*)>\n.*?^ *# </(?P=name)>\n",
    re.MULTILINE | re.DOTALL,
)
_SECTION = re.compile(r"^--@section (.+)\n", re.MULTILINE)
_OPTION = re.compile(r" (\w+)=(true|false)")
# Without these Kong adds them itself, and decK sees a difference for ever.
_PROTOCOLS = "[grpc, grpcs, http, https]"


def filled(text: str) -> str:
    """The decK file with its parts as they are now; the same again if they were already."""
    return _REGION.sub(_region, text)


def _region(found: re.Match[str]) -> str:
    options = dict(_OPTION.findall(found["options"]))
    lines = _reader(options) if found["name"] == "reader" else _tallyman()
    first = f"# <{found['name']}{found['options']}>"
    return "".join(
        f"{found['indent']}{line}".rstrip() + "\n"
        for line in (first, *lines, f"# </{found['name']}>")
    )


def _tallyman() -> list[str]:
    part = (HERE / "tallyman.yaml").read_text().splitlines()
    return [
        "- name: tallyman",
        f"  protocols: {_PROTOCOLS}",
        "  config:",
        *(f"    {line}" for line in part),
    ]


def _reader(options: dict[str, str]) -> list[str]:
    sections = reader_sections(options)
    lines = []
    for plugin in ("pre-function", "post-function"):
        lines += [f"- name: {plugin}", "  config:"]
        for name, code in sections.items():
            of, phase = name.split()
            if of == plugin:
                lines += [f"    {phase}:", "      - |"]
                lines += [f"        {line}" for line in code.splitlines()]
    return lines


def reader_sections(options: dict[str, str]) -> dict[str, str]:
    """The Lua of each phase by "plugin phase", its switches set; pre-function's have them in front."""
    _, *parts = _SECTION.split((HERE / "usage_reader.lua").read_text())
    sections = dict(zip(parts[::2], (code.strip("\n") for code in parts[1::2]), strict=True))
    switches = sections.pop("switches")
    for name, value in options.items():
        switches, count = re.subn(
            rf"^(local {name.upper()} =) \w+$", rf"\1 {value}", switches, flags=re.MULTILINE
        )
        if count != 1:
            raise ValueError(f"the usage reader has no switch {name}")
    return {
        name: f"{switches}\n\n{code}" if name.startswith("pre-function") else code
        for name, code in sections.items()
    }


def main() -> None:
    for name in FILES:
        path = HERE / name
        path.write_text(filled(path.read_text()))


if __name__ == "__main__":
    main()
