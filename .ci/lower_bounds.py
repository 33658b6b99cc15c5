"""Print what the package says it can do with at least, as constraints for pip: ``numpy>=1.26`` is ``numpy==1.26``.

What only develops it is left out: newer tools are tested by everybody, every day.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

LEFT_OUT = ("dev", "docs")
REQUIREMENT = re.compile(r"([\w.-]+)>=([\w.]+)(?:,<[\w.]+)?")


def lower_bounds(pyproject: Path) -> dict[str, str]:
    """Return each package's least version.

    Args:
        pyproject: The file that declares them.

    Raises:
        ValueError: If a requirement has no lower bound, or a package two.
    """
    project = tomllib.loads(pyproject.read_text())["project"]
    extras = project["optional-dependencies"]
    wanted = [*project["dependencies"], *(line for name in extras if name not in LEFT_OUT for line in extras[name])]
    bounds: dict[str, str] = {}
    for line in wanted:
        found = REQUIREMENT.fullmatch(line)
        if found is None:
            raise ValueError(f"{line}: allowed are NAME>=VERSION and NAME>=VERSION,<VERSION.")
        if bounds.setdefault(found[1], found[2]) != found[2]:
            raise ValueError(f"{found[1]}: at least {bounds[found[1]]} in one place, and {found[2]} in another.")
    return bounds


if __name__ == "__main__":
    for name, version in lower_bounds(Path(__file__).parents[1] / "pyproject.toml").items():
        print(f"{name}=={version}")
