"""Exports: what others compute from a folder is what we do, and it says what it is; or there is no folder."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch
import yaml
from configurations import TINY_FLAGS
from decoders import shaken
from hypothesis import given, settings
from hypothesis import strategies as st

from xenoglot.applying import exporting
from xenoglot.applying.adapting import open_model
from xenoglot.applying.exporting import export
from xenoglot.cli import main
from xenoglot.config import ModelConfig
from xenoglot.corpus.id_words import are_id_words
from xenoglot.decoder import Decoder
from xenoglot.errors import DataError, MissingExtraError, OptionError, OutputError
from xenoglot.verification import verify

transformers = pytest.importorskip("transformers")

EXPORTED = {
    "README.md",
    "config.json",
    "generation_config.json",
    "manifest.json",
    "model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
}
TEXT = "It was the best of times, it was the worst of times, it was the age of wisdom; naïve. " * 40
SMALL = ModelConfig(
    d_model=32,
    n_layers=2,
    attention_n_heads=4,
    attention_n_kv_heads=2,
    activation_hidden_dim=48,
    max_seq_len=64,
    vocab_size=29,
)


def ids_of(config: ModelConfig, *shape: int) -> torch.Tensor:
    return torch.randint(0, config.vocab_size, shape, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A run of each kind of data, a few steps long."""
    place = tmp_path_factory.mktemp("runs")
    (place / "book.txt").write_text(TEXT)
    shared = ["train", *TINY_FLAGS, f"--checkpointing.runs_dir={place}", "--checkpointing.run_name"]
    assert main([*shared, "languages"]) == 0
    text = ["--text", str(place / "book.txt"), "--evaluation.eval_every_n_steps", "4"]
    assert main([*shared, "bytes", *text]) == 0
    assert main([*shared, "bpe", *text, "--data.tokenizer.name", "bpe", "--data.tokenizer.vocab_size", "270"]) == 0
    return {name: place / name for name in ("languages", "bytes", "bpe")}


# --- what others compute ----------------------------------------------------------------------------------------------


