"""Training that begins from a pretrained model: its sizes, its weights, its tokenizer, and everything after as ever."""

from __future__ import annotations

from pathlib import Path

import pytest
import safetensors.torch
import torch
from configurations import TINY_FLAGS

from xenoglot.cli import main
from xenoglot.config import ModelConfig, resolve
from xenoglot.config.files import read_config
from xenoglot.corpus.base import Document
from xenoglot.corpus.subwords import train_bpe
from xenoglot.decoder import Decoder

TEXT = "It was the best of times, it was the worst of times, it was the age of wisdom. " * 40
SIZES = {"d_model": 24, "n_layers": 2, "attention_n_heads": 3, "attention_n_kv_heads": 1, "activation_hidden_dim": 20}


def few_steps() -> list[str]:
    pairs = zip(TINY_FLAGS[::2], TINY_FLAGS[1::2], strict=True)
    return [word for pair in pairs if not pair[0].startswith("--model.") for word in pair]


@pytest.fixture
def pretrained(tmp_path: Path) -> Path:
    """A model with a tokenizer, as if it came from elsewhere."""
    tokenizer = train_bpe([Document(where="here", pieces=[TEXT.encode()])], vocab_size=265)
    config = ModelConfig(**SIZES, max_seq_len=32, vocab_size=tokenizer.n_tokens + 3, position_emb_theta=500.0)
    decoder = Decoder(config, torch.Generator().manual_seed(5))
    with torch.no_grad():
        decoder.lm_head.weight.normal_(0.0, 0.2, generator=torch.Generator().manual_seed(6))
    decoder.save_pretrained(tmp_path / "pretrained")
    for name, content in tokenizer.files().items():
        (tmp_path / "pretrained" / name).write_bytes(content)
    (tmp_path / "book.txt").write_text(TEXT)
    return tmp_path / "pretrained"


def trained(pretrained: Path, name: str, *flags: str) -> Path:
    runs = pretrained.parent / "runs"
    place = [f"--checkpointing.runs_dir={runs}", f"--checkpointing.run_name={name}"]
    text = ["--text", str(pretrained.parent / "book.txt"), "--evaluation.reference_predictors", "false"]
    origin = ["--model.from_pretrained", str(pretrained)]
    assert main(["train", *few_steps(), *text, *origin, *place, *flags]) == 0
    return runs / name


def test_a_run_begins_with_its_sizes_weights_and_tokenizer(pretrained):
    still = trained(pretrained, "still", "--training.optimization.lr", "0")
    config = read_config(still / "config.yaml")
    assert {name: getattr(config.model, name) for name in SIZES} == SIZES
    assert (config.model.max_seq_len, config.model.position_emb_theta) == (32, 500.0)
    end = Decoder.from_pretrained(still / "checkpoints" / "step_4")
    origin = Decoder.from_pretrained(pretrained)
    assert all(torch.equal(weight, end.state_dict()[name]) for name, weight in origin.state_dict().items())
    assert (still / "checkpoints" / "step_4" / "tokenizer.json").read_bytes() == (
        pretrained / "tokenizer.json"
    ).read_bytes()


def test_it_goes_on_bit_for_bit_without_the_origin_s_weights(pretrained):
    constant = ["--training.optimization.lr_scheduler", "constant", "--training.optimization.lr_decay_ratio", "0"]
    whole = trained(pretrained, "whole", *constant)
    parted = trained(pretrained, "parted", *constant, "--training.max_steps", "2")
    (pretrained / "model.safetensors").unlink()
    (pretrained / "config.json").unlink()
    assert main(["train", "--resume", str(parted), "--training.max_steps", "4"]) == 0
    expected, got = (Decoder.from_pretrained(run / "checkpoints" / "step_4").state_dict() for run in (whole, parted))
    assert all(torch.equal(weight, got[name]) for name, weight in expected.items())
    early = Decoder.from_pretrained(parted / "checkpoints" / "step_2").state_dict()
    assert not torch.equal(early["lm_head.weight"], got["lm_head.weight"])


def test_rows_may_be_shorter_and_other_sizes_may_not(pretrained, capsys):
    folder = trained(pretrained, "short", "--model.max_seq_len", "8")
    assert Decoder.from_pretrained(folder / "checkpoints" / "step_4").config.max_seq_len == 8
    runs = pretrained.parent / "runs"
    begin = ["train", *few_steps(), f"--checkpointing.runs_dir={runs}", "--text", str(pretrained.parent / "book.txt")]
    assert main([*begin, "--model.from_pretrained", str(pretrained), "--model.n_layers", "3"]) != 0
    assert f"model.n_layers: got 3; allowed: 2, as in {pretrained}" in capsys.readouterr().err
    assert main([*begin, "--model.from_pretrained", str(pretrained), "--model.size", "xenoglot-1m"]) != 0
    assert "model.size: got 'xenoglot-1m'; allowed: none beside model.from_pretrained" in capsys.readouterr().err
    assert main([*begin, "--model.from_pretrained", str(pretrained / "nothing")]) != 0
    assert "got no folder of that name" in capsys.readouterr().err


def test_what_is_given_beside_it_overrules_it(pretrained):
    layer = {"model": {"from_pretrained": str(pretrained), "max_seq_len": 9}, "data": {"text": "book.txt"}}
    config = resolve(layer)
    assert (config.model.max_seq_len, config.model.d_model) == (9, 24)
    assert config.data.tokenizer.name == str(pretrained / "tokenizer.json")
    assert resolve(layer, {"data": {"tokenizer": {"name": "bytes"}}}).data.tokenizer.name == "bytes"


def test_languages_need_no_tokenizer(tmp_path):
    config = ModelConfig(**SIZES, max_seq_len=16, vocab_size=18)
    Decoder(config).save_pretrained(tmp_path / "origin")
    place = [f"--checkpointing.runs_dir={tmp_path}", "--checkpointing.run_name=run"]
    assert main(["train", *few_steps(), *place, "--model.from_pretrained", str(tmp_path / "origin")]) == 0
    stored = safetensors.torch.load_file(tmp_path / "run" / "checkpoints" / "step_4" / "model.safetensors")
    assert stored["model.embed_tokens.weight"].shape == (18, 24)
