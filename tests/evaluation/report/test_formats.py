"""Markdown, LaTeX, CSV and JSON: whole, well formed, and safe whatever a model is called."""

import csv
import io
import json
import re
import shutil
import subprocess

import pytest

from hear_axlstm.evaluation.report import write_report
from tests.evaluation.report.world import BASE, ESC, FSD, TEN, TINY, VOX, failure, in_memory, paper_scores, record, scores

HOSTILE = "<script>|&_%#{x}~^\\ `*[=1+1]*`"
PDFLATEX = shutil.which("pdflatex")


@pytest.fixture(scope="module")
def hostile():
    """A model whose name means something in every format, with a task that failed for such a reason, too."""
    found = scores(HOSTILE, {task: value for task, value in paper_scores("AxLSTM-T").items() if task != VOX}, 2)
    return in_memory(
        [record(HOSTILE, module=HOSTILE)], found, [failure(HOSTILE, VOX, f"{HOSTILE}\n=SUM(A1) | \\end{{table*}}")]
    )


# CSV


@pytest.fixture(scope="module")
def table(results):
    return list(csv.DictReader(io.StringIO(write_report(results, "csv"))))


def test_csv_has_a_row_a_model_and_task(table):
    (row,) = [r for r in table if (r["model"], r["task"], r["protocol"]) == (BASE, ESC, "axlstm")]
    assert 78 < float(row["mean"]) < 80.5
    assert 0.1 < float(row["ci95"]) < 0.6
    expected = {"origin": "results", "engine": "native", "metric": "top1_acc", "unit": "%", "n": "10", "status": "ok"}
    assert {key: row[key] for key in expected} == expected
    assert len(row["protocol_sha256"]) == len(row["weights_sha256"]) == 64


def test_csv_has_the_published_rows_of_the_same_protocol(table):
    (row,) = [r for r in table if (r["model"], r["task"]) == ("MWMAE-Base", ESC)]
    assert (float(row["mean"]), float(row["ci95"]), row["n"], row["engine"]) == (81.2, 0.4, "10", "")
    assert row["origin"] == "Table 2 of the AxLSTM paper"
    assert {r["protocol"] for r in table if r["origin"] == "HEAR's leaderboard"} == {"hear2021"}


def test_csv_has_the_tasks_that_hear_does_not_have():
    own = {"differences": ["birds is no HEAR task"]}
    report = in_memory([record("a"), record("b")], [*scores("a", {"birds": 0.5}, 2, **own), *scores("b", {ESC: 0.5}, 2)])
    rows = list(csv.DictReader(io.StringIO(write_report(report, "csv"))))
    (birds,) = [row for row in rows if row["task"] == "birds"]
    assert (birds["model"], birds["unit"], birds["n"], birds["status"], birds["remark"]) == ("a", "%", "2", "ok", "")
    assert {row["task"] for row in rows if row["model"] == "b"} == set(TEN)


def test_csv_names_what_failed_and_what_is_missing(table):
    rows = {row["task"]: row for row in table if row["model"] == TINY}
    assert set(rows) == set(TEN)
    assert (rows[FSD]["status"], rows[FSD]["mean"]) == ("failed", "")
    assert "line 2041" in rows[FSD]["remark"]
    assert rows[VOX]["status"] == "missing"
    assert (rows[ESC]["status"], rows[ESC]["n"], rows[ESC]["remark"]) == ("seeds", "9", "no score with seed 9")


@pytest.mark.parametrize("name", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1"])
def test_no_spreadsheet_takes_a_name_for_a_formula(name):
    text = write_report(in_memory([record(name)], scores(name, {ESC: 0.5}, 2)), "csv")
    names = {row["model"] for row in csv.DictReader(io.StringIO(text)) if row["origin"] == "results"}
    assert names == {"'" + name}


def test_csv_keeps_names_with_its_own_marks():
    name = 'a,"b"\nc'
    text = write_report(in_memory([record(name)], scores(name, {ESC: 0.5}, 2)), "csv")
    assert {row["model"] for row in csv.DictReader(io.StringIO(text)) if row["origin"] == "results"} == {name}


# JSON


def test_json_is_strict_and_has_everything(results):
    def refuse(name):
        raise AssertionError(f"{name} is not JSON")

    found = json.loads(write_report(results, "json"), parse_constant=refuse)
    assert found["schema"] == 1
    papers, hear = found["sections"]
    (base, tiny) = papers["ours"]
    assert base["cells"][ESC]["estimate"]["n"] == 10
    assert list(base["cells"][ESC]["seeds"]) == [str(seed) for seed in range(10)]
    assert tiny["gaps"][FSD]["kind"] == "failed"
    assert papers["pairs"][0]["tasks"][0]["difference"]["p"] is not None
    assert papers["details"][0]["tasks"][0]["metrics"]["mAP"]
    assert papers["table"]["url"] == "https://arxiv.org/abs/2408.16568"
    assert len(papers["published"]) == 20
    assert len(hear["published"]) == 34


def test_json_has_no_bare_infinity():
    from dataclasses import replace

    odd = [replace(one, score=float("inf")) for one in scores("m", {"own": 1.0}, 2, metric="d_prime")]
    found = json.loads(write_report(in_memory([record("m")], odd), "json"))
    assert found["sections"][0]["ours"][0]["cells"]["own"]["estimate"]["mean"] == "Infinity"


# Markdown


def cells(line):
    """Of a table's row: split at bars that are not escaped."""
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]


