"""The page about runs: well-formed, self-contained, escaped, true to what the runs left, and never too picky."""

from __future__ import annotations

import json
import math
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from xenoglot.cli import main
from xenoglot.config import default_config, with_overrides, write_config
from xenoglot.errors import DataError, OutputError
from xenoglot.evaluations.base import Row
from xenoglot.report import write_report
from xenoglot.report.charts import SMALLEST, Curve, draw, thinned
from xenoglot.tracking import MetricsLog, environment, write_json

VOID = {"meta", "link", "br", "img", "input", "hr"}
HOSTILE = "\"><img src=x onerror='alert(1)'>&amp;<script>alert(1)"

ODD_ROWS = {"rows": [{"slices": {"tokens_read": "x", "predictor": "p"}, "metrics": {}}, 3, {"slices": []}]}


class Page(HTMLParser):
    """Reads a page strictly: every element is closed, in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.scripts: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open[-1:] == ["script"]:
            self.scripts.append(data)
        elif self.open[-1:] != ["style"]:
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    @property
    def charts(self) -> list[dict]:
        return [json.loads(script) for script in self.scripts if script.lstrip().startswith("{")]


def evaluation_rows(level: float, *, needed: float | None = 21.0, length: int = 32) -> list[dict]:
    def metrics(loss: float) -> dict[str, float]:
        nats = {"loss_nats": loss, "floor_nats": 0.25, "excess_nats": loss - 0.25}
        ends = {
            f"{name}_{end}": value + sign
            for name, value in nats.items()
            for end, sign in (("low", -0.1), ("high", 0.1))
        }
        return {**nats, **ends, "uniform_nats": 2.5}

    rows = [Row(slices={"tokens_read": t}, metrics=metrics(level / t**0.5)) for t in range(1, length + 1)]
    rows += [Row(slices={"part": part}, metrics=metrics(level / 4)) for part in ("last quarter", "whole")]
    summary = {
        "in_context_score_nats": -1.5,
        "epsilon_nats": 0.1,
        "tokens_to_epsilon": math.nan if needed is None else needed,
    }
    rows.append(Row(slices={"summary": "learning in context"}, metrics=summary))
    return [row.to_mapping() for row in rows]


def make_run(folder: Path, *, steps: int = 20, level: float = 2.0, needed: float | None = 21.0, **overrides) -> Path:
    """Write what a finished run of 20 steps leaves."""
    (folder / "eval_results").mkdir(parents=True)
    write_config(folder / "config.yaml", with_overrides(default_config(), {"training.max_steps": 20, **overrides}))
    write_json(folder / "environment.json", environment())
    with MetricsLog(folder / "metrics.jsonl") as log:
        for step in range(1, steps + 1):
            log.write(
                step, {"loss_nats": 3.0 / step, "lr": 0.01, "gradient_norm": 1.0, "tokens_per_second": 5e4, "mfu": None}
            )
    for step in (0, 10, 20):
        content = {"step": step, "rows": evaluation_rows(level if step else 2 * level, needed=needed)}
        write_json(folder / "eval_results" / f"step_{step}.json", content)
    reference = [
        {
            "slices": {"predictor": "unknown-elements", "exactness": "near-exact", **row["slices"]},
            "metrics": row["metrics"],
        }
        for row in evaluation_rows(1.2)
    ]
    write_json(folder / "eval_results" / "references.json", {"rows": reference})
    row = {"name": "language 1", "targets": ["a", "b", "|"], "read": ["a", "_", "|"]}
    row |= {"loss_nats": [2.5, 0.3, 0.01], "floor_nats": [0.1, 0.3, 0.0]}
    samples = [{"of": "metalm-v1", "uniform_nats": 2.5, "rows": [row]}]
    write_json(folder / "eval_results" / "samples.json", {"samples": samples})
    return folder


def page_of(*runs: Path) -> Page:
    target = runs[0].parent / "page.html"
    assert write_report(runs, target) == target
    return Page(target.read_text(encoding="utf-8"))


@pytest.fixture
def run(tmp_path) -> Path:
    return make_run(tmp_path / "first")


def test_a_run_is_told_in_words_and_figures(run):
    text = page_of(run).text
    assert "After 20 steps the model loses 0.500 (0.400 to 0.600) nats a token over the last quarter" in text
    assert "Guessing costs 2.500" in text
    assert (
        "One who knows the language loses 0.250, the best learner who does not know it 0.300 (unknown-elements)" in text
    )
    assert "It comes within 0.1 nats of the floor, and stays there, after 21 tokens" in text
    assert "above the floor 0.250 nats a token" in text
    assert "training.max_steps 20 1500" in text  # what was set, and the default
    assert "best learner (unknown-elements, near-exact)" in text
    assert "torch" in text


def test_an_interval_may_have_no_end(run):
    rows = evaluation_rows(2.0)
    rows[-1]["metrics"] |= {"tokens_to_epsilon_low": 17.0, "tokens_to_epsilon_high": None}
    write_json(run / "eval_results" / "step_20.json", {"step": 20, "rows": rows})
    assert "stays there, after 21 (17 to never) tokens" in page_of(run).text


def test_curves_are_where_their_values_are(run):
    loss = next(chart for chart in page_of(run).charts if chart["x_label"] == "tokens read")
    by_label = {curve["label"]: curve["points"] for curve in loss["curves"]}
    assert list(by_label) == [
        "after 10 steps",
        "best learner (unknown-elements, near-exact)",
        "best possible: the language is known",
        "after 20 steps",
    ]
    heights = [place[1] for place in by_label["after 20 steps"]]
    assert heights == sorted(heights)  # the loss falls, so the curve goes down the page
    assert [place[3] for place in by_label["after 20 steps"][:2]] == ["2", "1.414"]
    assert {place[3] for place in by_label["best possible: the language is known"]} == {"0.25"}


def test_it_asks_nothing_of_any_network(run):
    page = page_of(run)
    assert all(
        name not in attributes for _, attributes in page.elements for name in ("src", "href", "srcset", "action")
    )
    assert {tag for tag, _ in page.elements}.isdisjoint({"link", "img", "iframe", "object", "form", "base"})
    policies = [a["content"] for _, a in page.elements if a.get("http-equiv") == "Content-Security-Policy"]
    assert policies == ["default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'"]
    source = (run.parent / "page.html").read_text()
    assert not any(word in source for word in ("http://", "https://", "url(", "@import", "fetch(", "XMLHttp"))


def test_everything_is_escaped(tmp_path):
    run = make_run(tmp_path / HOSTILE.replace("/", ""))
    config = (run / "config.yaml").read_text()
    (run / "config.yaml").write_text(config + f"\n{json.dumps(HOSTILE)}: {json.dumps('</script>' + HOSTILE)}\n")
    row = {"name": HOSTILE, "targets": [HOSTILE, "</script>"], "loss_nats": [1.0, 2.0]}
    write_json(run / "eval_results" / "samples.json", {"samples": [{"of": HOSTILE, "rows": [row]}]})
    rows = [*evaluation_rows(2.0), {"slices": {"domain": HOSTILE}, "metrics": {"loss_nats": 1.0, "perplexity": 2.7}}]
    write_json(run / "eval_results" / "step_20.json", {"step": 20, "rows": rows})
    write_json(run / "environment.json", {"cpu": HOSTILE})
    page = page_of(run, make_run(tmp_path / "other"))
    assert "img" not in {tag for tag, _ in page.elements}
    assert not any(name.startswith("on") for _, attributes in page.elements for name in attributes)
    assert len(page.charts) == len(page.scripts) - 1  # all scripts but the page's own are data
    assert page.text.count(HOSTILE) >= 5  # each is there as what it is: words
    labels = {curve["label"] for chart in page.charts for curve in chart["curves"]}
    assert HOSTILE in labels


def test_several_runs_stand_side_by_side(tmp_path):
    first = make_run(tmp_path / "first")
    second = make_run(tmp_path / "second", level=1.6, needed=None, **{"training.optimization.lr": 0.005})
    page = page_of(first, second)
    assert "first 20 0.500 0.250 21 −1.50 50k second 20 0.400 0.150 never −1.50 50k" in page.text
    assert "option first second training.optimization.lr 0.01 0.005" in page.text
    assert "training.max_steps 20 20" not in page.text  # the same in both
    [loss, *_] = page.charts
    labels = [curve["label"] for curve in loss["curves"]]
    assert labels[-2:] == ["first", "second"]
    assert "best possible: the language is known" in labels  # one, since it is the same for both
    colours = {curve["colour"] for curve in loss["curves"][-2:]}
    assert len(colours) == 2


def test_domains_are_listed_with_their_perplexities(run):
    domains = [("wiki", 3.0), ("code", 2.0)]
    rows = [
        {"slices": {"domain": name}, "metrics": {"loss_nats": nats, "perplexity": math.exp(nats)}}
        for name, nats in domains
    ]
    rows.append({"slices": {"domains": "all, by tokens"}, "metrics": {"loss_nats": 2.6, "perplexity": math.exp(2.6)}})
    write_json(run / "eval_results" / "step_20.json", {"step": 20, "rows": [*evaluation_rows(2.0), *rows]})
    table = "code 2.0000 7.389 wiki 3.0000 20.09 all, by tokens 2.6000 13.46"
    assert f"domain nats a token perplexity {table}" in page_of(run).text


def test_samples_are_coloured_by_their_excess(run):
    page = page_of(run)
    tokens = [attributes for tag, attributes in page.elements if tag == "span" and "title" in attributes]
    assert [token["class"].split()[0] for token in tokens] == ["t8", "t0", "t1"]
    assert [("noisy" in token["class"]) for token in tokens] == [False, True, False]
    assert tokens[0]["title"] == "2. a: loss 2.50, floor 0.10, excess 2.40"
    assert tokens[1]["title"].endswith("; read as _")


def test_a_long_sample_is_shown_by_its_ends(run):
    row = {"name": "long", "targets": [str(i) for i in range(1000)], "loss_nats": [1.0] * 1000}
    write_json(run / "eval_results" / "samples.json", {"samples": [{"of": "it", "uniform_nats": 2.0, "rows": [row]}]})
    text = page_of(run).text
    assert "… 616 tokens …" in text
    assert "191" in text
    assert "808" in text
    assert "500" not in [word for word in text.split() if word.isdigit()]


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (lambda run: (run / "config.yaml").unlink(), "config.yaml is not there."),
        (lambda run: (run / "config.yaml").write_text("a: [b"), "config.yaml cannot be read"),
        (lambda run: (run / "config.yaml").write_text("future: {option: 1}"), "future.option 1"),
        (lambda run: (run / "environment.json").write_text('{"cpu'), "environment.json cannot be read"),
        (lambda run: (run / "metrics.jsonl").unlink(), "no training metrics yet"),
        (lambda run: (run / "metrics.jsonl").write_bytes(b""), "no training metrics yet"),
        (lambda run: [path.unlink() for path in run.glob("eval_results/*")], "no evaluation yet"),
        (lambda run: (run / "eval_results" / "step_20.json").write_text("{"), "step_20.json cannot be read"),
        (lambda run: (run / "eval_results" / "samples.json").write_text("[1]"), "After 20 steps"),
        (lambda run: write_json(run / "eval_results" / "references.json", ODD_ROWS), "After 20 steps"),
        (
            lambda run: (run / "eval_results" / "references.json").write_text('{"rows": [{"slices": 3}]}'),
            "After 20 steps",
        ),
    ],
)
def test_what_is_missing_is_said_and_the_rest_is_shown(run, damage, told):
    damage(run)
    page = page_of(run)
    assert told in page.text
    assert page.charts


PLAIN = st.none() | st.booleans() | st.integers(-5, 5) | st.floats() | st.sampled_from(["", "a", "near-exact", "whole"])
ANY_JSON = st.recursive(PLAIN, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner))
SLICES = st.dictionaries(
    st.sampled_from(["tokens_read", "part", "summary", "predictor", "exactness", "domain"]), ANY_JSON
)
METRICS = st.dictionaries(st.sampled_from(["loss_nats", "loss_nats_low", "excess_nats", "floor_nats"]), ANY_JSON)
ODD_ROW = st.fixed_dictionaries({"slices": SLICES | ANY_JSON, "metrics": METRICS | ANY_JSON}) | ANY_JSON
ODD_SAMPLE = st.fixed_dictionaries(
    {"rows": st.lists(st.fixed_dictionaries({"targets": ANY_JSON, "loss_nats": ANY_JSON}))}
)


@settings(max_examples=40, deadline=None)
@given(st.lists(ODD_ROW, max_size=6), ANY_JSON, st.lists(ODD_SAMPLE | ANY_JSON, max_size=3))
def test_no_content_stops_the_page(tmp_path_factory, rows, anything, samples):
    run = tmp_path_factory.mktemp("run")
    (run / "eval_results").mkdir()
    for name in ("step_1.json", "references.json"):
        (run / "eval_results" / name).write_text(json.dumps({"step": 1, "rows": rows}))
    (run / "eval_results" / "samples.json").write_text(json.dumps({"samples": samples}))
    for name in ("config.yaml", "environment.json", "eval_results/step_2.json"):
        (run / name).write_text(json.dumps(anything))
    lines = [{"step": 1, "loss_nats": anything}, {"step": 2, "lr": anything}, anything]
    (run / "metrics.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    assert page_of(run).open == []


def test_a_run_that_was_cut_off_gives_a_page(tmp_path):
    run = make_run(tmp_path / "cut", steps=15)
    (run / "eval_results" / "step_20.json").unlink()
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"step": 16, "loss_na')
    text = page_of(run).text
    assert "15 of 20 steps are known" in text
    assert "1 line that cannot be read" in text
    assert "After 10 steps the model loses" in text


def test_a_run_that_has_only_begun_gives_a_page(tmp_path):
    (tmp_path / "begun").mkdir()
    write_config(tmp_path / "begun" / "config.yaml", default_config())
    text = page_of(tmp_path / "begun").text
    assert "There is no evaluation yet." in text
    assert "0 of 1,500 steps" in text


def test_numbers_that_are_none_leave_gaps(run):
    with MetricsLog(run / "metrics.jsonl", after_step=20) as log:
        log.write(21, {"loss_nats": math.nan, "lr": math.inf})
        log.write(22, {"loss_nats": 0.5})
    page = page_of(run)
    losses = [
        chart for chart in page.charts if any(point[2:] == ["22", "0.5"] for point in chart["curves"][0]["points"])
    ]
    assert len(losses) == 1
    assert all(point[2] != "21" for point in losses[0]["curves"][0]["points"])


def test_no_environment_variable_is_told(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", "secret-4711")
    monkeypatch.setenv("HF_TOKEN", "secret-4711")
    run = make_run(tmp_path / "first")
    page_of(run)
    assert not any(b"secret-4711" in path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())


def test_to_look_at_a_run_executes_nothing_of_it(run, monkeypatch):
    (run.parent / "evil.py").write_text("raise SystemExit('executed')")
    monkeypatch.syspath_prepend(str(run.parent))
    (run / "config.yaml").write_text("languages: {family: 'evil:Family'}\ntraining: {max_steps: 20}")
    assert "languages.family evil:Family" in page_of(run).text
    (run / "config.yaml").write_text("!!python/object/apply:os.system ['true']")
    assert "config.yaml cannot be read" in page_of(run).text


def test_what_is_no_run_is_refused(tmp_path, run):
    (tmp_path / "empty").mkdir()
    for folder in (tmp_path / "empty", tmp_path / "absent"):
        with pytest.raises(DataError, match=r"allowed: a run's folder"):
            write_report([run, folder], tmp_path / "page.html")
    with pytest.raises(DataError, match="at least one"):
        write_report([], tmp_path / "page.html")
    with pytest.raises(OutputError):
        write_report([run], tmp_path / "nowhere" / "page.html")
    assert not list(tmp_path.glob("*.html"))


def test_the_command_writes_beside_the_run_or_where_it_is_told(run, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["report", "first"]) == 0
    assert (run / "report.html").is_file()
    assert capsys.readouterr().out == f"report: {Path('first/report.html')}\n"
    make_run(tmp_path / "second")
    assert main(["report", "first", "second"]) == 0
    assert (tmp_path / "report.html").is_file()
    assert main(["report", "first", "--output", "own.html"]) == 0
    assert "<h1>first</h1>" in (tmp_path / "own.html").read_text()
    assert main(["report", "third"]) == 2
    assert "third: got no such folder" in capsys.readouterr().err


# --- charts ----------------------------------------------------------------------------------------------------------


def chart(points, **keywords):
    return draw([Curve(label="it", points=points, colour="red")], title="t", x_label="x", size=(400, 250), **keywords)


def test_places_are_in_proportion():
    drawn = chart([(0, 0.0), (5, 2.0), (10, 8.0)])
    [curve] = drawn.hover
    left, top, right, bottom = drawn.frame
    assert [place[0] for place in curve["points"]] == [left, (left + right) / 2, right]
    assert curve["points"][0][1] == bottom
    assert (bottom - curve["points"][1][1]) == pytest.approx((bottom - curve["points"][2][1]) / 4, abs=0.1)
    assert curve["points"][2][1] >= top
    ticks = {text: y for y, text in drawn.y_ticks}
    assert ticks["2"] == curve["points"][1][1]


def test_what_is_far_below_the_rest_leaves_the_frame():
    drawn = chart([(1, 1.0), (2, 0.1), (3, 1e-11)], y_scale="log10", bottom=1e-4)
    [curve] = drawn.hover
    _, top, _, bottom = drawn.frame
    heights = [place[1] for place in curve["points"]]
    assert heights[:2] == [top, pytest.approx(top + (bottom - top) / 4, abs=0.1)]
    assert heights[2] > bottom
    assert [text for _, text in drawn.y_ticks] == ["0.0001", "0.001", "0.01", "0.1", "1"]


def test_a_logarithmic_axis_gives_each_factor_the_same_room():
    drawn = chart([(1, 10.0), (2, 1.0), (4, 0.1), (8, -1.0), (16, 0.0)], x_scale="log2", y_scale="log10")
    [curve] = drawn.hover
    places = [place[:2] for place in curve["points"]]
    assert len(places) == 3  # what is not above zero has no place
    assert places[1][0] - places[0][0] == pytest.approx(places[2][0] - places[1][0], abs=0.2)
    assert places[1][1] - places[0][1] == pytest.approx(places[2][1] - places[1][1], abs=0.2)
    assert [text for _, text in drawn.y_ticks] == ["0.1", "1", "10"]


@pytest.mark.parametrize("points", [[], [(1.0, -1.0)]])
def test_nothing_to_see_is_no_chart(points):
    assert chart(points, y_scale="log10") is None


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=40),
    st.sampled_from(["linear", "log10", "log2"]),
)
@example(values=[5e-324], scale="linear")
@example(values=[5e-324], scale="log10")
@example(values=[1.0, 1.0000000000000002], scale="log2")
def test_any_values_can_be_drawn_within_the_frame(values, scale):
    drawn = chart([(float(x), y) for x, y in enumerate(values, start=1)], y_scale=scale)
    if drawn is None:
        assert scale != "linear"
        assert max(values) <= SMALLEST
        return
    left, top, right, bottom = drawn.frame
    assert all(left <= x <= right and top <= y <= bottom for x, y, *_ in drawn.hover[0]["points"])
    assert all(left <= x <= right for x, _ in drawn.x_ticks)
    assert 1 <= len(drawn.y_ticks) <= 12 or scale != "linear"


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=300), st.integers(1, 20))
def test_thinning_keeps_the_mean_of_each_bin(values, most):
    points = [(float(x), y) for x, y in enumerate(values)]
    thin = thinned(points, most)
    assert len(thin) <= most or len(values) <= most
    size = math.ceil(len(values) / most)
    weights = [len(values[start : start + size]) for start in range(0, len(values), size)]
    total = sum(weight * y for weight, (_, y) in zip(weights, thin, strict=True))
    assert total == pytest.approx(sum(values), abs=1e-6)


# --- further results -------------------------------------------------------------------------------------------------


def fruit_rows(n: int) -> list[dict]:
    named = [
        Row(slices={"fruit": name}, metrics={"weight_grams": grams}) for name, grams in (("fig", 31.5), (HOSTILE, 7))
    ]
    counted = [
        Row(
            slices={"fruit": name, "n_eaten": eaten},
            metrics={"joy": joy / eaten, "joy_low": joy / eaten - 0.5, "joy_high": joy / eaten + 0.5, "n_days": 3},
        )
        for name, joy in (("fig", 8.0), ("kiwi", 4.0))
        for eaten in range(1, n + 1)
    ]
    return [row.to_mapping() for row in (*named, *counted)]


def test_rows_of_any_evaluation_are_drawn(tmp_path):
    """Those that were kept beside the run's own, and those that a run's own evaluation has besides what is known."""
    run = make_run(tmp_path / "run")
    content = {"evaluation": "fruit", "model": "run, step 20", "step": 20, "rows": fruit_rows(5)}
    write_json(run / "eval_results" / "fruit_step_20.json", content)
    page = page_of(run)
    assert "fruit of run, step 20" in page.text
    for text in ("weight_grams", "31.500", "8.000 ± 0.500", "0.800 ± 0.500"):
        assert text in page.text
    [joy] = [chart for chart in page.charts if chart["x_label"] == "n_eaten"]
    assert [curve["label"] for curve in joy["curves"]] == ["fig", "kiwi"]
    assert [point[3] for point in joy["curves"][1]["points"]] == ["4", "2", "1.333", "1", "0.8"]

    newest = run / "eval_results" / "step_20.json"
    own = json.loads(newest.read_text())
    newest.write_text(json.dumps({**own, "rows": own["rows"] + fruit_rows(2)}))
    assert "further results, step 20" in page_of(run).text
    assert "run: fruit of run, step 20" in page_of(run, make_run(tmp_path / "other")).text


def test_a_mean_that_is_not_known_has_no_column_for_its_ends(tmp_path):
    run = make_run(tmp_path / "run")
    metrics = {"tokens": None, "tokens_low": 7.0, "tokens_high": None}
    write_json(run / "eval_results" / "mine.json", {"rows": [{"slices": {"summary": "all"}, "metrics": metrics}]})
    text = page_of(run).text
    assert "summary tokens all –" in text
    assert "tokens_low" not in text


def test_long_results_are_drawn_or_said_to_be_in_the_file(tmp_path):
    run = make_run(tmp_path / "run")
    write_json(run / "eval_results" / "mine.json", {"rows": fruit_rows(100)})
    page = page_of(run)
    assert "200 rows by fruit and n_eaten are in the file." in page.text
    assert any(chart["x_label"] == "n_eaten" for chart in page.charts)
