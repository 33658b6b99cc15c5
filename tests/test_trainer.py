"""The loop: it learns, repeats itself exactly, stops in time, and leaves what it says it leaves."""

from __future__ import annotations

import json
import os
import signal
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from xenoglot.assembly.resuming import check_identity, identity_of
from xenoglot.batches import WHOLE, TextBatches, TokenBatch
from xenoglot.checkpoint import Checkpoints
from xenoglot.config import RunConfig, default_config, with_overrides
from xenoglot.decoder import Decoder
from xenoglot.errors import DivergenceError, ResumeError
from xenoglot.evaluations.in_context import FreshLanguages, HeldOutText
from xenoglot.language_batches import LanguageBatches
from xenoglot.objectives.autoregressive import Autoregressive
from xenoglot.objectives.base import Objective, Result
from xenoglot.rng import derive
from xenoglot.text import ByteText
from xenoglot.trainer import Run, train
from xenoglot.training.devices import Devices

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

    def __call__(self, step, part=WHOLE):
        rows = slice(part.rows_of(4).start, part.rows_of(4).stop)
        return TokenBatch(inputs_BT=self.batch.inputs_BT[rows], targets_BT=self.batch.targets_BT[rows])

    def batch_size(self, step):
        return 4

    def identity(self, step):
        return "the one batch"

    def fingerprint(self):
        return {}


class Hooked(Autoregressive):
    """The usual objective, with something done to it at one step."""

    def __init__(self, at_step, hook):
        self.calls, self.at_step, self.hook = 0, at_step, hook

    def __call__(self, model, batch, rng):
        result = super().__call__(model, batch, rng)
        self.calls += 1
        return self.hook(result) if self.calls == self.at_step + 1 else result


def configured(**overrides) -> RunConfig:
    return with_overrides(default_config(), TINY | {key.replace("__", "."): overrides[key] for key in overrides})


def run(folder, objective: Objective | None = None, batches=None, evaluations=None, **overrides):
    """Begin a run in a folder, or go on with it."""
    config = configured(**overrides)
    length = config.model.max_seq_len
    batches = batches or LanguageBatches(
        family=config.languages,
        batch_size=config.data.dataloader.batch_size,
        length=length,
        seed=derive(config.training.seed, "train"),
    )
    fresh = FreshLanguages(family=config.languages, length=length, n_languages=config.evaluation.n_languages)
    model = Decoder(config.model)
    (folder / "eval_results").mkdir(parents=True, exist_ok=True)
    assembled = Run(
        config=config,
        settings={},
        folder=folder,
        devices=Devices(config.training.fabric),
        model=model,
        batches=batches,
        objective=objective or Autoregressive(),
        evaluations=[fresh] if evaluations is None else evaluations,
        identity=identity_of(config, batches),
        files={},
    )
    with Checkpoints(folder, config.checkpointing) as checkpoints:
        outcome = train(assembled, checkpoints, resumed_from=checkpoints.latest())
    return model, outcome


def evaluation_of(folder, step):
    return json.loads((folder / "eval_results" / f"step_{step}.json").read_text())["rows"]


def steps_saved(folder):
    return sorted(int(path.name.removeprefix("step_")) for path in (folder / "checkpoints").iterdir())


def metrics_of(folder):
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key != "tokens_per_second"} for line in lines]


def test_a_run_leaves_metrics_results_and_checkpoints(tmp_path):
    model, outcome = run(tmp_path)
    assert (outcome.steps, outcome.interrupted_by) == (6, None)
    assert [line["step"] for line in metrics_of(tmp_path)] == [2, 4, 6]
    assert set(metrics_of(tmp_path)[0]) == {"step", "loss_nats", "gradient_norm", "lr", "mfu"}
    assert sorted(path.name for path in (tmp_path / "eval_results").iterdir()) == [
        f"step_{step}.json" for step in (0, 4, 6)
    ]
    assert steps_saved(tmp_path) == [4, 6]
    assert evaluation_of(tmp_path, 6)[0]["slices"] == {"tokens_read": 1}
    again = Decoder.from_pretrained(tmp_path / "checkpoints" / "step_6").state_dict()
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

    with pytest.raises(DivergenceError, match=r"step 4: the loss is (nan|inf).*rows 12 to 15.*lower learning rate"):
        run(tmp_path, Watching(3, hook), checkpointing__save_every_n_steps=1)
    model, before = seen[3]
    assert all(torch.equal(before[name], weight) for name, weight in model.state_dict().items())
    assert steps_saved(tmp_path) == [1, 2, 3]


def test_a_gradient_that_is_not_finite_stops_before_the_update(tmp_path):
    def hook(result):
        # The square root of zero is finite, and its gradient is not.
        return Result(loss=result.loss + (result.loss * 0).sqrt())

    with pytest.raises(DivergenceError, match="step 1: the gradient's norm is nan"):
        run(tmp_path, Hooked(0, hook))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_finishes_the_step_and_saves_and_the_run_can_go_on(tmp_path, number):
    def hook(result):
        os.kill(os.getpid(), number)
        return result

    before = signal.getsignal(number)
    _, outcome = run(tmp_path / "cut", Hooked(2, hook))
    assert signal.getsignal(number) is before
    assert (outcome.steps, outcome.interrupted_by) == (3, number)
    assert steps_saved(tmp_path / "cut") == [3]
    _, outcome = run(tmp_path / "cut")
    assert (outcome.steps, outcome.interrupted_by) == (6, None)
    run(tmp_path / "whole")
    assert_same_runs(tmp_path / "cut", tmp_path / "whole")