def tables(markdown):
    """Rows of each table, the header first."""
    found, current = [], []
    for line in [*markdown.splitlines(), ""]:
        if line.startswith("|"):
            current.append(cells(line))
        elif current:
            found.append(current)
            current = []
    return found


def test_markdown_shows_scores_with_intervals(results):
    text = write_report(results, "md")
    scores_table = tables(text)[0]
    assert scores_table[0] == [
        "Model", "Parameters (M)", "Beijing Opera", "Mridangam Stroke", "Mridangam Tonic", "NSynth Pitch 5h", "CREMA-D",
        "LibriCount", "Speech Commands 5h", "VoxLingua107 Top 10", "ESC-50", "FSD50K", "s(m)",
    ]  # fmt: skip
    rows = {row[0]: row for row in scores_table}
    assert rows["AxLSTM-B"][1:3] == ["65.6", "93.6 ± 0.9"]
    assert rows["AxLSTM-B"][-1] == "86.6 ± 0.2"
    tiny = rows[f"**{TINY} (native)**"]
    assert tiny[9] == "\N{EN DASH}"
    assert re.fullmatch(r"61\.\d ± 0\.\d \(n = 9\)", tiny[10])
    assert tiny[11:] == ["failed", "partial: 8 of 10 tasks"]


def test_every_row_of_a_markdown_table_has_as_many_cells_as_its_header(results, hostile):
    for report in (results, hostile):
        found = tables(write_report(report, "md"))
        assert len(found) >= 3
        for rows in found:
            assert {len(row) for row in rows} == {len(rows[0])}


def test_markdown_names_failures_differences_and_provenance(results):
    text = write_report(results, "md")
    assert "| VoxLingua107 Top 10 | not evaluated |" in text
    assert "Partial: this is not s(m), which needs all ten tasks as in HEAR." in text
    assert "These tasks are not in it: VoxLingua107 Top 10, FSD50K." in text
    assert "failed: fsd50k-v1.0-full/train.json cannot be read" in text
    assert f"### {BASE} (native) less {TINY} (native)" in text
    assert "within 0.044" in text  # how well s(m) is reproduced
    assert f"weights sha256 {len(BASE):064x}" in text
    assert "nothing about another pretraining run" in text


def test_markdown_marks_tasks_that_are_not_hears():
    found = scores("m", {ESC: 0.5}, differences=["clips: 40, in HEAR 2000"])
    text = write_report(in_memory([record("m")], found), "md")
    assert re.search(r"\| (49|50)\.\d ± 0\.\d† \|", text)
    assert "† ESC-50 (m (native)): clips: 40, in HEAR 2000" in text


def test_no_name_is_markup_in_markdown(hostile):
    text = write_report(hostile, "md")
    assert "<script" not in text
    assert r"&lt;script&gt;\|&amp;\_%\#\{x\}\~^\\ \`\*\[=1+1\]\*\`" in text


# LaTeX


def test_latex_has_a_booktabs_table_of_equal_rows(results, hostile):
    for report in (results, hostile):
        for body in re.findall(
            r"\\begin\{tabular\}\{(l[rc]+)\}\n(.*?)\\end\{tabular\}", write_report(report, "latex"), re.S
        ):
            columns, rows = body
            lines = [line for line in rows.splitlines() if line.endswith(r"\\")]
            assert len(lines) > 20
            for line in lines:
                assert len(re.split(r"(?<!\\)&", line)) == len(columns), line
            assert [rule in rows for rule in (r"\toprule", r"\midrule", r"\bottomrule")] == [True] * 3


def test_latex_says_why_there_is_no_s(results):
    text = write_report(results, "latex")
    assert rf"{TINY} (native): no s(m), partial: 8 of 10 tasks." in text
    assert r"AxLSTM-B & 65.6 & 93.6{\tiny$\pm$0.9}" in text
    assert re.search(rf"{TINY} \(native\).* & failed & --", text)


def test_no_name_is_a_command_in_latex(hostile):
    text = write_report(hostile, "latex")
    assert (
        r"\textless{}script\textgreater{}\textbar{}\&\_\%\#\{x\}\textasciitilde{}\textasciicircum{}\textbackslash{}" in text
    )
    assert text.count(r"\end{table*}") == 1


@pytest.mark.skipif(PDFLATEX is None, reason="no pdflatex here (Debian: apt install texlive-latex-recommended)")
def test_latex_compiles(results, hostile, tmp_path):
    for name, report in (("results", results), ("hostile", hostile)):
        (tmp_path / "table.tex").write_text(write_report(report, "latex"))
        document = r"\documentclass{article}\usepackage{booktabs}\begin{document}\input{table.tex}\end{document}"
        (tmp_path / f"{name}.tex").write_text(document)
        command = [PDFLATEX, "-interaction=nonstopmode", "-halt-on-error", f"{name}.tex"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, errors="replace")
        assert done.returncode == 0, done.stdout[-2000:]