@settings(max_examples=10, deadline=None)
@given(
    heads=st.sampled_from([(4, 4, 8), (4, 2, 8), (6, 1, 4), (3, 3, 16)]),
    tied=st.booleans(),
    theta=st.sampled_from([10_000.0, 500_000.0]),
    vocab_size=st.sampled_from([2, 29, 257, 1009]),
    max_seq_len=st.sampled_from([1, 33, 512]),
)
def test_logits_are_the_same_there_and_back_again(tmp_path_factory, heads, tied, theta, vocab_size, max_seq_len):
    n_heads, n_kv_heads, size = heads
    config = ModelConfig(
        d_model=n_heads * size,
        n_layers=2,
        attention_n_heads=n_heads,
        attention_n_kv_heads=n_kv_heads,
        activation_hidden_dim=40,
        max_seq_len=max_seq_len,
        vocab_size=vocab_size,
        position_emb_theta=theta,
        tie_word_embeddings=tied,
    )
    decoder, ids, place = shaken(config), ids_of(config, 2, max_seq_len), tmp_path_factory.mktemp("export")
    decoder.save_pretrained(place / "ours")
    export(place / "ours", place / "exported")
    theirs = transformers.AutoModelForCausalLM.from_pretrained(place / "exported")
    theirs.save_pretrained(place / "theirs")
    again = Decoder.from_pretrained(place / "theirs")
    with torch.no_grad():
        expected = decoder(ids)
        torch.testing.assert_close(theirs(ids).logits, expected, atol=1e-5, rtol=0)
        torch.testing.assert_close(again(ids), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize(("theta", "tied"), [(10_000.0, False), (500_000.0, True)])
def test_greedy_writing_is_the_same_for_200_tokens(tmp_path, theta, tied):
    config = ModelConfig(
        d_model=32,
        n_layers=3,
        attention_n_heads=4,
        attention_n_kv_heads=2,
        activation_hidden_dim=48,
        max_seq_len=256,
        vocab_size=101,
        position_emb_theta=theta,
        tie_word_embeddings=tied,
    )
    decoder, prompts = shaken(config, 3.0), ids_of(config, 4, 8)
    prompts[1, 3] = 0  # MASK is read, and is no padding
    decoder.save_pretrained(tmp_path / "ours")
    theirs = transformers.AutoModelForCausalLM.from_pretrained(export(tmp_path / "ours", tmp_path / "there").folder)
    expected = theirs.generate(prompts, max_new_tokens=200, do_sample=False)
    got = decoder.generate(prompts, max_new_tokens=200, temperature=0)
    assert got.shape == (4, 208)
    assert torch.equal(got, expected)
    assert len(got.unique()) > 10


# --- what a folder is -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["languages", "bytes", "bpe"])
def test_a_run_becomes_a_folder_that_is_complete_and_proves_itself(runs, kind, tmp_path, capsys):
    place = tmp_path / "out"
    assert main(["export", str(runs[kind]), str(place)]) == 0
    assert "native LlamaForCausalLM" in capsys.readouterr().out
    assert {path.name for path in place.iterdir()} == EXPORTED
    assert [verdict.faults for verdict in verify(place)] == [[]]
    checkpoint = runs[kind] / "checkpoints" / "step_4"
    for name in EXPORTED - {"manifest.json"}:
        assert (place / name).read_bytes() == (checkpoint / name).read_bytes(), name
    assert not any(path.suffix == ".py" for path in place.rglob("*"))
    assert "auto_map" not in json.loads((place / "config.json").read_text())


@pytest.mark.parametrize("kind", ["languages", "bytes", "bpe"])
def test_pipelines_write_with_its_tokenizer(runs, kind, tmp_path):
    folder = export(runs[kind], tmp_path / "out").folder
    prompt = "3 1 2 3 1" if kind == "languages" else "naïv"
    write = transformers.pipeline("text-generation", model=str(folder), device="cpu")
    [result] = write(prompt, max_new_tokens=6, max_length=None, do_sample=False)
    assert result["generated_text"].startswith(prompt)
    opened = open_model(folder)
    ids = write.tokenizer(prompt)["input_ids"]
    expected = opened.decoder.generate(torch.tensor([ids]), max_new_tokens=6, temperature=0)
    whole = write.tokenizer.decode(expected[0], skip_special_tokens=True)
    assert result["generated_text"] == whole.removeprefix(" ")
    if kind == "languages":
        assert ids == [3, 1, 2, 3, 1]
        assert opened.tokenizer is None
        assert are_id_words((folder / "tokenizer.json").read_bytes())


def test_generation_settings_say_where_texts_end(runs, tmp_path):
    settings_of = {
        kind: json.loads((export(runs[kind], tmp_path / kind).folder / "generation_config.json").read_text())
        for kind in runs
    }
    assert settings_of["languages"] == {"bos_token_id": None, "eos_token_id": None, "pad_token_id": None}
    assert settings_of["bpe"] == {"bos_token_id": None, "eos_token_id": 1, "pad_token_id": 0}
    assert settings_of["bytes"]["eos_token_id"] in (None, 257)
    for kind, said in settings_of.items():
        read = transformers.GenerationConfig.from_pretrained(tmp_path / kind)
        assert {name: getattr(read, name) for name in said} == said


def test_what_is_exported_once_more_stays_the_same(runs, tmp_path):
    for kind in ("languages", "bpe"):
        first = export(runs[kind], tmp_path / f"{kind} 1").folder
        second = export(first, tmp_path / f"{kind} 2").folder
        for name in EXPORTED - {"manifest.json", "README.md"}:
            assert (first / name).read_bytes() == (second / name).read_bytes(), name


# --- the card ---------------------------------------------------------------------------------------------------------


def test_the_card_is_valid_for_the_hub_and_says_what_was_measured(runs, tmp_path):
    from huggingface_hub import ModelCard

    folder = export(runs["languages"], tmp_path / "out", name="first", licence="cc-by-4.0").folder
    card = ModelCard.load(folder / "README.md")
    assert card.data.license == "cc-by-4.0"
    assert (card.data.library_name, card.data.pipeline_tag) == ("transformers", "text-generation")
    assert {"xenoglot", "llama", "metalm-v1"} <= set(card.data.tags)
    assert card.data.model_name == "first"
    measured = {(result.dataset_name, result.metric_type): result.metric_value for result in card.data.eval_results}
    results = json.loads((runs["languages"] / "eval_results" / "step_4.json").read_text())["rows"]
    [last] = [row["metrics"] for row in results if row["slices"] == {"part": "last quarter"}]
    for metric in ("loss_nats", "floor_nats", "excess_nats"):
        got = measured["fresh metalm-v1 languages, last quarter", metric]
        assert got == pytest.approx(last[metric], abs=1e-6)
    for said in ("# first", "vocab_size 16", f"{last['excess_nats']:.4f}", "max_steps: 4", "cc-by-4.0"):
        assert said in card.text


def test_the_card_of_a_text_claims_no_licence_and_tells_no_places(runs, tmp_path):
    card = (export(runs["bytes"], tmp_path / "out").folder / "README.md").read_text()
    head = yaml.safe_load(card.split("---\n")[1])
    assert head["license"] == "unknown"
    assert "`book.txt`" in card
    assert str(runs["bytes"].parent) not in card


def test_languages_alone_give_the_package_s_own_licence(runs, tmp_path):
    card = (export(runs["languages"], tmp_path / "out").folder / "README.md").read_text()
    assert yaml.safe_load(card.split("---\n")[1])["license"] == "apache-2.0"


# --- no folder --------------------------------------------------------------------------------------------------------


def test_a_bidirectional_model_is_refused(tmp_path):
    config = ModelConfig(d_model=16, n_layers=1, vocab_size=11, attention="bidirectional")
    shaken(config).save_pretrained(tmp_path / "ours")
    with pytest.raises(OptionError, match="attention: got 'bidirectional'; allowed: causal"):
        export(tmp_path / "ours", tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["ours"]


def test_other_logits_leave_nothing(tmp_path, monkeypatch):
    """What is written is not the model: one number of one weight is another."""
    shaken(SMALL).save_pretrained(tmp_path / "ours")
    write = exporting.write_model_folder

    def write_wrongly(folder, config, weights):
        name = "model.layers.1.mlp.up_proj.weight"
        wrong = weights[name].clone()
        wrong[0, 0] += 0.5
        write(folder, config, {**weights, name: wrong})

    monkeypatch.setattr(exporting, "write_model_folder", write_wrongly)
    with pytest.raises(OutputError, match=r"out: transformers \S+ computes logits that differ by"):
        export(tmp_path / "ours", tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["ours"]


def test_another_tokenizer_leaves_nothing(runs, tmp_path, monkeypatch):
    whole = exporting.further_files
    monkeypatch.setattr(exporting, "further_files", lambda n_ids, files: whole(n_ids + 1, files))
    with pytest.raises(OutputError, match="tokenizer has 19 ids"):
        export(runs["languages"], tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_there_is_left_alone(tmp_path):
    shaken(SMALL).save_pretrained(tmp_path / "ours")
    (tmp_path / "out").mkdir()
    with pytest.raises(OutputError, match="it is there already"):
        export(tmp_path / "ours", tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_without_transformers_the_extra_is_named(tmp_path, monkeypatch):
    shaken(SMALL).save_pretrained(tmp_path / "ours")
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'xenoglot\[hub\]'"):
        export(tmp_path / "ours", tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["ours"]


def test_a_damaged_checkpoint_is_refused(runs, tmp_path):
    checkpoint = tmp_path / "step_4"
    checkpoint.mkdir()
    for path in (runs["languages"] / "checkpoints" / "step_4").glob("*.*"):
        (checkpoint / path.name).write_bytes(path.read_bytes())
    weights = bytearray((checkpoint / "model.safetensors").read_bytes())
    weights[-3] ^= 1
    (checkpoint / "model.safetensors").write_bytes(weights)
    with pytest.raises(DataError, match=r"model\.safetensors is changed"):
        export(checkpoint, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_what_is_no_model_is_refused_in_words(tmp_path, capsys):
    assert main(["export", str(tmp_path / "nothing" / "here" / "at all"), str(tmp_path / "out")]) != 0
    assert "got no folder of that name" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
