"""xenoglot analyze: what it finds against formulas on the files themselves; what it refuses; its part of the report."""

from __future__ import annotations

import csv
import json
import math
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from configurations import TINY
from scipy.stats import spearmanr

from xenoglot import run
from xenoglot.analysis import AnalysisConfig, analyze, heads
from xenoglot.analysis.config import ComponentConfig, MetricConfig, StepsConfig, read_analysis_config
from xenoglot.analysis.results import Finding, read_findings, write_findings
from xenoglot.analysis.tables import formation, grids, rank_correlation
from xenoglot.cli import main
from xenoglot.config import default_config, with_overrides
from xenoglot.errors import ConfigFileError, DataError, OptionError
from xenoglot.report import write_report
from xenoglot.report.analysis import formation_in_words

SIZES = TINY | {"model.n_layers": 2, "model.max_seq_len": 32, "evaluation.reference_predictors": False}
LAYER = "model.layers.1.self_attn.v_proj"
ONLY_LAYERS = {"induction": {"enabled": False}, "gradients": {"enabled": False}}


def trained(folder: Path, name: str, **overrides: Any) -> Path:
    settings = SIZES | {"checkpointing.runs_dir": str(folder), "checkpointing.run_name": name}
    settings |= {"checkpointing.save_every_n_steps": 2, "data.easy_start": False}
    return run.start(with_overrides(default_config(), settings | overrides)).folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three runs of four steps: without dynamics, with them at step 4 and others, and one of another seed."""
    folder = tmp_path_factory.mktemp("runs")
    dynamics = {"checkpointing.learning_dynamics.enabled": True, "checkpointing.learning_dynamics.steps": [0, 4]}
    dynamics["checkpointing.learning_dynamics.sequence_idx"] = None
    trained(folder, "plain")
    trained(folder, "kept", **dynamics)
    trained(folder, "other", **dynamics | {"training.optimization.lr": 0.02})
    return folder


def asked(path: Path, *metrics: dict[str, Any], **others: Any) -> AnalysisConfig:
    path.write_text(json.dumps({"metrics": list(metrics), **ONLY_LAYERS, **others}))  # JSON is YAML
    return read_analysis_config(path)


def values_of(findings: Sequence[Finding], **facts: Any) -> list[float]:
    return [each.value for each in findings if all(getattr(each, name) == expected for name, expected in facts.items())]


def stored(run_folder: Path, step: int, file: str) -> dict[str, np.ndarray]:
    return safetensors.numpy.load_file(run_folder / "checkpoints" / f"step_{step}" / file)


def cka_by_kernels(first: np.ndarray, second: np.ndarray) -> float:
    """Linear CKA from kernels [N, N], each centred by a matrix."""
    n = len(first)
    centring = np.eye(n) - 1 / n
    kernels = [centring @ (x.astype(float) @ x.astype(float).T) @ centring for x in (first, second)]
    inner = [[np.trace(a @ b) for a in kernels] for b in kernels]
    return float(inner[0][1] / math.sqrt(inner[0][0] * inner[1][1]))


class TestWithoutDynamics:
    def test_the_command_leaves_numbers_pictures_and_a_report(
        self, folder: Path, capfd: pytest.CaptureFixture[str]
    ) -> None:
        plain = folder / "plain"
        assert main(["analyze", str(plain)]) == 0
        said = capfd.readouterr()
        assert "no learning dynamics" in said.err
        assert "report:" in said.out
        found = read_findings(plain / "analysis" / "results.jsonl")
        table = list(csv.DictReader((plain / "analysis" / "results.csv").read_text().splitlines()))
        assert len(found) == len(table) > 100
        assert {finding.step for finding in found} == {2, 4}
        assert {finding.data_type for finding in found} == {None, "weights", "gradients"}
        for grid in grids(found):
            assert (plain / "analysis" / f"{grid.name}.png").read_bytes()[:4] == b"\x89PNG"
        assert (plain / "analysis" / "heads.png").exists()
        page = (plain / "report.html").read_text()
        assert page.count('class="cell"') >= sum(np.isfinite(grid.values).sum() for grid in grids(found))

    def test_weights_are_measured_at_every_checkpoint(self, folder: Path, tmp_path: Path) -> None:
        metric = {"metric_name": "frobenius_norm", "components": [{"layer_suffixes": "attention.v_proj"}]}
        [found] = analyze([folder / "plain"], asked(tmp_path / "a.yaml", metric))
        for step in (2, 4):
            weight = stored(folder / "plain", step, "model.safetensors")[f"{LAYER}.weight"]
            [value] = values_of(found.findings, step=step, layer=LAYER)
            assert value == pytest.approx(np.sqrt((weight.astype(float) ** 2).sum()))

    def test_circuits_are_products_of_two_matrices_per_head(self, folder: Path, tmp_path: Path) -> None:
        metric = {"metric_name": "frobenius_norm", "components": [{"component_name": "ov_circuit", "layers": [1]}]}
        [found] = analyze([folder / "plain"], asked(tmp_path / "a.yaml", metric))
        weights = stored(folder / "plain", 4, "model.safetensors")
        attention = "model.layers.1.self_attn"
        for head in range(2):
            part = slice(8 * head, 8 * head + 8)
            circuit = weights[f"{attention}.o_proj.weight"][:, part] @ weights[f"{attention}.v_proj.weight"][part]
            assert values_of(found.findings, step=4, layer="1", head=head) == [
                pytest.approx(np.linalg.norm(circuit), rel=1e-5)
            ]

    def test_activations_are_asked_for_in_vain(self, folder: Path, tmp_path: Path) -> None:
        with pytest.raises(DataError, match=r"no step of the run has any.*learning_dynamics.enabled"):
            analyze([folder / "plain"], asked(tmp_path / "a.yaml", {"metric_name": "per", "data_type": "activations"}))


class TestWithDynamics:
    def test_default_measures_use_what_was_kept(self, folder: Path) -> None:
        [found] = analyze([folder / "kept"])
        assert {(each.data_type, each.data_split) for each in found.findings} >= {
            ("weights", None),
            ("activations", "val"),
            ("gradients", "val"),
        }
        assert {each.step for each in found.findings if each.data_type == "activations"} == {0, 4}
        assert any("at 2 of its 3" in note for note in found.notes)

    def test_activations_against_a_step(self, folder: Path, tmp_path: Path) -> None:
        metric = {
            "metric_name": "cka",
            "target_checkpoint": 0,
            "components": [{"component_name": "simple", "data_type": "activations", "layer_suffixes": ["v_proj"]}],
        }
        [found] = analyze([folder / "kept"], asked(tmp_path / "a.yaml", metric))
        first, last = (
            stored(folder / "kept", step, "learning_dynamics/validation.safetensors")[f"activations/{LAYER}"]
            for step in (0, 4)
        )
        expected = cka_by_kernels(first.reshape(-1, first.shape[-1]), last.reshape(-1, last.shape[-1]))
        assert values_of(found.findings, step=4, layer=LAYER, other="0") == [pytest.approx(expected, abs=1e-6)]
        assert values_of(found.findings, step=0, layer=LAYER) == [pytest.approx(1.0)]

    def test_gradients_of_the_two_batches(self, folder: Path, tmp_path: Path) -> None:
        metric = {"metric_name": "gradient_cosine", "data_type": "gradients"}
        [found] = analyze([folder / "kept"], asked(tmp_path / "a.yaml", metric))
        one, other = (
            stored(folder / "kept", 4, f"learning_dynamics/{name}.safetensors")[f"gradients/{LAYER}"].ravel()
            for name in ("validation", "train")
        )
        expected = float(one @ other / np.linalg.norm(one) / np.linalg.norm(other))
        assert values_of(found.findings, step=4, layer=LAYER, other="train") == [pytest.approx(expected, abs=1e-5)]

    def test_parts_of_the_batch_average_to_its_gradient(self, folder: Path, tmp_path: Path) -> None:
        """The noise scale is of gradients worked out anew; their mean is the one on the disk."""
        from xenoglot.analysis.measuring import _parts
        from xenoglot.analysis.sources import RunSource, Target

        source = RunSource(folder / "kept", StepsConfig())
        [(_, parts)] = _parts(source, 4, "val", [Target(LAYER)])
        kept = stored(folder / "kept", 4, "learning_dynamics/validation.safetensors")[f"gradients/{LAYER}"]
        assert np.allclose(parts.mean(dim=0).numpy(), kept, atol=1e-6)
        metric = {"metric_name": "gradient_noise_scale", "data_type": "gradients"}
        [found] = analyze([folder / "kept"], asked(tmp_path / "a.yaml", metric))
        assert len(found.findings) == 2 * 6

    def test_between_layers_and_between_runs(self, folder: Path, tmp_path: Path) -> None:
        component = [{"layer_suffixes": ["o_proj", "v_proj"]}]
        of_layers = {"metric_name": "cka", "data_type": "activations", "against": "layers", "components": component}
        of_runs = of_layers | {"against": "runs"}
        config = asked(tmp_path / "a.yaml", of_layers, of_runs)
        first, second = analyze([folder / "kept", folder / "other"], config)
        assert values_of(first.findings, against="runs") == []
        assert len(values_of(second.findings, against="runs", other="kept")) == 2 * 4
        assert values_of(second.findings, against="runs", step=0) == pytest.approx([1.0] * 4)
        assert max(values_of(second.findings, against="runs", step=4)) < 1
        assert len(values_of(first.findings, against="layers", step=4)) == 6
        [square, *_] = [grid for grid in grids(first.findings) if grid.column_label == "layers"]
        assert np.allclose(square.values, square.values.T, equal_nan=True)

    @pytest.mark.parametrize(
        ("metric", "others", "kind", "words"),
        [
            ({"data_type": "activations"}, {"steps": {"start": 2}}, DataError, "steps that have some: 0, 4"),
            (
                {"components": [{"layer_suffixes": "attention.v_prj"}]},
                {},
                OptionError,
                "Did you mean 'attention.v_proj'",
            ),
            ({"components": [{"layers": [2]}]}, {}, OptionError, "0 to 1, the blocks"),
            ({"metric_name": "cka", "target_checkpoint": 3}, {}, OptionError, "one of the steps of kept: 0, 2, 4"),
            ({"metric_name": "cka", "against": "runs"}, {}, OptionError, "Name two"),
            ({}, {"steps": {"start": 5}}, DataError, "there are: steps 0, 2, 4"),
        ],
    )
    def test_what_cannot_be_measured_is_said_before_anything_is(
        self, folder: Path, tmp_path: Path, metric: dict[str, Any], others: dict[str, Any], kind: type, words: str
    ) -> None:
        config = asked(tmp_path / "a.yaml", {"metric_name": "per"} | metric, **others)
        with pytest.raises(kind, match=words):
            analyze([folder / "kept"], config)

    def test_other_folders_and_damage_are_named(self, folder: Path, tmp_path: Path) -> None:
        with pytest.raises(DataError, match="got no run"):
            analyze([tmp_path])
        with pytest.raises(DataError, match="at least one"):
            analyze([])
        copy = shutil.copytree(folder / "plain", tmp_path / "copy")
        path = copy / "checkpoints" / "step_2" / "model.safetensors"
        content = bytearray(path.read_bytes())
        content[-5] ^= 1
        path.write_bytes(content)
        shutil.rmtree(copy / "analysis", ignore_errors=True)
        with pytest.raises(DataError, match=r"step_2.*torn or changed"):
            analyze([copy])
        assert not (copy / "analysis").exists()


class TestHeads:
    def test_rows_may_be_read_in_pieces(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        [whole] = analyze([folder / "plain"])
        monkeypatch.setattr(heads, "NUMBERS_AT_ONCE", 5000)
        [pieces] = analyze([folder / "plain"])
        assert [each.value for each in pieces.findings] == pytest.approx(
            [each.value for each in whole.findings], nan_ok=True, rel=1e-5
        )

    def test_losses_are_those_of_the_model_on_its_family(self, folder: Path) -> None:
        [found] = analyze([folder / "plain"])
        loss, floor, excess = (
            values_of(found.findings, step=4, metric=f"{name}_nats")[0] for name in ("loss", "floor", "excess")
        )
        assert floor < loss < 4
        assert excess == pytest.approx(loss - floor)

    def test_every_checkpoint_is_told(self, folder: Path) -> None:
        told: list[tuple[str, int, int, int]] = []
        analyze([folder / "plain", folder / "kept"], AnalysisConfig(), on_step=lambda *facts: told.append(facts))
        assert told == [
            ("plain", 2, 1, 5),
            ("plain", 4, 2, 5),
            *(("kept", step, 3 + place, 5) for place, step in enumerate((0, 2, 4))),
        ]


class TestConfig:
    def test_picos_words_are_understood(self, tmp_path: Path) -> None:
        path = tmp_path / "pico.yaml"
        path.write_text("""\
