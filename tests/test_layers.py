"""What holds for every source file: imports point one way, and nothing forbidden is used."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
HEAVY = ("torch", "numba", "matplotlib", "scipy", "pyarrow", "datasets")
FORBIDDEN_MODULES = {"pickle", "random", "requests", "shelve", "socket", "urllib.request"}
FORBIDDEN_CALLS = {"torch.manual_seed", "torch.load", "np.random.seed", "np.random.default_rng"}
ALLOWED_OF_NUMPY_RANDOM = {"Generator", "Philox"}


def module_of(path: str) -> str:
    return path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def imported_modules(source: str, known: set[str]) -> Iterator[str]:
    """Yield the project's modules that a file imports anywhere, but not those that only type checkers see."""
    tree = ast.parse(source)
    unseen = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if id(node) in unseen:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in known)
        elif isinstance(node, ast.ImportFrom):
            submodules = [f"{node.module}.{alias.name}" for alias in node.names]
            candidates = (name if name in known else str(node.module) for name in submodules)
            yield from (name for name in candidates if name in known)


def upward_imports(sources: dict[str, str]) -> list[str]:
    """List the imports that lead to a file further down; the files are in their order."""
    place = {module_of(path): index for index, path in enumerate(sources)}
    return [
        f"{path} imports {imported}, which stands below it"
        for path, source in sources.items()
        for imported in imported_modules(source, set(place))
        if place[imported] > place[module_of(path)]
    ]


def test_a_file_imports_only_from_those_above_it(house: dict[str, str]) -> None:
    assert upward_imports({path: (ROOT / path).read_text() for path in house}) == []


def test_an_upward_import_would_be_found() -> None:
    lower = "def late():\n    from xenoglot import languages\n"
    guarded = "if TYPE_CHECKING:\n    from xenoglot.languages.base import Family\n"
    order = {"xenoglot/rng.py": lower, "xenoglot/errors.py": guarded, "xenoglot/languages/__init__.py": ""}
    order["xenoglot/languages/base.py"] = "import xenoglot.rng"
    assert upward_imports(order) == ["xenoglot/rng.py imports xenoglot.languages, which stands below it"]


def forbidden_uses(source: str) -> list[str]:
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names if alias.name in FORBIDDEN_MODULES]
        elif isinstance(node, ast.ImportFrom) and node.module in FORBIDDEN_MODULES:
            found.append(node.module)
        elif isinstance(node, ast.Attribute):
            name = ast.unparse(node)
            is_global_draw = name.startswith("np.random.") and node.attr not in ALLOWED_OF_NUMPY_RANDOM
            if name in FORBIDDEN_CALLS or (is_global_draw and name.count(".") == 2):
                found.append(name)
    return found


def test_no_global_randomness_no_pickle_no_network(house: dict[str, str]) -> None:
    assert {path: uses for path in house if (uses := forbidden_uses((ROOT / path).read_text()))} == {}


def test_a_forbidden_use_would_be_found() -> None:
    assert forbidden_uses("import pickle\nx = np.random.rand(3)\ntorch.manual_seed(0)") == [
        "pickle",
        "np.random.rand",
        "torch.manual_seed",
    ]
    assert forbidden_uses("g = np.random.Generator(np.random.Philox(key=1)).random()") == []


@pytest.mark.parametrize(
    "statement",
    [
        "import xenoglot",
        "import xenoglot.cli; from xenoglot.commands.base import command_modules; command_modules()",
        "from xenoglot.cli import main; main([])",
        "from xenoglot import languages",
    ],
)
def test_what_must_be_quick_imports_nothing_heavy(statement: str) -> None:
    report = f"{statement}\nimport sys\nprint([name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", report], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
