"""Folders that others wrote: opened whatever their form, or refused by the name of what is wrong with them."""

from __future__ import annotations

import http.server
import json
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from xenoglot.applying.adapting import open_model
from xenoglot.config import ModelConfig
from xenoglot.decoder import Decoder
from xenoglot.errors import DataError
from xenoglot.interchange import _shapes_of
from xenoglot.model_folders.places import hub_name
from xenoglot.storage.manifest import write_manifest

transformers = pytest.importorskip("transformers")

CONFIG = ModelConfig(
    d_model=16,
    n_layers=2,
    attention_n_heads=4,
    attention_n_kv_heads=2,
    activation_hidden_dim=24,
    max_seq_len=12,
    vocab_size=11,
)
IDS = torch.randint(0, 11, (2, 12), generator=torch.Generator().manual_seed(1))


def llama(*, tied: bool = False) -> torch.nn.Module:
    """A Llama of transformers' own, with random weights."""
    config = transformers.LlamaConfig(
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        intermediate_size=24,
        max_position_embeddings=12,
        vocab_size=11,
        tie_word_embeddings=tied,
        bos_token_id=None,
        eos_token_id=None,
    )
    model = transformers.LlamaForCausalLM(config).eval()
    rng = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for weight in model.parameters():
            weight.normal_(0.0, 0.3, generator=rng)
    return model


def logits_of(model: torch.nn.Module) -> torch.Tensor:
    with torch.no_grad():
        given = model(IDS)
    return given if isinstance(given, torch.Tensor) else given.logits


