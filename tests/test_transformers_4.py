"""Transformers 4.57, in an environment of its own, computes from our exports what we do, and gives the same tokens.

`make test-slow` makes that environment, which takes minutes and some 1.5 GB. Where XENOGLOT_TRANSFORMERS_4 names a
Python that has it already, that one is used.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from decoders import shaken
from safetensors.torch import load_file, save_file

from xenoglot.applying.exporting import export
from xenoglot.cli import main
from xenoglot.config import ModelConfig
from xenoglot.decoder import Decoder

pytest.importorskip("transformers")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

WANTED = "4.57"
PROMPT = "It was the best, naïve"
N_TOKENS = 200
TOKENIZERS = ("bytes", "bpe")
MODELS = {
    "tied": {"tie_word_embeddings": True, "position_emb_theta": 500_000.0},
    "grouped": {"attention_n_kv_heads": 2, "position_emb_theta": 10_000.0, "vocab_size": 101},
    "full": {"attention_n_kv_heads": 4, "position_emb_theta": 500_000.0, "vocab_size": 257},
    "far": {"attention_n_kv_heads": 1, "position_emb_theta": 500.0, "max_seq_len": 1024},
}
THEIRS = """
import json, sys
import torch, transformers
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer
results = {"version": transformers.__version__}
for folder in sys.argv[2:]:
    model, ids = AutoModelForCausalLM.from_pretrained(folder).eval(), load_file(folder + ".ids")["ids"]
    with torch.no_grad():
        logits = model(ids).logits
    save_file({"logits": logits}, folder + ".logits")
    written = model.generate(ids[:, :8], max_new_tokens=200, do_sample=False)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    prompt = sys.argv[1] if len(tokenizer("It was").input_ids) > 2 else "3 1 2"
    results[folder] = {
        "class": type(model).__name__,
        "written": written.tolist(),
        "theta": model.config.rope_theta,
        "n_tokens": len(tokenizer),
        "special": [tokenizer.pad_token_id, tokenizer.eos_token_id],
        "prompt": prompt,
        "ids": tokenizer(prompt).input_ids,
        "again": tokenizer.decode(tokenizer(prompt).input_ids),
    }
print(json.dumps(results))
"""


@pytest.fixture(scope="module")
def their_python(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A Python with transformers 4.57, and the torch that is here; skips where packages cannot be had."""
    given = os.environ.get("XENOGLOT_TRANSFORMERS_4")
    if given:
        return given
    place = tmp_path_factory.mktemp("transformers_4") / "venv"
    subprocess.run([sys.executable, "-m", "venv", str(place)], check=True)
    python = str(place / "bin" / "python")
    wanted = [f"torch=={torch.__version__.partition('+')[0]}", f"transformers=={WANTED}.*", "safetensors"]
    done = subprocess.run([python, "-m", "pip", "install", "--quiet", *wanted], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"transformers {WANTED} cannot be installed here: {done.stderr.strip().splitlines()[-1]}")
    return python


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Exports of every kind: drawn models of bare ids, and a run on text with each tokenizer of ours."""
    place = tmp_path_factory.mktemp("exports")
    for name, options in MODELS.items():
        sizes = {
            "d_model": 32,
            "n_layers": 2,
            "attention_n_heads": 4,
            "attention_n_kv_heads": 2,
            "activation_hidden_dim": 48,
            "max_seq_len": 256,
            "vocab_size": 29,
        }
        shaken(ModelConfig(**{**sizes, **options})).save_pretrained(place / f"{name} ours")
        export(place / f"{name} ours", place / name)
    (place / "book.txt").write_text("It was the best of times, it was the worst of times; naïve. " * 400)
    for name in TOKENIZERS:
        flags = {
            "training.max_steps": 2,
            "model.size": "xenoglot-1m",
            "model.max_seq_len": 256,
            "data.dataloader.batch_size": 2,
            "data.tokenizer.name": name,
            "checkpointing.runs_dir": place,
            "checkpointing.run_name": f"{name} run",
        }
        words = [f"--{option}={value}" for option, value in flags.items()]
        assert main(["train", "--text", str(place / "book.txt"), *words]) == 0
        export(place / f"{name} run", place / name)
    return [place / name for name in (*MODELS, *TOKENIZERS)]


def test_it_agrees(their_python: str, folders: list[Path]) -> None:
    ours = {str(folder): Decoder.from_pretrained(folder) for folder in folders}
    ids = {}
    for folder, decoder in ours.items():
        rng = torch.Generator().manual_seed(1)
        first = 1 if Path(folder).name in TOKENIZERS else 0  # in text, id 0 is the padding
        ids[folder] = torch.randint(first, decoder.vocab_size, (2, decoder.config.max_seq_len), generator=rng)
        save_file({"ids": ids[folder]}, f"{folder}.ids")
    done = subprocess.run([their_python, "-c", THEIRS, PROMPT, *ours], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    theirs = json.loads(done.stdout.splitlines()[-1])
    assert theirs["version"].startswith(WANTED)
    for folder, decoder in ours.items():
        said = theirs[folder]
        with torch.no_grad():
            logits = decoder(ids[folder])
        difference = (load_file(f"{folder}.logits")["logits"] - logits).abs().max()
        print(f"{Path(folder).name}: logits of {said['class']} differ by at most {difference:.2g}")
        assert said["class"] == "LlamaForCausalLM"
        assert said["theta"] == decoder.config.position_emb_theta
        assert difference <= 1e-5
        written = decoder.generate(ids[folder][:, :8], max_new_tokens=N_TOKENS, temperature=0)
        assert written.tolist() == said["written"]
        check_tokenizer(Path(folder), said)


def check_tokenizer(folder: Path, said: dict[str, object]) -> None:
    import transformers

    here = transformers.AutoTokenizer.from_pretrained(folder)
    assert said["n_tokens"] == len(here)
    assert said["special"] == [here.pad_token_id, here.eos_token_id]
    assert said["ids"] == here(said["prompt"])["input_ids"]
    assert str(said["again"]).strip() == said["prompt"]
