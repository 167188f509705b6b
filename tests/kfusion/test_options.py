"""Options made from a dataclass: what each kind of field accepts, and what it becomes."""

import argparse
from dataclasses import dataclass
from pathlib import Path

import pytest

from kfusion.options import add_options, option, parsed


@dataclass(frozen=True)
class Config:
    data: tuple[Path, ...] = option(about="corpora")
    port: int = option(8765, "port (%(default)s)", bounds=(0, 65535))
    token: str | None = option(lambda: "from the environment")
    origins: tuple[str, ...] = option((), name="--origin", repeated=True)
    webrtc: bool = option(True)
    insecure: bool = option(False)
    rate: float = option(3e-4, group="optimisation")
    folder: Path | None = option(None, metavar="FOLDER")
    engine: str = option("auto", choices=["auto", "onnx"])
    limits: int = 64  # no option


def read(*argv: str) -> Config:
    parser = argparse.ArgumentParser(exit_on_error=False)
    add_options(parser, Config)
    return parsed(Config, parser.parse_args(argv))


def test_defaults_are_the_dataclass_own() -> None:
    assert read("--data", "a") == Config(data=(Path("a"),))
    assert read("--data", "a").token == "from the environment"


def test_each_kind_of_field_reads_its_text() -> None:
    config = read(
        *("--data", "a", "b", "--port", "0", "--token", "t", "--origin", "x", "--origin", "y"),
        *("--no-webrtc", "--insecure", "--rate", "1e-3", "--folder", "f", "--engine", "onnx"),
    )
    assert config == Config(
        data=(Path("a"), Path("b")), port=0, token="t", origins=("x", "y"), webrtc=False,
        insecure=True, rate=1e-3, folder=Path("f"), engine="onnx",
    )  # fmt: skip


def test_repeated_options_of_one_parser_do_not_add_up() -> None:
    parser = argparse.ArgumentParser()
    add_options(parser, Config)
    for _ in range(2):
        config = parsed(Config, parser.parse_args(["--data", "a", "--origin", "x"]))
        assert config.origins == ("x",)


@pytest.mark.parametrize(
    "argv",
    [
        [],  # without what is required
        ["--data", "a", "--port", "65536"],
        ["--data", "a", "--port", "-1"],
        ["--data", "a", "--engine", "none"],
    ],
)
def test_what_a_field_does_not_allow_is_refused(argv: list[str]) -> None:
    with pytest.raises((argparse.ArgumentError, SystemExit)):
        read(*argv)


def test_help_names_groups_and_defaults() -> None:
    parser = argparse.ArgumentParser()
    add_options(parser, Config)
    text = parser.format_help()
    assert "port (8765)" in text
    assert "optimisation:" in text
    assert "--limits" not in text
