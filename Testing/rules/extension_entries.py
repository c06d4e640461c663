"""The extension's descriptions: CMakeLists.txt says everything, the two catalog entries repeat it.

    python Testing/rules/extension_entries.py URL     sets the repository's address everywhere (at publication)
    python Testing/rules/extension_entries.py         writes both entries again from CMakeLists.txt

The Extensions Index takes the JSON entry; Slicer's build system makes and reads .s4ext files with the same fields.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CMAKE, S4EXT, JSON = (ROOT / name for name in ("CMakeLists.txt", "CARLRegistration.s4ext", "CARLRegistration.json"))
SCHEMA = (
    "https://raw.githubusercontent.com/Slicer/Slicer/main/Schemas/slicer-extension-catalog-entry-schema-v1.0.1.json#"
)
TEXT_FILES = (".md", ".txt", ".s4ext", ".json", ".py", ".toml", ".ui", ".yml", ".yaml", ".cff")
CATEGORY, REVISION, TIER = "Registration", "main", 1


def cmake_values() -> dict[str, str]:
    """NAME and the EXTENSION_* variables (names without the prefix) as CMakeLists.txt sets them."""
    text = CMAKE.read_text(encoding="utf-8")
    values = dict(re.findall(r'^set\(EXTENSION_(\w+) "([^"]*)"\)', text, re.MULTILINE))
    values["NAME"] = re.search(r"^project\((\w+)\)", text, re.MULTILINE)[1]
    return values


def s4ext_lines(values: dict[str, str]) -> list[str]:
    """The fields in the order of Slicer's template (Utilities/Templates/Extensions/extension_description.s4ext.in)."""
    fields = {
        "scm": "git",
        "scmurl": values["HOMEPAGE"],
        "scmrevision": REVISION,
        "depends": values["DEPENDS"],
        "build_subdirectory": values["BUILD_SUBDIRECTORY"],
        "homepage": values["HOMEPAGE"],
        "contributors": values["CONTRIBUTORS"],
        "category": CATEGORY,
        "iconurl": values["ICONURL"],
        "status": "",
        "description": values["DESCRIPTION"],
        "screenshoturls": values["SCREENSHOTURLS"],
        "enabled": "1",
    }
    return [f"{name} {value}".rstrip() for name, value in fields.items()]


def json_entry(values: dict[str, str]) -> dict:
    return {
        "$schema": SCHEMA,
        "build_dependencies": [values["DEPENDS"]],
        "build_subdirectory": values["BUILD_SUBDIRECTORY"],
        "category": CATEGORY,
        "scm_revision": REVISION,
        "scm_url": f"{values['HOMEPAGE']}.git",
        "tier": TIER,
    }


def files_with_the_address() -> list[Path]:
    """The tracked text files that may name the repository; both catalog entries are written from CMakeLists.txt."""
    listed = subprocess.run(["git", "-C", str(ROOT), "ls-files", "-z"], capture_output=True, check=True).stdout
    files = [ROOT / name for name in listed.decode().split("\0") if name]
    return [path for path in files if path.suffix in TEXT_FILES and path.is_file() and path not in (S4EXT, JSON)]


def main(arguments: list[str]) -> None:
    if arguments:
        old, new = cmake_values()["HOMEPAGE"], arguments[0].rstrip("/").removesuffix(".git")
        raw = [url.replace("https://github.com", "https://raw.githubusercontent.com") for url in (old, new)]
        for path in files_with_the_address():
            text = path.read_text(encoding="utf-8")
            path.write_text(text.replace(old, new).replace(*raw), encoding="utf-8")
    values = cmake_values()
    S4EXT.write_text("\n".join(s4ext_lines(values)) + "\n", encoding="utf-8")
    JSON.write_text(json.dumps(json_entry(values), indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
