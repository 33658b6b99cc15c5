"""The loop: it learns, repeats itself exactly, stops in time, and leaves what it says it leaves."""

from __future__ import annotations

import json
import os
import signal
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from xenoglot.batches import LanguageBatches, TextBatches, TokenBatch
from xenoglot.config import default_config, with_overrides
from xenoglot.decoder import Decoder
from xenoglot.errors import DivergenceError
from xenoglot.evaluations.in_context import FreshLanguages, HeldOutText
from xenoglot.objectives.autoregressive import Autoregressive
from xenoglot.objectives.base import Objective, Result
from xenoglot.rng import derive
from xenoglot.text import ByteText
from xenoglot.trainer import train

TINY = {
    "data.dataloader.batch_size": 4,
    "model.d_model": 16,
    "model.n_layers": 1,
    "model.attention_n_heads": 2,
    "model.attention_n_kv_heads": 1,
    "model.activation_hidden_dim": 16,
    "model.max_seq_len": 24,
    "model.vocab_size": 18,
    "training.max_steps": 6,
    "training.optimization.lr_warmup_steps": 2,
    "evaluation.n_languages": 8,
    "evaluation.eval_every_n_steps": 4,
    "checkpointing.save_every_n_steps": 4,
    "monitoring.logging.log_every_n_steps": 2,
}


@dataclass
class OneBatch:
    """The same rows at every step."""

    batch: TokenBatch
    n_tokens: int

    def __call__(self, step):
        return self.batch


class Hooked(Autoregressive):
    """The usual objective, with something done to it at one step."""

    def __init__(self, at_step, hook):
        self.calls, self.at_step, self.hook = 0, at_step, hook

    def __call__(self, model, batch, rng):
        result = super().__call__(model, batch, rng)
        self.calls += 1
        return self.hook(result) if self.calls == self.at_step + 1 else result


def run(folder, objective: Objective | None = None, batches=None, **overrides):
    config = with_overrides(default_config(), TINY | {key.replace("__", "."): overrides[key] for key in overrides})
    length = config.model.max_seq_len
    model = Decoder(config.model)
    seed = derive(config.training.seed, "train")
    batches = batches or LanguageBatches(
        family=config.languages, batch_size=config.data.dataloader.batch_size, length=length, seed=seed
    )
    evaluation = FreshLanguages(family=config.languages, length=length, n_languages=config.evaluation.n_languages)
    folder.mkdir(exist_ok=True)
    objective = objective or Autoregressive()
    outcome = train(config, model=model, batches=batches, objective=objective, evaluation=evaluation, folder=folder)
    return model, outcome


def metrics_of(folder):
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key != "tokens_per_second"} for line in lines]


def test_a_run_leaves_metrics_results_and_checkpoints(tmp_path):
    model, outcome = run(tmp_path)
    assert (outcome.steps, outcome.interrupted) == (6, False)
    assert [line["step"] for line in metrics_of(tmp_path)] == [2, 4, 6]
    assert set(metrics_of(tmp_path)[0]) == {"step", "loss_nats", "gradient_norm", "lr"}
    assert sorted(path.name for path in (tmp_path / "eval_results").iterdir()) == [
        f"step_{step}.json" for step in (0, 4, 6)
    ]
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["step_4", "step_6"]
    stored = json.loads((tmp_path / "eval_results" / "step_6.json").read_text())
    assert stored["rows"] == [row.to_mapping() for row in outcome.evaluations[6]]
    assert stored["rows"][0]["slices"] == {"tokens_read": 1}
    again = Decoder.from_pretrained(outcome.checkpoint).state_dict()
    assert all(torch.equal(again[name], weight) for name, weight in model.state_dict().items())


def test_the_same_seed_gives_the_same_run_bit_for_bit(tmp_path):
    first, _ = run(tmp_path / "first")
    torch.rand(7)  # global random states have no part in it
    np.random.random(7)  # noqa: NPY002
    # Nor has how often a run is measured and saved.
    second, _ = run(tmp_path / "second", evaluation__eval_every_n_steps=1, checkpointing__save_every_n_steps=100)
    other, _ = run(tmp_path / "other", training__seed=1)
    assert metrics_of(tmp_path / "first") == metrics_of(tmp_path / "second")
    assert metrics_of(tmp_path / "first") != metrics_of(tmp_path / "other")
    weights = second.state_dict()
    assert all(torch.equal(weights[name], weight) for name, weight in first.state_dict().items())
    assert not torch.equal(other.lm_head.weight, first.lm_head.weight)


def test_every_step_reads_languages_that_no_other_step_read():
    family = default_config().languages
    batches = LanguageBatches(family=family, batch_size=4, length=24, seed=3)
    rows = [tuple(row.tolist()) for step in range(5) for row in batches(step).inputs_BT]
    assert len(set(rows)) == 20
    expected = family.batch(4, 24, 3, start=12)
    assert (batches(3).inputs_BT.numpy() == expected.inputs).all()
    assert (batches(3).targets_BT.numpy() == expected.targets).all()


