"""lm-eval's own loss of an exported model is ours, on languages and on text, without a network."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from configurations import TINY_FLAGS

from xenoglot.applying.adapting import open_model
from xenoglot.applying.exporting import export
from xenoglot.cli import main
from xenoglot.languages import Markov

TASKS = Path(__file__).parents[1] / "examples" / "lm_eval"
TEXT = "It was the best of times,\n\nit was the worst of times,\nit was the age of wisdom; naive.\n" * 20

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("default")]


def evaluated(folder: Path, task: str, metadata: dict[str, object], **model_args: object) -> dict[str, float]:
    lm_eval = pytest.importorskip("lm_eval")
    from lm_eval.tasks import TaskManager

    results = lm_eval.simple_evaluate(
        model="hf",
        model_args={"pretrained": str(folder), "device": "cpu", "dtype": "float32", **model_args},
        tasks=[task],
        task_manager=TaskManager(include_path=str(TASKS), include_defaults=False, metadata=metadata),
        bootstrap_iters=0,
        metadata=metadata,
    )
    return {name.removesuffix(",none"): value for name, value in results["results"][task].items()}


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("lm_eval")
    for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "TRANSFORMERS_OFFLINE"):
        monkeypatch.setenv(name, "1")


def trained(folder: Path, *flags: str) -> Path:
    assert (
        main(["train", *TINY_FLAGS, f"--checkpointing.runs_dir={folder}", "--checkpointing.run_name=run", *flags]) == 0
    )
    return export(folder / "run", folder / "exported").folder


def test_languages(tmp_path: Path) -> None:
    folder = trained(tmp_path, "--languages.family", "markov", "--languages.vocab_size", "16")
    got = evaluated(folder, "xenoglot_languages", {"vocab_size": 16, "length": 15, "n_rows": 8}, prefix_token_id=0)
    batch = Markov(vocab_size=16).batch(batch_size=8, length=15, seed=0, floor=True)
    inputs, targets = (torch.from_numpy(ids.astype(np.int64)) for ids in (batch.inputs, batch.targets))
    with torch.no_grad():
        loss_nats = float(F.cross_entropy(open_model(folder).decoder(inputs).flatten(0, 1), targets.flatten()))
    assert got["loss_nats"] == pytest.approx(loss_nats, abs=1e-5)
    assert got["floor_nats"] == pytest.approx(float(batch.floor_nats.mean()), abs=1e-6)
    assert got["excess_nats"] == pytest.approx(got["loss_nats"] - got["floor_nats"], abs=1e-6)


def test_text(tmp_path: Path) -> None:
    (tmp_path / "book.txt").write_text(TEXT)
    folder = trained(tmp_path, "--text", str(tmp_path / "book.txt"), "--model.max_seq_len", "64")
    (tmp_path / "held_out.txt").write_text("the best\n\nthe worst of times\n")
    got = evaluated(folder, "xenoglot_text", {"text": str(tmp_path / "held_out.txt")}, prefix_token_id=0)
    decoder, nats, n_bytes = open_model(folder).decoder, 0.0, 0
    for line in (b"the best", b"the worst of times"):
        ids = torch.tensor([[0, *(1 + byte for byte in line)]])
        with torch.no_grad():
            nats += float(F.cross_entropy(decoder(ids[:, :-1])[0], ids[0, 1:], reduction="sum"))
        n_bytes += len(line)
    assert got["byte_perplexity"] == pytest.approx(np.exp(nats / n_bytes), rel=1e-5)