analysis_name: pico
steps: {start: 0, end: 1000, step: 100}
metrics:
  - metric_name: cka
    target_checkpoint: 1000
    data_split: val
    components:
      - component_name: simple
        data_type: activations
        layer_suffixes: swiglu.w_2
        layers: [0, 1]
  - metric_name: per
    data_split: train
    components:
      - component_name: ov_circuit
        data_type: weights
        layer_suffixes: {output_layer: attention.o_proj, value_layer: attention.v_proj}
        layers: [0]
""")
        config = read_analysis_config(path)
        assert config.steps == StepsConfig(start=0, end=1000, step=100)
        cka, per = config.metrics
        assert (cka.metric_name, cka.target_checkpoint, cka.compares) == ("cka", 1000, "step")
        assert cka.components == (
            ComponentConfig(data_type="activations", layer_suffixes=("swiglu.w_2",), layers=(0, 1)),
        )
        assert per.type_of(per.components[0]) == "weights"

    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ("metric: []", r"line 1: unknown option 'metric'. Did you mean 'metrics'"),
            ("metrics:\n  - metric_name: ckaa", r"line 2: unknown measure 'ckaa'. Did you mean 'cka'"),
            ("metrics:\n  - metric_name: cka\n    data_typ: weights", r"line 3: unknown option 'metrics.0.data_typ'"),
            ("metrics: {metric_name: cka}", "a list of sections"),
            ("steps: 5", "a section of keys and values"),
            ("steps:\n  step: 0", r"line 2: steps.step: got 0; allowed: a whole number, at least 1"),
            ("metrics:\n  - components:\n    - layers: [-1]", r"line 3: metrics.0.components.0.layers"),
            ("metrics:\n  - metric_name: per\n    against: step", r"line 3: metrics.0.against.*of one thing"),
            ("metrics:\n  - metric_name: gradient_cosine", r"metrics.0.data_type.*gradients"),
            ("metrics:\n  - {metric_name: cka, against: splits}", "weights have no batch"),
            ("metrics:\n  - {metric_name: cka, against: layers, target_checkpoint: 4}", "unless against is step"),
            (
                "metrics:\n  - components: [{component_name: ov_circuit, data_type: gradients}]",
                "weights or activations",
            ),
            (
                "metrics:\n  - components: [{layer_suffixes: {output_layer: a.v_proj, value_layer: b}}]",
                "layer_suffixes",
            ),
        ],
    )
    def test_complaints_name_the_line(self, tmp_path: Path, text: str, words: str) -> None:
        path = tmp_path / "analysis.yaml"
        path.write_text(text)
        with pytest.raises(ConfigFileError, match=words):
            read_analysis_config(path)

    def test_the_command_says_them_too(self, folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
        path = tmp_path / "analysis.yaml"
        path.write_text("metrics:\n  - metric_name: ckaa")
        assert main(["analyze", str(folder / "plain"), "--config_path", str(path)]) != 0
        assert "analysis.yaml, line 2" in capfd.readouterr().err

    def test_a_measure_of_ones_own_is_named_by_its_path(self) -> None:
        assert MetricConfig(metric_name="xenoglot.measures.gini:gini").measure.name == "gini"


class TestTables:
    def test_findings_survive_the_disk(self, tmp_path: Path) -> None:
        found = [
            Finding(run="a <b>", step=3, metric="per", value=math.nan, layer="x", data_type="weights"),
            Finding(run="a", step=4, metric="loss_nats", value=0.1 + 0.2),
        ]
        write_findings(tmp_path, found)
        read = read_findings(tmp_path / "results.jsonl")
        assert math.isnan(read[0].value)
        assert read[1] == found[1]
        assert '"value": null' in (tmp_path / "results.jsonl").read_text()
        (tmp_path / "results.jsonl").write_text('{"metric": "per"}\n')
        with pytest.raises(DataError, match="line 1"):
            read_findings(tmp_path / "results.jsonl")

    @pytest.mark.parametrize("seed", range(4))
    def test_rank_correlation_is_spearmans(self, seed: int) -> None:
        from xenoglot.rng import generator

        first, second = generator(seed, "ranks").integers(0, 6, (2, 30))
        assert rank_correlation(first, second) == pytest.approx(spearmanr(first, second).statistic)
        assert math.isnan(rank_correlation([1, 1], [1, 2]))

    def test_when_a_head_formed(self) -> None:
        scores = {1: 0.0, 2: 0.05, 4: 0.1, 8: 0.7, 16: 0.8}
        losses = {1: 3.0, 2: 2.9, 4: 2.8, 8: 1.0, 16: 0.9}
        found = [
            Finding(run="r", step=step, metric="induction_random", value=value * share, layer="1", head=head)
            for step, value in scores.items()
            for head, share in ((0, 0.2), (1, 1.0))
        ]
        found += [Finding(run="r", step=step, metric="loss_nats", value=value) for step, value in losses.items()]
        formed = formation(found)
        assert formed is not None
        assert (formed.layer, formed.head, formed.steps, formed.losses) == ("1", 1, (4, 8), (2.8, 1.0))
        assert formed.correlation == pytest.approx(-1.0)
        assert formation(found[-5:]) is None
        assert "over all 5 checkpoints score and loss have a rank correlation of −1.00" in formation_in_words(formed)
        few = formation([finding for finding in found if finding.step > 2])
        assert few is not None
        assert "between steps 4 and 8" in formation_in_words(few)
        assert "correlation" not in formation_in_words(few)

    def test_shades_of_what_spans_orders_of_magnitude_are_of_the_logarithm(self) -> None:
        found = [
            Finding(run="r", step=step, metric="condition_number", value=value, layer="x", data_type="weights")
            for step, value in ((1, 1.0), (2, 100.0), (3, 1e4), (4, math.nan))
        ]
        [grid] = grids(found)
        assert [grid.share(value) for value in grid.values[0]] == [0.0, pytest.approx(0.5), 1.0, None]


class TestReport:
    def test_words_are_escaped_and_damage_is_a_note(self, folder: Path, tmp_path: Path) -> None:
        copy = shutil.copytree(folder / "plain", tmp_path / "<script>x")
        found = [Finding(run="r", step=1, metric="per", value=0.5, layer="<img src=x>", data_type="weights")]
        (copy / "analysis").mkdir(exist_ok=True)
        write_findings(copy / "analysis", found)
        page = write_report([copy], tmp_path / "report.html").read_text()
        assert "<img src=x>" not in page
        assert "&lt;img src=x&gt;" in page
        assert "<script>x" not in page
        (copy / "analysis" / "results.jsonl").write_text("{")
        assert "The analysis was left out" in write_report([copy], tmp_path / "report.html").read_text()

    def test_runs_side_by_side(self, folder: Path, tmp_path: Path) -> None:
        analyze([folder / "plain"])
        analyze([folder / "kept"])
        page = write_report([folder / "plain", folder / "kept"], tmp_path / "report.html").read_text()
        assert "Inside the model: plain" in page
        assert "Inside the model: kept" in page
        assert "Heads that copy by looking back" in page