def change(path: Path, **values: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


# --- what is opened ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_sharded_and_short_numbers_are_read_as_transformers_reads_them(tmp_path, tied, dtype):
    theirs = llama(tied=tied).to(dtype)
    theirs.save_pretrained(tmp_path, max_shard_size="2KB")
    assert (tmp_path / "model.safetensors.index.json").is_file()
    assert len(list(tmp_path.glob("*.safetensors"))) > 2
    ours = Decoder.from_pretrained(tmp_path)
    assert {weight.dtype for weight in ours.state_dict().values()} == {torch.float32}
    torch.testing.assert_close(logits_of(ours), logits_of(theirs.float()), atol=1e-5, rtol=0)


def test_buffers_of_early_writers_are_left_out(tmp_path):
    theirs = llama()
    theirs.save_pretrained(tmp_path)
    weights = safetensors.torch.load_file(tmp_path / "model.safetensors")
    weights["model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.ones(2)
    safetensors.torch.save_file(weights, tmp_path / "model.safetensors")
    torch.testing.assert_close(logits_of(Decoder.from_pretrained(tmp_path)), logits_of(theirs), atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    "said",
    [
        {"rope_scaling": None, "head_dim": None, "num_key_value_heads": 2, "quantization_config": None},
        {"rope_scaling": {"rope_type": "default"}},
        {"rope_parameters": None, "rope_theta": 10000.0},
        {"rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 1.0}},
    ],
)
def test_what_says_nothing_changes_nothing(tmp_path, said):
    theirs = llama()
    theirs.save_pretrained(tmp_path)
    change(tmp_path / "config.json", **said)
    torch.testing.assert_close(logits_of(Decoder.from_pretrained(tmp_path)), logits_of(theirs), atol=1e-5, rtol=0)


def test_a_manifest_of_another_program_says_nothing(tmp_path):
    llama().save_pretrained(tmp_path)
    (tmp_path / "manifest.json").write_text('{"name": "a web app"}')
    assert Decoder.from_pretrained(tmp_path).config.d_model == 16


@settings(max_examples=20, deadline=None)
@given(
    heads=st.sampled_from([(1, 1), (4, 2), (6, 3)]),
    n_layers=st.integers(1, 3),
    hidden=st.integers(1, 40),
    vocab_size=st.integers(2, 99),
    tied=st.booleans(),
)
def test_expected_shapes_are_those_of_a_decoder(heads, n_layers, hidden, vocab_size, tied):
    config = ModelConfig(
        d_model=4 * heads[0],
        n_layers=n_layers,
        attention_n_heads=heads[0],
        attention_n_kv_heads=heads[1],
        activation_hidden_dim=hidden,
        vocab_size=vocab_size,
        tie_word_embeddings=tied,
    )
    made = {name: tuple(weight.shape) for name, weight in Decoder(config).state_dict().items()}
    assert _shapes_of(config) == made


# --- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "named"),
    [
        ({"rope_scaling": {"rope_type": "llama3", "factor": 8.0}}, r"rope_scaling: got .*llama3"),
        ({"rope_theta": [1]}, r"(rope|position_emb)_theta: got \[1\]"),
        ({"rope_parameters": {"rope_type": "yarn", "rope_theta": 10000.0}}, "rope_type: got 'yarn'"),
        ({"rope_parameters": {"rope_type": "default", "rope_theta": 500000.0}, "rope_theta": 10000.0}, "rope_theta"),
        ({"rope_parameters": [1]}, "rope_parameters"),
        ({"partial_rotary_factor": 0.5}, "partial_rotary_factor: got 0.5"),
        ({"attention_bias": True}, "attention_bias: got True; allowed: False"),
        ({"mlp_bias": True}, "mlp_bias"),
        ({"head_dim": 8}, "head_dim: got 8; allowed: 4"),
        ({"hidden_act": "gelu"}, "hidden_act"),
        ({"quantization_config": {"bits": 4}}, "quantization_config"),
        ({"hidden_size": "16"}, "d_model: got '16'"),
        ({"hidden_size": 15}, "d_model: got 15|head_dim"),
        ({"num_attention_heads": 0}, "attention_n_heads: got 0"),
        ({"vocab_size": None}, "vocab_size"),
        ({"vocab_size": 12}, r"model\.embed_tokens\.weight \[11, 16\] instead of \[12, 16\]"),
        ({"num_hidden_layers": 10**9}, "says 1,000,000,000 layers; there are 21 weights"),
        ({"intermediate_size": 10**9}, r"mlp\.down_proj\.weight \[16, 24\] instead of \[16, 1000000000\]"),
        ({"model_type": "mistral"}, "model_type: got 'mistral'"),
        ({"model_type": ["llama"]}, "model_type"),
    ],
)
def test_descriptions_that_do_not_fit_are_refused_by_name(tmp_path, said, named):
    llama().save_pretrained(tmp_path)
    change(tmp_path / "config.json", **said)
    with pytest.raises(DataError, match=named) as caught:
        Decoder.from_pretrained(tmp_path)
    assert str(tmp_path) in str(caught.value)


def test_pickles_are_refused_by_name(tmp_path):
    llama().save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").rename(tmp_path / "pytorch_model.bin")
    with pytest.raises(DataError, match=r"pytorch_model\.bin: got pickled weights.*safetensors"):
        Decoder.from_pretrained(tmp_path)
    (tmp_path / "pytorch_model.bin").unlink()
    with pytest.raises(DataError, match=r"got no model\.safetensors"):
        Decoder.from_pretrained(tmp_path)


@pytest.mark.parametrize("dtype", [torch.int8, torch.float8_e4m3fn])
def test_quantized_numbers_are_refused(tmp_path, dtype):
    llama().save_pretrained(tmp_path)
    weights = safetensors.torch.load_file(tmp_path / "model.safetensors")
    weights["model.layers.0.mlp.up_proj.weight"] = weights["model.layers.0.mlp.up_proj.weight"].to(dtype)
    safetensors.torch.save_file(weights, tmp_path / "model.safetensors")
    with pytest.raises(DataError, match=r"mlp\.up_proj\.weight: got (int8|float8_e4m3fn) numbers"):
        Decoder.from_pretrained(tmp_path)


def test_numbers_that_are_not_finite_are_refused(tmp_path):
    model = llama()
    with torch.no_grad():
        model.model.norm.weight[3] = torch.nan
    model.save_pretrained(tmp_path)
    with pytest.raises(DataError, match=r"model\.norm\.weight: got numbers that are not finite"):
        Decoder.from_pretrained(tmp_path)


def test_a_tied_description_with_two_matrices_is_refused(tmp_path):
    llama().save_pretrained(tmp_path)
    change(tmp_path / "config.json", tie_word_embeddings=True)
    with pytest.raises(DataError, match=r"tie_word_embeddings, but lm_head\.weight is not"):
        Decoder.from_pretrained(tmp_path)


@pytest.mark.parametrize(
    ("weight_map", "named"),
    [
        ({"model.norm.weight": "../outside.safetensors"}, "outside"),
        ({"model.norm.weight": "absent.safetensors"}, r"absent\.safetensors"),
        ({"model.norm.weight": 3}, "no readable index"),
        (None, "no readable index"),
    ],
)
def test_an_index_that_is_wrong_is_refused(tmp_path, weight_map, named):
    folder = tmp_path / "model"
    llama().save_pretrained(folder, max_shard_size="2KB")
    shutil.copy(next(iter(folder.glob("*.safetensors"))), tmp_path / "outside.safetensors")
    index = folder / "model.safetensors.index.json"
    whole = json.loads(index.read_text())["weight_map"]
    change(index, weight_map=None if weight_map is None else {**whole, **weight_map})
    with pytest.raises(DataError, match=named):
        Decoder.from_pretrained(folder)


def test_a_shard_with_other_tensors_is_refused(tmp_path):
    llama().save_pretrained(tmp_path, max_shard_size="2KB")
    first, second, *_ = sorted(tmp_path.glob("*.safetensors"))
    first.write_bytes(second.read_bytes())
    with pytest.raises(DataError, match=r"-00001-of-\d+\.safetensors: its tensors are not those"):
        Decoder.from_pretrained(tmp_path)


def complaint_about(folder: Path) -> str | None:
    try:
        Decoder.from_pretrained(folder)
    except DataError as error:
        return str(error)
    return None


@settings(max_examples=60, deadline=None)
@given(place=st.floats(0, 1), bit=st.integers(0, 7), is_cut=st.booleans())
def test_whatever_is_torn_or_flipped_is_one_clear_error(tmp_path_factory, place, bit, is_cut):
    """With a manifest always; without one, it opens or is an error of ours, and never anything else."""
    folder = tmp_path_factory.mktemp("model")
    Decoder(CONFIG).save_pretrained(folder)
    path = folder / "model.safetensors"
    raw = bytearray(path.read_bytes())
    at = min(int(place**4 * len(raw)), len(raw) - 1)  # mostly in the header
    torn = raw[:at] if is_cut else bytes([*raw[:at], raw[at] ^ (1 << bit), *raw[at + 1 :]])
    write_manifest(folder, {"step": 1})
    assert Decoder.from_pretrained(folder).config == CONFIG
    path.write_bytes(torn)
    with pytest.raises(DataError, match=r"model\.safetensors (is changed|has .* bytes)"):
        Decoder.from_pretrained(folder)
    (folder / "manifest.json").unlink()
    complaint = complaint_about(folder)
    assert complaint is None or str(folder) in complaint
    assert complaint or not is_cut


# --- names on the Hub -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("user/name", ("user/name", None)),
        ("user/name@step-4", ("user/name", "step-4")),
        ("name", None),
        ("./user/name", None),
        ("/user/name", None),
        ("a/b/c", None),
        ("../name", None),
        ("user/name@", None),
    ],
)
def test_what_may_be_a_name(name, expected):
    assert hub_name(name) == expected


