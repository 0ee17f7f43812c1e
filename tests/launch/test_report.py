"""Reports of run directories: what the page, the table and the pictures say."""

import csv
import json
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from rich.console import Console
from typer.testing import CliRunner

from launch.commands.report import report
from launch.comparing.compare import compare
from launch.configuration.run_config import load_config
from launch.reports import (
    find_runs,
    panels,
    read_run,
    write_csv,
    write_pictures,
    write_report,
)
from launch.reports.curves import MOST_POINTS, thinned
from launch.reports.page import page
from launch.reports.panel import Panel
from launch.reports.tables import commands, differences, labels, results
from mlmc_ray.errors import ConfigError

go = pytest.importorskip("plotly.graph_objects")

EVIL = "</script><script>alert('x')</script> & \"q\" <a href='http://evil'>%{x}</a>"


class Page(HTMLParser):
    """Collects cells of tables, attributes, scripts and all text of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.cells: list[str] = []
        self.texts: dict[str, list[str]] = {}
        self._shown: list[str] = []
        self._open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._open.append(tag)
        if tag in ("td", "th"):
            self.cells.append("")

    def handle_endtag(self, tag: str) -> None:
        while self._open and self._open.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        inside = self._open[-1] if self._open else ""
        self.texts.setdefault(inside, []).append(data)
        if inside not in ("script", "style"):
            self._shown.append(data)
        if inside in ("td", "th"):
            self.cells[-1] += data

    @property
    def words(self) -> str:
        """All that readers see."""
        return " ".join("".join(self._shown).split())

    @property
    def figures(self) -> dict[str, Any]:
        """The figures by key."""
        (text,) = (part for part in self.texts["script"] if part.startswith('{"panels"'))
        return {figure["key"]: figure for figure in json.loads(text)["panels"]}


def write_lines(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def make_run(path: Path, name: str = "run", rounds: int = 4, **config: Any) -> Path:
    """Write the files of a run of two workers by hand; each sends 10 bytes, and gets 100."""
    path.mkdir(parents=True)
    settings = {"name": name, "problem": {"kind": "digits"}, "rounds": rounds, "workers": 2}
    (path / "config.yaml").write_text(yaml.safe_dump({**settings, **config}))
    (path / "versions.json").write_text(json.dumps({"python": "3.11", "torch": "2.13"}))
    (path / "model.pt").touch()
    metrics: list[dict[str, Any]] = [
        {"round": r, "seconds": 0.5 * r, "uplink_bytes": 20 * r, "downlink_bytes": 200 * r}
        for r in range(rounds + 1)
    ]
    for line in metrics[::2]:
        line["test_accuracy"] = 0.1 + 0.2 * line["round"]
    write_lines(path / "metrics.jsonl", metrics)
    with (path / "ledger.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["round_index", "worker_id", "direction", "frame_bytes", "paper_bits"])
        for r in range(rounds):
            rows.writerows([r, w, "downlink", 100, ""] for w in range(2))
            rows.writerows([r, w, "uplink", 10, 32] for w in range(2))
    row = {"rounds": rounds, "uplink_bytes": 20 * rounds, "bits_per_value": 2.0}
    (path / "summary.json").write_text(json.dumps([row]))
    return path


def add_observations(path: Path) -> None:
    """Two observed rounds and four timed ones, of which round 3 is the slowest by worker 1."""
    seen = [
        {
            "round": r,
            "workers": {
                "0": [{"squared_norm": 3.0, "squared_error": 1.0, "levels": [2, 2]}],
                "1": [{"squared_norm": 1.0, "squared_error": 1.0, "levels": [5]}],
            },
            "parts": [
                {"direction": "uplink", "name": "gradient", "kind": "sparse", "bytes": 20},
                {"direction": "uplink", "name": "", "kind": "envelope", "bytes": 4},
            ],
            "layers": {
                "uplink": {"a.weight": 15.0, "b<i>": 5.0},
                "downlink": {"a.weight": 150.0},
            },
        }
        for r in (1, 3)
    ]
    write_lines(path / "observed.jsonl", seen)
    with (path / "timeline.csv").open("w", newline="") as file:
        file.write("round_index,exchange_index,worker_id,host,seconds\r\n")
        for r in range(4):
            file.write(f"{r},0,0,0,0.5\r\n{r},0,1,0,{2.0 if r == 2 else 0.25}\r\n")
            file.write(f"{r},0,2,1,0.125\r\n{r},1,0,0,0.5\r\n")


def panel_of(found: Sequence[Panel], key: str) -> Panel:
    return next(panel for panel in found if panel.key == key)


def every_choice(panel: Panel) -> Iterator[dict[int, int]]:
    for place, control in enumerate(panel.controls):
        for option in range(len(control.options)):
            yield {place: option}


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real comparison of two runs, one with a name that is markup."""
    out = tmp_path_factory.mktemp("compared") / "out"
    base = {"problem": "digits", "rounds": 4, "workers": 2, "evaluate_every": 2, "engine": "inline"}
    mlmc = {"kind": "mlmc", "ladder": {"kind": "s-top-k", "segment_size": 0.1}}
    methods = {EVIL: {"kind": "compressed-sgd", "compressor": mlmc}, "B": "sgd"}
    optimizer = {"kind": "sgd", "step_size": 0.1}
    runs = [
        load_config({**base, "name": name, "method": method, "optimizer": optimizer})
        for name, method in methods.items()
    ]
    compare(runs, out, Console(quiet=True))
    return out


