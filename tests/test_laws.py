"""Learning from what the best learner expects: the same on average as learning from the words that come."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from configurations import TINY
from dying import dying_after

from xenoglot import cli
from xenoglot.batches import Part, TokenBatch
from xenoglot.config import ModelConfig
from xenoglot.decoder import Decoder
from xenoglot.errors import OptionError
from xenoglot.language_batches import LanguageBatches, Stage
from xenoglot.languages import Family, Markov, MetaLMv1, MetaLMv2, NgramNet, get
from xenoglot.laws import best_learner, laws
from xenoglot.objectives.autoregressive import Autoregressive, expected_losses, token_losses
from xenoglot.predictors import NoisyRepeats
from xenoglot.rng import generator

METALM = MetaLMv1(vocab_size=5, n_elements=2, element_length=4, error_rate=0.2, separator=True)
EASY = MetaLMv1(vocab_size=3, n_elements=1, element_length=4, error_rate=0.0, separator=True)
KNOWN: list[Family] = [METALM, Markov(vocab_size=5, order=1), get("context-tree")(vocab_size=5)]
UNKNOWN: list[Family] = [
    MetaLMv1(vocab_size=5, separator=False),
    MetaLMv2(vocab_size=5, n=2),
    NgramNet(vocab_size=5, n=2),
]
STAGES = (Stage(until_step=2, family=EASY, length=8),)


def shaken_decoder(vocab_size: int = 7) -> Decoder:
    sizes: dict[str, Any] = {"d_model": 16, "n_layers": 1, "activation_hidden_dim": 16, "max_seq_len": 32}
    decoder = Decoder(ModelConfig(**sizes, vocab_size=vocab_size))
    with torch.no_grad():
        decoder.lm_head.weight.normal_(generator=torch.Generator().manual_seed(1))
    return decoder


def batches_of(family: Family, **changes: Any) -> LanguageBatches:
    return LanguageBatches(family=family, batch_size=4, length=24, seed=3, **({"learns_laws": True} | changes))


def laws_of(batch: TokenBatch) -> torch.Tensor:
    assert batch.laws_BTV is not None
    return batch.laws_BTV


@pytest.mark.parametrize("family", KNOWN, ids=lambda family: family.name)
def test_rows_come_with_laws_and_are_the_same_rows(family: Family) -> None:
    learned, plain = batches_of(family)(5), batches_of(family, learns_laws=False)(5)
    assert plain.laws_BTV is None
    assert torch.equal(learned.inputs_BT, plain.inputs_BT)
    assert torch.equal(learned.targets_BT, plain.targets_BT)
    assert laws_of(learned).shape == (4, 24, family.n_tokens)
    np.testing.assert_allclose(laws_of(learned).sum(2), 1.0, atol=1e-6)
    assert laws_of(learned).gather(2, learned.targets_BT[..., None]).min() > 0  # what came could come


def test_a_law_is_how_often_words_come() -> None:
    """Of very many languages, those that began alike go on as the law says: nothing of a predictor is used here."""
    family = MetaLMv1(vocab_size=2, n_elements=1, element_length=1, error_rate=0.1, separator=True)
    batch = family.batch(400_000, 6, seed=0)
    told = laws(best_learner(family), batch.inputs[:2000])
    for t in range(6):
        beginnings, first, counts = np.unique(batch.inputs[:, : t + 1], axis=0, return_index=True, return_counts=True)
        for beginning, row, count in zip(beginnings, first, counts, strict=True):
            if count > 20_000 and row < len(told):
                alike = (batch.inputs[:, : t + 1] == beginning).all(axis=1)
                frequencies = np.bincount(batch.targets[alike, t], minlength=family.n_tokens) / count
                np.testing.assert_allclose(told[row, t], frequencies, atol=4 * 0.5 / np.sqrt(count))


def test_stages_have_the_laws_of_their_own_languages() -> None:
    batch = batches_of(METALM, stages=STAGES)(1)
    expected = np.exp(NoisyRepeats(family=EASY).predict(batch.inputs_BT.int().numpy()))
    np.testing.assert_allclose(laws_of(batch), expected, atol=1e-7)


def test_parts_have_the_laws_of_their_rows() -> None:
    batches = batches_of(METALM)
    parts = [laws_of(batches(7, Part(index=index, count=4))) for index in range(4)]
    assert torch.equal(torch.cat(parts), laws_of(batches(7)))
    assert torch.equal(laws_of(batches(7).rows(slice(1, 3))), laws_of(batches(7))[1:3])


@pytest.mark.parametrize("family", UNKNOWN, ids=lambda family: family.name)
def test_without_a_best_learner_there_are_no_laws(family: Family) -> None:
    with pytest.raises(OptionError, match=r"data\.targets: got 'law'; allowed: words for these languages"):
        batches_of(family)


def test_of_few_languages_another_learner_is_the_best() -> None:
    with pytest.raises(OptionError, match="allowed: words where there are only 5 languages"):
        batches_of(METALM, n_languages=5)


def test_the_expected_loss_is_that_of_all_words_by_how_probable_they_are() -> None:
    model, batch = shaken_decoder(), batches_of(METALM)(0)
    by_word = [
        laws_of(batch)[..., word]
        * token_losses(model, TokenBatch(inputs_BT=batch.inputs_BT, targets_BT=torch.full_like(batch.inputs_BT, word)))
        for word in range(METALM.n_tokens)
    ]
    expected = expected_losses(model, batch.inputs_BT, laws_of(batch))
    torch.testing.assert_close(expected, torch.stack(by_word).sum(0), atol=1e-6, rtol=1e-5)
    assert Autoregressive()(model, batch, generator(0)).loss.item() == pytest.approx(expected.mean().item())


def test_its_gradient_is_the_mean_over_words_that_come() -> None:
    """Every word at every position, by its probability, each through the loss of single words."""
    model, batch = shaken_decoder(), batches_of(METALM)(0)
    weights = list(model.parameters())
    expected = torch.autograd.grad(Autoregressive()(model, batch, generator(0)).loss, weights)
    total = [torch.zeros_like(weight) for weight in weights]
    for word in range(METALM.n_tokens):
        targets_BT = torch.full_like(batch.inputs_BT, word)
        losses_BT = token_losses(model, TokenBatch(inputs_BT=batch.inputs_BT, targets_BT=targets_BT))
        for gathered, gradient in zip(
            total, torch.autograd.grad((laws_of(batch)[..., word] * losses_BT).mean(), weights), strict=True
        ):
            gathered += gradient
    torch.testing.assert_close(total, list(expected), atol=1e-6, rtol=1e-4)


def test_a_law_that_is_sure_is_a_word() -> None:
    model, batch = shaken_decoder(vocab_size=9), batches_of(METALM, learns_laws=False)(0)  # ids that never come
    sure_BTV = torch.nn.functional.one_hot(batch.targets_BT, METALM.n_tokens).float()
    sure = TokenBatch(inputs_BT=batch.inputs_BT, targets_BT=batch.targets_BT, laws_BTV=sure_BTV)
    by_law, by_word = (Autoregressive()(model, each, generator(0)).loss.item() for each in (sure, batch))
    assert by_law == pytest.approx(by_word, abs=1e-6)


def test_gradients_of_laws_differ_less_from_row_to_row() -> None:
    """That is what they are for: the noise of what came is gone, the mean stays."""
    model = shaken_decoder()
    spread = {}
    for learns_laws in (True, False):
        batch = batches_of(METALM, learns_laws=learns_laws)(0)
        rows = [
            torch.cat(
                [
                    gradient.flatten()
                    for gradient in torch.autograd.grad(
                        Autoregressive()(model, batch.rows(slice(row, row + 1)), generator(0)).loss,
                        list(model.parameters()),
                    )
                ]
            )
            for row in range(4)
        ]
        spread[learns_laws] = torch.stack(rows).var(dim=0).sum().item()
    assert spread[True] < spread[False]


def test_fingerprints_tell_laws_from_words() -> None:
    by_law, by_word = (batches_of(METALM, learns_laws=each).fingerprint() for each in (True, False))
    assert by_law == by_word | {"laws": "unknown-elements"}
    assert json.loads(json.dumps(by_law)) == by_law


def test_a_run_that_learns_laws_goes_on_bit_for_bit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = TINY | {
        "data.targets": "law",
        "evaluation.reference_predictors": "false",
        "monitoring.logging.log_every_n_steps": 1,
        "checkpointing.save_every_n_steps": 2,
        "checkpointing.runs_dir": tmp_path,
    }

    def words_of(name: str) -> list[str]:
        given = options | {"checkpointing.run_name": name}
        return ["train", *(word for path, value in given.items() for word in (f"--{path}", str(value)))]

    assert cli.main(words_of("whole")) == 0
    with dying_after(monkeypatch, 3):
        cli.main(words_of("died"))
    assert cli.main(words_of("died")) == 0
    weights = [tmp_path / name / "checkpoints" / "step_4" / "model.safetensors" for name in ("whole", "died")]
    assert weights[0].read_bytes() == weights[1].read_bytes()
    assert cli.main([*words_of("died"), "--data.targets", "words", "--training.max_steps", "6"]) == 2


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--text", "README.md"], "allowed: words where no languages are drawn"),
        (["--languages.family", "metalm-v2"], "MetaLM-1 has one with visible separators"),
        (["--data.n_languages", "3"], "allowed: words where there are only 3 languages"),
    ],
)
def test_what_has_no_laws_is_refused_before_anything_is_written(
    flags: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["train", *flags, "--data.targets", "law", "--checkpointing.runs_dir", str(tmp_path / "runs")]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()