def overfit(tmp_path, batches):
    """Train on one batch alone, and return the last loss."""
    run(
        tmp_path,
        batches=OneBatch(batches(0), batches.n_tokens),
        model__vocab_size=batches.n_tokens,
        model__d_model=32,
        training__max_steps=150,
        evaluation__eval_every_n_steps=1000,
        checkpointing__save_every_n_steps=1000,
    )
    return metrics_of(tmp_path)[-1]["loss_nats"]


def test_one_batch_of_languages_is_learned_by_heart(tmp_path):
    family = default_config().languages
    batches = LanguageBatches(family=family, batch_size=4, length=24, seed=5)
    # Nothing tells rows apart before their first token: what is shared there cannot be known by heart.
    firsts = batches(0).inputs_BT[:, 0].tolist()
    assert len(set(firsts)) == 4
    assert overfit(tmp_path, batches) < 0.05


def test_one_batch_of_text_is_learned_by_heart(tmp_path):
    content = b"All happy families are alike; each unhappy family is unhappy in its own way. " * 8
    batches = TextBatches(text=ByteText(content, length=24), batch_size=4, seed=0)
    assert overfit(tmp_path, batches) < 0.1


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_stops_before_the_update(tmp_path, bad):
    seen = []

    def hook(result):
        return Result(loss=result.loss * bad, metrics=result.metrics)

    class Watching(Hooked):
        def __call__(self, model, batch, rng):
            seen.append((model, {name: weight.clone() for name, weight in model.state_dict().items()}))
            return super().__call__(model, batch, rng)

    with pytest.raises(DivergenceError, match=r"step 4: the loss is (nan|inf).*lower learning rate"):
        run(tmp_path, Watching(3, hook), checkpointing__save_every_n_steps=1)
    model, before = seen[3]
    assert all(torch.equal(before[name], weight) for name, weight in model.state_dict().items())
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["step_1", "step_2", "step_3"]


def test_a_gradient_that_is_not_finite_stops_before_the_update(tmp_path):
    def hook(result):
        # The square root of zero is finite, and its gradient is not.
        return Result(loss=result.loss + (result.loss * 0).sqrt())

    with pytest.raises(DivergenceError, match="step 1: the gradient's norm is nan"):
        run(tmp_path, Hooked(0, hook))


def test_ctrl_c_finishes_the_step_and_saves(tmp_path):
    def hook(result):
        os.kill(os.getpid(), signal.SIGINT)
        return result

    before = signal.getsignal(signal.SIGINT)
    _, outcome = run(tmp_path / "cut", Hooked(2, hook))
    assert signal.getsignal(signal.SIGINT) is before
    assert (outcome.steps, outcome.interrupted) == (3, True)
    assert [path.name for path in (tmp_path / "cut" / "checkpoints").iterdir()] == ["step_3"]
    assert 3 in outcome.evaluations
    run(tmp_path / "whole", checkpointing__save_every_n_steps=3)
    saved = (tmp_path / name / "checkpoints" / "step_3" / "model.safetensors" for name in ("cut", "whole"))
    assert len({path.read_bytes() for path in saved}) == 1


def test_ctrl_c_while_measuring_loses_nothing(tmp_path, monkeypatch):
    measure = FreshLanguages.__call__

    def interrupted(self, model, rng):
        if (tmp_path / "eval_results" / "step_2.json").exists() and not (tmp_path / "checkpoints").exists():
            os.kill(os.getpid(), signal.SIGINT)
        return measure(self, model, rng)

    monkeypatch.setattr(FreshLanguages, "__call__", interrupted)
    _, outcome = run(tmp_path, evaluation__eval_every_n_steps=2, checkpointing__save_every_n_steps=100)
    assert (outcome.steps, outcome.interrupted) == (5, True)  # asked for after step 4: the next step is the last
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step_5"]


def test_a_second_ctrl_c_acts_at_once(tmp_path):
    def hook(result):
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        return result

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, Hooked(2, hook))


def test_a_text_is_measured_where_it_was_held_out(tmp_path):
    text = ByteText(b"abcdefghij" * 60, length=24)
    config = with_overrides(default_config("abc"), {**TINY, "model.vocab_size": 257})
    outcome = train(
        config,
        model=Decoder(config.model),
        batches=TextBatches(text=text, batch_size=4, seed=0),
        objective=Autoregressive(),
        evaluation=HeldOutText(text=text),
        folder=tmp_path,
    )
    losses = [outcome.evaluations[step][-1].metrics["loss_nats"] for step in (0, 6)]
    assert losses[0] == pytest.approx(np.log(257), abs=1e-5)
    assert losses[1] < losses[0]