def test_the_page_of_a_real_comparison_says_what_the_files_say(compared: Path) -> None:
    records = [read_run(path) for path in find_runs([compared])]
    assert [record.name for record in records] == [EVIL, "B"]  # in the order of the runs
    shown = Page(page(records))
    rows = json.loads((compared / "summary.json").read_text())
    for record, row in zip(records, rows, strict=True):
        assert record.finished
        place = shown.cells.index(record.name)
        cells = shown.cells[place : place + 8]
        assert cells[1:3] == ["4", f"{row['measures']['accuracy']:.1%}"]
        assert f"{row['bits_per_value']:.3g}" in cells
        assert f"{row['paper_bits_per_value']:.3g}" in cells
        assert str(record.path) in shown.words
    assert "mlmc-ray train" in shown.words
    assert "Data: digits" in shown.words
    traces = shown.figures["measures"]["data"]
    for record, trace in zip(records, traces, strict=False):
        tested = [line for line in record.metrics if "test_accuracy" in line]
        assert trace["y"] == [line["test_accuracy"] for line in tested]
        assert trace["x"] == [0, 2, 4]


def test_names_from_files_are_text_and_nothing_else(compared: Path, tmp_path: Path) -> None:
    odd = make_run(tmp_path / "odd'; rm -rf $HOME", EVIL + "2", note=EVIL)
    (odd / "versions.json").write_text(json.dumps({EVIL: EVIL}))
    add_observations(odd)
    text = page([read_run(path) for path in find_runs([compared, odd])])
    shown = Page(text)
    assert "alert" not in "".join(shown.texts["script"][-1:])
    assert sum(tag == "script" for tag, _ in shown.tags) == 3
    assert EVIL in shown.cells
    for figure in shown.figures.values():
        for trace in figure["data"]:
            assert "<" not in trace["name"]
    assert "b&lt;i&gt;" in shown.figures["layers"]["layout"]["yaxis"]["ticktext"]
    (quoted,) = {shlex.split(line)[2] for line in commands(read_run(odd))[:1]}
    assert quoted == str(odd.resolve() / "config.yaml")


def test_no_request_leaves_the_page(compared: Path) -> None:
    shown = Page(page([read_run(path) for path in find_runs([compared])]))
    links = [
        value
        for _, attributes in shown.tags
        for name, value in attributes.items()
        if name in ("src", "href", "srcset", "action", "data", "poster")
    ]
    assert links
    assert all(link is not None and link.startswith(("#", "data:,")) for link in links)
    assert not re.search(r"@import|url\(", "".join(shown.texts["style"]))


