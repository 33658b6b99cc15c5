"""The notebooks: executed in small sizes they show what they say, and their pages show these very notebooks."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

from tests.pages import DOCS, blocks
from xenoglot.languages import MetaLMv1

NOTEBOOKS = DOCS / "notebooks"
NAMES = sorted(path.stem for path in NOTEBOOKS.glob("*.ipynb"))
PARAMETERS = "parameters"
"""The tag of the one cell whose sizes may be other ones."""


def read(name: str) -> Any:
    return nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4)


def executed(name: str, folder: Path, **sizes: int) -> Any:
    """Return a notebook with its outputs, executed in smaller sizes in a folder."""
    notebook = read(name)
    [cell] = [cell for cell in notebook.cells if PARAMETERS in cell.metadata.get("tags", [])]
    for size, value in sizes.items():
        cell.source, n_replaced = re.subn(rf"^{size} = \d+", f"{size} = {value}", cell.source, flags=re.MULTILINE)
        assert n_replaced == 1
    resources = {"metadata": {"path": str(folder)}}
    NotebookClient(notebook, timeout=600, kernel_name="python3", resources=resources).execute()
    return notebook


def said(notebook: Any, cell_id: str) -> str:
    [cell] = [cell for cell in notebook.cells if cell.id == cell_id]
    return "".join(output.text for output in cell.outputs if output.output_type == "stream" and output.name == "stdout")


def n_pictures(notebook: Any) -> int:
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    return sum("image/png" in output.get("data", {}) for output in outputs)


@pytest.mark.timeout(900)  # seconds of work, on a machine that may be busy
@pytest.mark.filterwarnings("ignore")  # of the kernel's own libraries
def test_a_new_language(tmp_path: Path) -> None:
    """The model stands between guessing and the best learner, this above the floor; what is unlike it is read worse."""
    notebook = executed("new_language", tmp_path, max_steps=150, n_languages=64)
    assert n_pictures(notebook) == 6
    printed = [list(map(int, line.split()[2:])) for line in said(notebook, "draw-language").splitlines()]
    family = MetaLMv1(vocab_size=16, n_elements=4, element_length=8, error_rate=0.05, separator=True)
    assert printed == [element.tolist() for element in family.draw(seed=7).elements]

    numbers = map(float, re.findall(r"\d\.\d{3}", said(notebook, "print-numbers")))
    guessing, model, learner, floor, unknown, not_learned = numbers
    assert guessing == pytest.approx(math.log(17), abs=1e-3)
    assert guessing - 0.2 > model > learner > floor > 0
    assert (unknown, not_learned) == pytest.approx((learner - floor, model - learner), abs=2e-3)

    lines = [re.split(r"  +", line) for line in said(notebook, "other-families").splitlines()[1:]]
    assert all(float(line[-4]) > float(line[-3]) > float(line[-2]) > 0 for line in lines)
    excess = {line[0]: float(line[-1]) for line in lines}
    trained = excess.pop("as trained")
    assert trained < excess["eight elements"]
    assert trained < excess["heard worse: 0.20"]
    assert len(excess) == 3


ROW = re.compile(r"^(.+?)  +((?:\d\.\d+ *)+)$", re.MULTILINE)


def tables(text: str) -> list[dict[str, list[float]]]:
    """Return the numbers of each row of each table, the last of them being the interval."""
    parts = re.split(r"^.* after gradient steps .*$", text, flags=re.MULTILINE)[1:]
    return [{name.strip(): list(map(float, numbers.split())) for name, numbers in ROW.findall(part)} for part in parts]


@pytest.mark.timeout(900)
@pytest.mark.filterwarnings("ignore")
def test_few_shot_from_sentences(tmp_path: Path) -> None:
    """Before a step and with permuted labels it is chance; after some, far more, and more than without training."""
    notebook = executed("few_shot_sentences", tmp_path, max_steps=80, n_tasks=30, n_tasks_of_all_weights=4)
    assert n_pictures(notebook) == 1

    [masked, *shown] = said(notebook, "show-task").splitlines()
    words = re.findall(r"(\w+) = \d", masked)
    assert len(words) == 3
    assert all("____" in line and not set(words) & set(re.findall(r"\w+", line)) for line in shown)
    labels = sorted(re.findall(r"^(\w+ \d):", "\n".join(shown), re.MULTILINE))
    assert labels == sorted(f"{part} {label}" for part in ("support", "query") for label in range(3) for _ in range(2))

    for cell_id in ("adapt-words", "adapt-labels"):
        accuracy, loss_nats = tables(said(notebook, cell_id))
        for name in ("as it was trained", "linear head"):
            assert accuracy[name][0] == pytest.approx(1 / 3, abs=1e-3)
            assert loss_nats[name][0] == pytest.approx(math.log(3), abs=1e-3)
            before, after, half_width = accuracy[name][0], accuracy[name][-2], accuracy[name][-1]
            assert after - half_width > before
            assert after - half_width > accuracy["ridge head, untrained model"][-2]
        control, half_width = accuracy["linear head, permuted support labels"]
        assert control == pytest.approx(1 / 3, abs=1.5 * half_width)

    accuracy, _ = tables(said(notebook, "adapt-all"))
    assert set(accuracy) == {"linear head", "all weights"}
    assert min(accuracy["all weights"][-3:-1]) > 0.7


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_is_stored_without_outputs_and_with_names_of_its_cells(name: str) -> None:
    notebook = read(name)
    nbformat.validate(notebook)
    assert all(not cell.outputs and cell.execution_count is None for cell in notebook.cells if "outputs" in cell)
    assert len({cell.id for cell in notebook.cells}) == len(notebook.cells)


@pytest.mark.parametrize("name", NAMES)
def test_a_page_shows_its_notebook(name: str) -> None:
    """Its code and its words are those of the notebook, and every picture is there: else it is to be made anew."""
    page = (NOTEBOOKS / f"{name}.md").read_text(encoding="utf-8")
    cells = read(name).cells
    code = [text.rstrip("\n") for _, language, text in blocks(page) if language == "python"]
    assert code == [cell.source for cell in cells if cell.cell_type == "code"]
    words = page.replace(".md)", ".ipynb)")
    assert all(cell.source.replace(".md)", ".ipynb)") in words for cell in cells if cell.cell_type == "markdown")
    shown = re.findall(rf"\]\(({name}-\d+\.png)\)", page)
    assert shown == [f"{name}-{number}.png" for number in range(1, len(shown) + 1)]
    assert sorted(shown) == sorted(path.name for path in NOTEBOOKS.glob(f"{name}-*.png"))
    assert len(shown) == sum(len(re.findall(r"^Image\(", cell.source, re.MULTILINE)) for cell in cells)


def test_all_are_listed() -> None:
    listed = re.findall(r"\]\((\w+)\.md\)", (NOTEBOOKS / "index.md").read_text(encoding="utf-8"))
    assert sorted(set(listed)) == NAMES
