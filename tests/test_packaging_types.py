"""The types hold from outside: mypy, strict, reads programs of somebody who installed the wheel."""

from __future__ import annotations

import re
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FENCED_PYTHON = re.compile(r"```python\n(.*?)```", re.DOTALL)
UNTYPED = ["--allow-untyped-defs", "--allow-incomplete-defs", "--allow-untyped-calls"]
"""Pages show how to extend without annotations: shorter, and what most people write."""

PROGRAM = """\
import numpy as np

import xenoglot
from xenoglot.decoder import Decoder
from xenoglot.languages import Markov

family = xenoglot.languages.MetaLMv1(vocab_size=16, n_elements=4, separator=True)
batch = family.batch(batch_size=2, length=64, seed=0, floor=True)
language = Markov(order=2).draw(seed=7)
loss_nats = xenoglot.predictors.NoisyRepeats(family=family).nats(batch.inputs, batch.targets)
mean_nats: float = float(np.mean(loss_nats))
n_parameters: int = sum(weights.numel() for weights in Decoder.from_pretrained("a/folder").parameters())

# If something here were Any, nothing would be wrong with these, and mypy would say so.
family.batch(batch_size="2", length=64, seed=0)  # type: ignore[arg-type]
wrong: str = family.n_tokens  # type: ignore[assignment]
Markov(ordre=2)  # type: ignore[call-arg]
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return an environment's Python that has the wheel, and everything else that this one has."""
    folder = tmp_path_factory.mktemp("installed")
    build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder / "venv")], check=True)
    python = folder / "venv" / "bin" / "python"
    [packages] = (folder / "venv" / "lib").glob("*/site-packages")
    [wheel] = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(packages)
    (packages / "others.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return python


def complaints(installed: Path, programs: dict[str, str], folder: Path, *options: str) -> str:
    for name, program in programs.items():
        (folder / name).write_text(program)
    strict = ["--strict", "--config-file", "", "--cache-dir", str(installed.parents[2] / "cache"), *options]
    command = [sys.executable, "-m", "mypy", *strict, "--python-executable", str(installed), *programs]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    return "" if done.returncode == 0 else done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_programs_of_users_are_checked_strictly(installed: Path, tmp_path: Path) -> None:
    blocks = FENCED_PYTHON.findall((ROOT / "README.md").read_text())
    # What `gym.make` returns is to its types any environment, which has no generators of data.
    blocks = [re.sub(r"^env = (gym\.make\(.*\))$", r"env: Any = \1", block, flags=re.MULTILINE) for block in blocks]
    programs = {f"readme_{number}.py": f"from typing import Any\n\n{block}" for number, block in enumerate(blocks)}
    assert len(programs) > 1
    assert complaints(installed, {"program.py": PROGRAM} | programs, tmp_path) == ""


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_extensions_fit_their_contracts(installed: Path, tmp_path: Path) -> None:
    blocks = FENCED_PYTHON.findall((ROOT / "docs" / "extending.md").read_text())
    programs = {found[1]: block for block in blocks if (found := re.match(r"# (my_\w+\.py)\n", block))}
    assert len(programs) > 5
    assert complaints(installed, programs, tmp_path, *UNTYPED) == ""
