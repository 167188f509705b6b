from pathlib import Path

import pytest

from training.scores.tables import main

ROOT = Path(__file__).parents[3]


def test_the_results_show_the_tries_as_the_csv_has_them(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(ROOT / "training" / "results" / "tries.csv")]) == 0
    table = capsys.readouterr().out
    assert f"\n\n{table}\n" in (ROOT / "training" / "RESULTS.md").read_text("utf-8")


@pytest.mark.parametrize(
    ("text", "message"),
    [("", "is empty"), ("a,b\n1,2\n3\n", "line 3: 1 cells; wanted 2"), (None, "cannot be read")],
)
def test_a_file_that_is_no_table_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str | None, message: str
) -> None:
    path = tmp_path / "table.csv"
    if text is not None:
        path.write_text(text)
    assert main([str(path)]) == 2
    assert message in capsys.readouterr().err
