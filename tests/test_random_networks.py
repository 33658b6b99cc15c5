"""MetaLM-2 and NgramNet against plain numpy networks with the same weights."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats

from xenoglot.languages import MetaLMv2, NgramNet
from xenoglot.languages.metalm_v2 import MetaLMv2Language


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def plain_recurrent_law(language: MetaLMv2Language, inputs: np.ndarray) -> np.ndarray:
    """Log-probabilities of the next token by a textbook cell, step by step."""
    family, weights = language.family, language.weights
    recurrent, width = weights.recurrent_weights_GHH, weights.output_weights_VH.shape[1]
    h, memory, rows = np.zeros(width), np.zeros(width), []
    for token in inputs:
        if family.reset_on_start and token == inputs[0]:
            h, memory = np.zeros(width), np.zeros(width)
        x = weights.input_weights_GHn @ weights.embeddings_Vn[token - 1] + weights.biases_GH
        if family.cell == "rnn":
            h = np.tanh(x[0] + recurrent[0] @ h)
        elif family.cell == "gru":
            r, z = sigmoid(x[0] + recurrent[0] @ h), sigmoid(x[1] + recurrent[1] @ h)
            h = z * h + (1 - z) * np.tanh(x[2] + recurrent[2] @ (r * h))
        else:
            i, f, o = (sigmoid(x[g] + recurrent[g] @ h) for g in range(3))
            memory = f * memory + i * np.tanh(x[3] + recurrent[3] @ h)
            h = o * np.tanh(memory)
        logits = (weights.output_weights_VH @ h + weights.output_biases_V) / family.temperature
        rows.append(logits - logits.max() - np.log(np.exp(logits - logits.max()).sum()))
    return np.array(rows)


@pytest.mark.parametrize("cell", ["rnn", "gru", "lstm"])
@pytest.mark.parametrize(
    "options",
    [
        {"vocab_size": 23, "n": 5},
        {"vocab_size": 6, "n": 3, "hidden_size": 17, "reset_on_start": True},
        {"vocab_size": 40, "n": 9, "hidden_size": 8, "temperature": 0.02},  # too sharp for float32 proposals
    ],
)
def test_recurrent_languages_equal_the_textbook_cell(cell: str, options: dict[str, float]) -> None:
    family = MetaLMv2(cell=cell, **options)  # type: ignore[arg-type]
    batch = family.batch(3, 40, seed=1, floor=True)
    for i, language in enumerate(batch.languages):
        expected = plain_recurrent_law(language, batch.inputs[i])
        np.testing.assert_allclose(language.predict(batch.inputs[i])[:, 1:], expected, atol=1e-8)
        np.testing.assert_allclose(
            batch.floor_nats[i], -expected[np.arange(40), batch.targets[i] - 1], rtol=1e-6, atol=1e-6
        )


def test_the_law_does_not_change_with_the_floor() -> None:
    family = MetaLMv2(vocab_size=50, n=8)
    np.testing.assert_array_equal(family.batch(4, 300, 3).targets, family.batch(4, 300, 3, floor=True).targets)


def test_weights_and_biases_are_standard_normal() -> None:
    weights = MetaLMv2(vocab_size=300, n=40, cell="lstm").draw(5).weights
    for part in weights:
        assert scipy.stats.kstest(part.ravel(), "norm").pvalue > 1e-4


def test_targets_are_the_next_inputs_and_the_first_token_is_uniform() -> None:
    for family in (MetaLMv2(vocab_size=5, n=4), NgramNet(vocab_size=5)):
        batch = family.batch(4000, 3, seed=0)
        np.testing.assert_array_equal(batch.inputs[:, 1:], batch.targets[:, :-1])
        assert scipy.stats.chisquare(np.bincount(batch.inputs[:, 0], minlength=6)[1:]).pvalue > 1e-4


@pytest.mark.parametrize(
    "options",
    [
        {"vocab_size": 23, "n": 4, "embedding_size": 5, "hidden_size": 9},
        {"vocab_size": 9, "n": 1, "sharpness": 1000.0},  # e^logit alone would overflow
        {"vocab_size": 700, "n": 9, "embedding_size": 3, "hidden_size": 4},  # too large for a table of logits
    ],
)
def test_ngram_networks_equal_plain_numpy(options: dict[str, float]) -> None:
    family = NgramNet(**options)  # type: ignore[arg-type]
    batch = family.batch(2, 60, seed=8, floor=True)
    for i, language in enumerate(batch.languages):
        weights, inputs = language.weights, batch.inputs[i]
        for t in range(60):
            hidden = np.zeros(family.hidden_size)
            for place in range(min(family.n, t + 1)):
                token = weights.embeddings_Vd[inputs[t - place] - 1]
                layer = np.tanh(weights.input_weights_nHd[place] @ token + weights.biases_nH[place])
                hidden += (family.n - place) * layer / family.n
            logits = weights.output_weights_VH @ hidden + weights.output_biases_V
            logits = family.sharpness * (logits - logits.mean()) / logits.std()
            expected = logits - logits.max() - np.log(np.exp(logits - logits.max()).sum())
            np.testing.assert_allclose(language.predict(inputs[: t + 1])[-1, 1:], expected, atol=1e-8)
            assert batch.floor_nats[i, t] == pytest.approx(-expected[batch.targets[i, t] - 1], rel=1e-6, abs=1e-6)


def test_proposals_in_float32_are_accepted_into_the_float64_law() -> None:
    """Two million draws of one context: their counts follow the float64 law, to a chi-square test."""
    family = MetaLMv2(vocab_size=12, n=6)
    language = family.draw(2)
    batch = language.batch(400_000, 1, seed=0)
    for token in range(1, 13):
        drawn = batch.targets[batch.inputs == token]
        law = np.exp(language.predict([token])[0, 1:])
        counts = np.bincount(drawn, minlength=13)[1:]
        often = law * len(drawn) > 10
        pooled = np.append(counts[often], counts[~often].sum())
        expected = np.append(law[often], law[~often].sum()) * len(drawn)
        kept = expected > 0
        assert (
            scipy.stats.chisquare(pooled[kept], expected[kept] / expected[kept].sum() * pooled[kept].sum()).pvalue
            > 1e-5
        )


@pytest.mark.parametrize(("n", "is_chaotic"), [(16, False), (64, True)])
def test_wide_networks_are_chaotic_and_narrow_ones_are_not(n: int, is_chaotic: bool) -> None:
    """What the docstring of MetaLM-2 says of rounding errors, by a plain network that reads the same row twice."""
    for seed in range(5):
        language = MetaLMv2(vocab_size=64, n=n).draw(seed)
        weights, inputs = language.weights, language.batch(1, 200, seed).inputs[0]
        states = np.zeros((2, n))
        states[1] += 1e-12
        for token in inputs:
            from_token = weights.input_weights_GHn[0] @ weights.embeddings_Vn[token - 1] + weights.biases_GH[0]
            states = np.tanh(from_token + states @ weights.recurrent_weights_GHH[0].T)
        apart = np.abs(states[0] - states[1]).max()
        assert apart > 0.1 if is_chaotic else apart < 1e-9
