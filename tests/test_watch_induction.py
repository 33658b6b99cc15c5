"""The example and the notebook: both are executed, and show what they say."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).parents[1]
NOTEBOOK = ROOT / "docs" / "notebooks" / "watch_induction.ipynb"
LINE = re.compile(r"^ *([\d,]+) +(\d\.\d\d) +(\d\.\d\d)", re.MULTILINE)


def shows_a_head_that_forms(said: str) -> None:
    """The loss falls by two thirds and the score rises tenfold, and most of both happens between the same steps."""
    lines = [(int(step), float(loss), float(score)) for step, loss, score in LINE.findall(said)]
    assert len(lines) == 10
    (_, first_loss, first_score), (_, last_loss, last_score) = lines[0], lines[-1]
    assert last_loss < first_loss / 3
    assert last_score > 0.15 > 3 * first_score
    before, after = map(int, re.findall(r"half of its score between steps (\d+) (\d+)", said)[0])
    losses = {step: loss for step, loss, _ in lines}
    falls = {step: losses[step - 20] - losses[step] for step in losses if step > 20}
    assert falls[after] == max(falls.values())
    assert after - before == 20


@pytest.mark.timeout(900)  # seconds of work, on a machine that may be busy
def test_the_example_shows_it(tmp_path: Path) -> None:
    script = ROOT / "examples" / "watch_induction.py"
    done = subprocess.run([sys.executable, str(script), str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    shows_a_head_that_forms(done.stdout)
    assert (tmp_path / "watch-induction" / "induction.png").read_bytes()[:4] == b"\x89PNG"


@pytest.mark.timeout(900)
@pytest.mark.filterwarnings("ignore")  # of the kernel's own libraries
def test_the_notebook_shows_it(tmp_path: Path) -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    NotebookClient(
        notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
    ).execute()
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    shows_a_head_that_forms("".join(output.text for output in outputs if output.output_type == "stream"))
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 2