def assert_same_runs(first, second):
    """All that two runs left of their last step is the same, bit for bit."""
    assert metrics_of(first) == metrics_of(second)
    for name in ("model.safetensors", "state/training_state.safetensors", "state/training_state.json"):
        one, other = (folder / "checkpoints" / "step_6" / name for folder in (first, second))
        assert one.read_bytes() == other.read_bytes()
    results = [sorted((folder / "eval_results").iterdir()) for folder in (first, second)]
    assert [[path.read_bytes() for path in paths] for paths in results[:1]] == [
        [path.read_bytes() for path in paths] for paths in results[1:]
    ]


def test_ctrl_c_while_measuring_loses_nothing(tmp_path, monkeypatch):
    measure = FreshLanguages.__call__

    def interrupted(self, model, rng):
        if (tmp_path / "eval_results" / "step_2.json").exists() and not (tmp_path / "checkpoints").exists():
            os.kill(os.getpid(), signal.SIGINT)
        return measure(self, model, rng)

    monkeypatch.setattr(FreshLanguages, "__call__", interrupted)
    _, outcome = run(tmp_path, evaluation__eval_every_n_steps=2, checkpointing__save_every_n_steps=100)
    assert (outcome.steps, outcome.interrupted_by) == (4, signal.SIGINT)
    assert steps_saved(tmp_path) == [4]


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
@pytest.mark.parametrize("n_parts", [1, 2])
def test_a_run_that_died_anywhere_goes_on_as_if_it_had_not(tmp_path, optimizer, n_parts):
    options = {
        "training__optimization__optimizer": optimizer,
        "training__optimization__gradient_accumulation_steps": n_parts,
        "checkpointing__save_every_n_steps": 1,
        "monitoring__logging__log_every_n_steps": 1,
    }
    run(tmp_path / "whole", **options)
    for last in (1, 2, 5):
        died = tmp_path / f"after-{last}"

        def die(result):
            raise RuntimeError("the machine is gone")

        with pytest.raises(RuntimeError, match="gone"):
            run(died, Hooked(last * n_parts, die), **options)
        assert max(steps_saved(died)) == last
        run(died, **options)
        assert_same_runs(died, tmp_path / "whole")


def test_where_a_resumed_run_computes_may_change_but_not_what(tmp_path):
    batches = LanguageBatches(family=default_config().languages, batch_size=4, length=24, seed=0)
    stored = json.loads(json.dumps(identity_of(configured(), batches)))
    free = configured(
        training__optimization__gradient_accumulation_steps=2,
        evaluation__eval_every_n_steps=1,
        checkpointing__run_name="moved",
        training__fabric__num_devices=2,
    )
    check_identity(stored, identity_of(free, batches), step=3)
    for option, value in {"training.seed": 1, "training.optimization.lr": 0.5, "model.n_layers": 3}.items():
        with pytest.raises(ResumeError, match=rf"{option}: was .*, is {value}"):
            check_identity(stored, identity_of(configured(**{option.replace(".", "__"): value}), batches), step=3)
    other = LanguageBatches(family=default_config().languages, batch_size=4, length=24, seed=1)
    with pytest.raises(ResumeError, match="data"):
        check_identity(stored, identity_of(configured(), other), step=3)


def test_a_constant_rate_may_be_kept_on_for_longer(tmp_path):
    constant = {"training__optimization__lr_scheduler": "constant", "training__optimization__lr_decay_ratio": 0.5}
    batches = LanguageBatches(family=default_config().languages, batch_size=4, length=24, seed=0)
    stored = identity_of(configured(training__max_steps=12, **constant), batches)
    longer = identity_of(configured(training__max_steps=20, **constant), batches)
    check_identity(stored, longer, step=7)  # steps 7 to 12 would have decayed
    with pytest.raises(ResumeError, match=r"training.max_steps: was 12, is 20"):
        check_identity(stored, longer, step=9)


@pytest.mark.parametrize("n_parts", [2, 4])
def test_a_step_in_parts_is_the_whole_step(tmp_path, n_parts):
    whole, _ = run(tmp_path / "whole", training__max_steps=3)
    parts, _ = run(
        tmp_path / "parts", training__max_steps=3, training__optimization__gradient_accumulation_steps=n_parts
    )
    for line, other in zip(metrics_of(tmp_path / "whole"), metrics_of(tmp_path / "parts"), strict=True):
        assert line == pytest.approx(other, abs=1e-5)
    for name, weight in whole.state_dict().items():
        # Near 0, AdamW's first steps make a difference of rounding as large as the rate: hence not 1e-6.
        torch.testing.assert_close(weight, parts.state_dict()[name], atol=2e-4, rtol=1e-3)


def test_a_second_ctrl_c_acts_at_once(tmp_path):
    def hook(result):
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        return result

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, Hooked(2, hook))


def test_a_text_is_measured_where_it_was_held_out(tmp_path):
    text = ByteText(b"abcdefghij" * 60, length=24)
    batches = TextBatches(text=text, batch_size=4, seed=0)
    run(tmp_path, batches=batches, evaluations=[HeldOutText(text=text)], model__vocab_size=257)
    losses = [
        row["metrics"]["loss_nats"]
        for step in (0, 6)
        for row in evaluation_of(tmp_path, step)
        if row["slices"] == {"part": "whole"}
    ]
    assert losses[0] == pytest.approx(np.log(257), abs=1e-5)
    assert losses[1] < losses[0]
