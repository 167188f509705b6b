import pytest

from kfusion.errors import DataError, run_command


@pytest.mark.parametrize(
    ("outcome", "status", "printed"),
    [
        (None, 0, ""),
        (3, 3, ""),
        (DataError("no clips"), 2, "prog: no clips\n"),
        (OSError("disk full"), 2, "prog: disk full\n"),
        (KeyboardInterrupt(), 130, ""),
    ],
)
def test_a_command_ends_with_its_status_and_an_expected_error_on_stderr(
    outcome: int | BaseException | None,
    status: int,
    printed: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def command() -> int | None:
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    assert run_command("prog", command) == status
    assert capsys.readouterr() == ("", printed)


def test_an_unexpected_error_is_not_hidden() -> None:
    with pytest.raises(ZeroDivisionError):
        run_command("prog", lambda: 1 // 0)