@pytest.mark.parametrize(
    "gone",
    ["versions.json", "metrics.jsonl", "ledger.csv", "summary.json", "model.pt", "config.yaml"],
)
def test_a_missing_file_is_named_and_the_rest_is_shown(tmp_path: Path, gone: str) -> None:
    run = make_run(tmp_path / "run")
    (run / gone).unlink()
    record = read_run(run)
    shown = Page(page([record]))
    if gone != "summary.json":
        assert f"no {gone}" in shown.words
    assert "no timeline.csv: how long each worker took is not known" in shown.words
    assert "no observed.jsonl" in shown.words
    assert ("measures" in shown.figures) == (gone != "metrics.jsonl")
    assert ("workers" in shown.figures) == (gone != "ledger.csv")


def test_an_interrupted_run_is_shown_as_far_as_it_came(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", rounds=4)
    add_observations(run)
    for name in ("summary.json", "model.pt"):
        (run / name).unlink()
    for name in ("metrics.jsonl", "ledger.csv", "timeline.csv", "observed.jsonl"):
        text = (run / name).read_bytes()
        (run / name).write_bytes(text[: text.rstrip().rfind(b"\n") + 8])
    record = read_run(run)
    assert not record.finished
    assert record.rounds == 3
    assert record.traffic.by_worker["uplink"] == {0: 40, 1: 30}
    assert len(record.timeline) == 15
    shown = Page(page([record]))
    assert "run is not finished: 3 of 4 rounds are done and shown" in shown.words
    assert "3 of 4" in shown.cells
    for name in ("metrics.jsonl", "ledger.csv", "timeline.csv", "observed.jsonl"):
        assert f"the last line of {name} is cut off" in shown.words


def test_a_run_without_a_round_has_a_page(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "config.yaml").write_text("name: [")
    record = read_run(run)
    assert "config.yaml cannot be read: the configuration is not known" in record.notes
    shown = Page(page([record]))
    assert not shown.figures
    assert results([record]).rows[0][0] == "run"


def test_numbers_that_are_not_finite_leave_gaps(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    lines = [
        f'{{"round": {r}, "seconds": 1.0, "uplink_bytes": 1, "downlink_bytes": 1, '
        f'"test_loss": {value}}}\n'
        for r, value in enumerate(["1.5", "null", "NaN", "Infinity", "1e999"])
    ]
    (run / "metrics.jsonl").write_text("".join(lines))
    (panel,) = (p for p in panels([read_run(run)]) if p.key == "measures")
    assert panel.traces[0]["y"] == [1.5, None, None, None, None]
    assert panel.traces[0]["connectgaps"] is False
    assert results([read_run(run)]).rows[0][2] == "-"
    write_pictures([panel], tmp_path / "png")


def test_lines_that_cannot_be_read_are_counted_and_left_out(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    with (run / "metrics.jsonl").open("a") as file:
        file.write('garbage\n{"round": 4, "test_accuracy": 0.75, "seconds": 9.0}\n')
    with (run / "ledger.csv").open("a") as file:
        file.write("1,2\r\n1,2,sideways,3,4\r\n")
    record = read_run(run)
    assert record.metrics[-1]["test_accuracy"] == 0.75  # of a round that is there twice, the later
    assert "metrics.jsonl: 1 lines are left out, not readable: 6" in record.notes
    assert record.traffic.frames == {"uplink": 8, "downlink": 8}
    assert sum("ledger.csv" in note for note in record.notes) == 2


LINE = {"round": 4, "seconds": 9.0, "uplink_bytes": 80, "downlink_bytes": 800, "test_loss": 1.0}
ENTRY = "3,0,uplink,10,32"


def _with(**values: Any) -> str:
    return json.dumps({**LINE, **values})


def _seen(**values: Any) -> str:
    return json.dumps({"round": 4, **values})


# Odd lines of which others are like these, each of another value or one step further in.
ALIKE = [
    ("metrics.jsonl", _with(uplink_bytes=None), "metrics.jsonl: 1 lines"),
    ("metrics.jsonl", _with(gradients=True), "metrics.jsonl: 1 lines"),
    ("metrics.jsonl", _with(round=-1), "metrics.jsonl: 1 lines"),
    ("observed.jsonl", _seen(round="4"), "observed.jsonl: 1 lines"),
    ("observed.jsonl", _seen(workers={"0": 3}), "observed.jsonl: 1 lines"),
    ("observed.jsonl", _seen(workers={"0": [{"levels": 3}]}), "observed.jsonl: 1 lines"),
    ("observed.jsonl", _seen(workers={"0": [{"squared_norm": ""}]}), "observed.jsonl: 1 lines"),
    ("observed.jsonl", _seen(parts={"a": 1}), "observed.jsonl: 1 lines"),
    ("observed.jsonl", _seen(parts=[1]), "observed.jsonl: 1 lines"),
    ("observed.jsonl", _seen(layers=[1]), "observed.jsonl: 1 lines"),
    ("versions.json", '{"a":' * 400 + "1" + "}" * 400, "versions.json cannot be read"),
    ("ledger.csv", f"{ENTRY}{'0' * 400}", "ledger.csv: 1 lines are left out"),
]


@pytest.mark.parametrize(
    ("name", "line", "said"),
    [
        ("metrics.jsonl", _with(seconds="soon"), "metrics.jsonl: 1 lines"),
        ("metrics.jsonl", _with(uplink_bytes=10**400), "metrics.jsonl: 1 lines"),
        ("metrics.jsonl", _with(test_loss="low"), "metrics.jsonl: 1 lines"),
        ("metrics.jsonl", "[" * 100_000, "metrics.jsonl: 1 lines"),
        ("observed.jsonl", _seen(workers=[1]), "observed.jsonl: 1 lines"),
        ("observed.jsonl", _seen(workers={"0": [{"levels": ["a"]}]}), "observed.jsonl: 1 lines"),
        ("observed.jsonl", _seen(parts=[{"direction": []}]), "observed.jsonl: 1 lines"),
        ("observed.jsonl", _seen(layers={"uplink": "a"}), "observed.jsonl: 1 lines"),
        ("changes.jsonl", _seen(changes=3), "changes.jsonl: 1 lines"),
        ("versions.json", "[" * 100_000, "versions.json cannot be read"),
        ("ledger.csv", f"{ENTRY}{'0' * 140_000}", "ledger.csv: 1 lines are left out"),
        ("ledger.csv", "3,0,uplink,10,\u00b2", ""),
        ("timeline.csv", f"{2**63},0,0,0,0.5", "timeline.csv: 1 lines are left out"),
        ("summary.json", '[{"rounds": 4, "bits_per_value": 2.0}]', "summary.json cannot be read"),
        ("config.yaml", "problem: &a {x: *a}", "config.yaml cannot be read"),
        ("../summary.json", f'[{{"target": {{"measure": "gap", "value": {10**400}}}}}]', ""),
        *(pytest.param(*case, marks=pytest.mark.slow) for case in ALIKE),
    ],
)
def test_what_nobody_expects_is_left_out_and_noted(
    tmp_path: Path, name: str, line: str, said: str
) -> None:
    run = make_run(tmp_path / "run", rounds=3)
    add_observations(run)
    with (run / name).open(
        "a" if name.endswith((".jsonl", ".csv")) else "w", encoding="utf-8"
    ) as file:
        file.write(f"{line}\n")
    record = read_run(run)
    shown = Page(page([record]))
    assert said in shown.words
    assert not (said and record.rounds == 4)
    if name == "metrics.jsonl":  # of which the first panel is drawn
        write_pictures(panels([record])[:1], tmp_path / "png")
    write_csv([record], tmp_path / "rounds.csv")


def test_a_run_that_was_changed_on_its_way_says_so(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", rounds=4)
    plain = read_run(run)
    assert plain.changes == ()
    changes = [
        {"round": 2, "changes": {"workers": 8, "name": EVIL}},
        {"round": 3, "changes": {"rounds": 6}},
    ]
    write_lines(run / "changes.jsonl", changes)
    record = read_run(run)
    assert [(one.round, one.settings) for one in record.changes] == [
        (line["round"], line["changes"]) for line in changes
    ]
    assert f"after round 2: workers became 8, name became {EVIL}" in record.notes
    assert (record.rounds_wanted, record.finished, plain.finished) == (6, False, True)
    assert commands(plain)
    assert not commands(record)
    shown = Page(page([record]))
    assert "after round 3: rounds became 6" in shown.words
    assert "It was changed on its way" in shown.words
    assert "mlmc-ray train" not in shown.words
    assert "It was changed on its way" not in Page(page([plain])).words


def test_bytes_go_to_layers_kinds_workers_and_levels(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    add_observations(run)
    found = panels([read_run(run)])
    layers = panel_of(found, "layers")
    (up,), layout = layers.view({0: 0})
    assert dict(zip(up["customdata"], up["x"], strict=True)) == {"a.weight": 15, "b&lt;i&gt;": 5}
    assert layout["yaxis"]["ticktext"] == ["b&lt;i&gt;", "a.weight"]
    (down,), _ = layers.view({0: 1})
    assert down["x"] == [150]
    (kinds,), _ = panel_of(found, "kinds").view({})
    assert (kinds["customdata"], kinds["x"]) == (["envelope", "gradient (sparse)"], [4, 20])
    (workers,), _ = panel_of(found, "workers").view({0: 1})
    assert (workers["customdata"], workers["y"]) == ([0, 1], [400, 400])
    (drawn,), _ = panel_of(found, "levels").view({})
    assert (drawn["x"], drawn["y"]) == ([2, 5], [4 / 6, 2 / 6])
    (error,), _ = panel_of(found, "errors").view({})
    assert (error["x"], error["y"]) == ([1, 3], [0.5, 0.5])


def test_the_error_in_the_metrics_wins(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    write_lines(run / "metrics.jsonl", [{"round": 0}, {"round": 1, "relative_error": 0.25}])
    (error,), _ = panel_of(panels([read_run(run)]), "errors").view({})
    assert (error["x"], error["y"]) == ([1], [0.25])


def test_the_slowest_round_comes_first_and_its_last_worker_stands_out(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    add_observations(run)
    found = panels([read_run(run)])
    panel = panel_of(found, "round")
    assert panel.jumps[0].label == "run: round 3, 3 s"
    assert panel.controls[1].options[panel.controls[1].first].label == "round 3"
    (bars,), _ = panel.view({})
    places = zip(bars["y"], bars["text"], bars["base"], bars["x"], strict=True)
    assert sorted(places) == [
        ("0", "0", 0.0, 0.5),
        ("0", "0", 2.5, 0.5),  # of the second exchange, after the slower host
        ("0", "1", 0.5, 2.0),
        ("1", "2", 0.0, 0.125),
    ]
    late = [
        x
        for x, colour in zip(bars["base"], bars["marker"]["color"], strict=True)
        if colour == "#D55E00"
    ]
    assert late == [2.5]
    (boxes,), _ = panel_of(found, "spread").view({})
    assert boxes["x"] == ["0", "1", "2"]
    assert boxes["median"] == [0.5, 0.25, 0.125]
    assert boxes["upperfence"][1] == pytest.approx(0.25 + 0.85 * 1.75)


def test_every_choice_of_every_panel_is_a_figure_for_plotly(compared: Path, tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    add_observations(run)
    records = [read_run(path) for path in find_runs([compared, run])]
    for panel in panels(records):
        for choice in every_choice(panel):
            traces, layout = panel.view(choice)
            go.Figure(data=traces, layout=layout)


def test_the_axis_can_be_rounds_seconds_clock_or_bytes(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    panel = panel_of(panels([read_run(run)]), "measures")
    options = [option.label for option in panel.controls[1].options]
    assert "simulated seconds" not in options
    write_lines(run / "metrics.jsonl", [{**line, "clock_s": 7 * line["round"]} for line in lines])
    panel = panel_of(panels([read_run(run)]), "measures")
    shown = {
        option.label: panel.view({1: place})[0][0]["x"]
        for place, option in enumerate(panel.controls[1].options)
    }
    assert shown == {
        "rounds": [0, 2, 4],
        "seconds": [0, 1, 2],
        "simulated seconds": [0, 14, 28],
        "bytes up, all workers": [0, 40, 80],
        "bytes down, all workers": [0, 400, 800],
        "bytes up and down": [0, 440, 880],
    }


def test_only_keys_that_differ_are_set_side_by_side(tmp_path: Path) -> None:
    one = make_run(tmp_path / "1", "a", method={"kind": "x", "compressor": {"k": 1}})
    two = make_run(tmp_path / "2", "a", method={"kind": "x", "compressor": {"p": None}})
    records = [read_run(one), read_run(two)]
    table = differences(records)
    assert table.headings == ["key", "a (1)", "a (2)"]
    assert labels(records) == ["a (1)", "a (2)"]
    assert table.rows == [
        ["method.compressor.k", "1", "-"],
        ["method.compressor.p", "-", "null"],
    ]


def test_the_csv_has_every_number_of_the_metrics(compared: Path, tmp_path: Path) -> None:
    records = [read_run(path) for path in find_runs([compared])]
    path = tmp_path / "new" / "rounds.csv"
    write_csv(records, path)
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    lines = [(record.name, line) for record in records for line in record.metrics]
    assert len(rows) == len(lines)
    for row, (name, line) in zip(rows, lines, strict=True):
        assert row["run"] == name
        cells = {key: cell for key, cell in row.items() if key not in ("run", "directory")}
        assert {key: float(cell) for key, cell in cells.items() if cell} == line


def test_long_lines_are_thinned_out_but_keep_their_ends() -> None:
    lines = [{"round": r} for r in range(10 * MOST_POINTS + 3)]
    shown = thinned(lines)
    assert len(shown) <= MOST_POINTS
    assert [shown[0], shown[-1]] == [lines[0], lines[-1]]
    assert thinned(lines[:7]) == lines[:7]
    assert thinned([]) == []


def test_a_long_ledger_is_read_with_progress(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run(tmp_path / "run")
    with (run / "ledger.csv").open("a") as file:
        file.writelines(f"{r},0,uplink,1,8\r\n" for r in range(200_000))
    monkeypatch.setattr("launch.reports.reading._SAY_AFTER_S", 0)
    told: list[str] = []
    assert read_run(run, told.append).traffic.by_worker["uplink"][0] == 200_040
    assert told[0].endswith("ledger.csv: 100,000 lines read")


def test_the_command_writes_page_table_and_pictures(compared: Path, tmp_path: Path) -> None:
    app = typer.Typer()
    app.command()(report)
    names = {key: tmp_path / f"new.{key}" for key in ("html", "csv")}
    options = ["--out", names["html"], "--csv", names["csv"], "--png", tmp_path / "png", "--json"]
    result = CliRunner().invoke(app, [str(compared), *map(str, options)])
    assert result.exit_code == 0, result.output
    said = json.loads(result.stdout)
    assert [said["report"], said["csv"]] == [str(path) for path in names.values()]
    assert [run["finished"] for run in said["runs"]] == [True, True]
    assert names["html"].stat().st_size > 1e6
    assert {Path(path) for path in said["figures"]} == set((tmp_path / "png").iterdir())
    expected = {"measures-test-accuracy-rounds.png", "workers-up-workers-to-server.png"}
    assert expected <= {Path(path).name for path in said["figures"]}


def test_what_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="holds no run: give a directory with a config"):
        find_runs([tmp_path])
    with pytest.raises(ConfigError, match="nowhere: there is no such directory"):
        find_runs([tmp_path / "nowhere"])
    with pytest.raises(ConfigError, match="no runs"):
        write_report([], tmp_path / "report.html")
    run = make_run(tmp_path / "run")
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="cannot be written"):
        write_report([read_run(run)], tmp_path / "file" / "report.html")


def test_what_holds_no_run_is_left_out_with_a_word(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    (tmp_path / "sweep").mkdir()
    (tmp_path / "log.jsonl").write_text("{}\n")
    own = [tmp_path / name for name in ("compare.png", "summary.json")]
    for path in own:
        path.touch()
    told: list[str] = []
    found = find_runs([tmp_path / "log.jsonl", run, tmp_path / "sweep", *own], told.append)
    assert found == [run.resolve()]
    assert told == [
        f"{tmp_path / name} is left out: it holds no run" for name in ("log.jsonl", "sweep")
    ]