def test_a_folder_that_is_there_is_no_name(tmp_path, monkeypatch):
    (tmp_path / "user" / "name").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert hub_name("user/name") is None


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """A local stand-in for the Hub with one model, behind the real client; gives the paths that were asked for."""
    from huggingface_hub import constants, file_download

    store, asked = tmp_path / "store", list[str]()
    llama().save_pretrained(store)
    (store / "pytorch_model.bin").write_bytes(b"not to be fetched")
    (store / "evil.py").write_text("not to be fetched")
    (store / "state").mkdir()
    (store / "state" / "optimizer.safetensors").write_bytes(b"not to be fetched")
    commit = "0123456789012345678901234567890123456789"
    files = {str(path.relative_to(store)): path for path in store.rglob("*") if path.is_file()}

    class Handler(http.server.BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

        def do_HEAD(self) -> None:
            self.answer()

        def do_GET(self) -> None:
            self.answer()

        def answer(self) -> None:
            asked.append(self.path)
            name = self.path.partition("?")[0]
            listed = [{"rfilename": each} for each in files]
            tree = [
                {"type": "file", "path": each, "size": place.stat().st_size, "oid": "0" * 40}
                for each, place in files.items()
            ]
            if name.removeprefix("/api/models/me/mine") in ("", *(f"/revision/{each}" for each in ("step-4", commit))):
                body = json.dumps({"id": "me/mine", "sha": commit, "siblings": listed}).encode()
            elif name.startswith("/api/models/me/mine/tree/"):
                body = json.dumps(tree).encode()
            elif name.startswith(f"/me/mine/resolve/{commit}/") and name.rpartition(f"{commit}/")[2] in files:
                body = files[name.rpartition(f"{commit}/")[2]].read_bytes()
            else:
                body = b"{}"
                self.send_response(404)
                self.send_header("X-Error-Code", "RepoNotFound" if "absent" in name else "RevisionNotFound")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                return
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("ETag", f'"{abs(hash(name))}"')
            self.send_header("X-Repo-Commit", commit)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    url = f"http://127.0.0.1:{server.server_address[1]}"
    monkeypatch.setattr(constants, "ENDPOINT", url)
    for holder in (constants, file_download):  # the second, in its releases before 1.0, keeps a name of its own
        template = url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(holder, "HUGGINGFACE_CO_URL_TEMPLATE", template, raising=False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_XET_CACHE", str(tmp_path / "xet"))
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.chdir(tmp_path)
    yield asked
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_name_on_the_hub_is_opened_and_only_safe_files_are_fetched(hub, tmp_path):
    opened = open_model("me/mine@step-4")
    assert opened.name == "mine"
    expected = logits_of(Decoder.from_pretrained(tmp_path / "store"))
    assert torch.equal(logits_of(opened.decoder), expected)
    assert any("step-4" in path for path in hub)
    fetched = {path.rpartition("/")[2] for path in hub if "/resolve/" in path}
    assert fetched == {"config.json", "generation_config.json", "model.safetensors"}


def test_a_name_that_the_hub_has_not_is_an_error_of_ours(hub):
    with pytest.raises(DataError, match=r"me/absent: there is no such folder here, and the Hub gives no such model"):
        Decoder.from_pretrained("me/absent")
