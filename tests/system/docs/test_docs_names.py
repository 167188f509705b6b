"""What the documents name exists: commands and their options, links, messages that are quoted."""

import contextlib
import functools
import io
import re
import runpy
import sys
import warnings
from pathlib import Path
from typing import Final

import pytest

from tests.system.docs.documents import ROOT, Call, anchors, blocks, calls, documents, links, spans

OURS: Final = ("server", "client", "training", "kfusion")
OTHERS: Final = {"--allow-loopback-in-peer-connection"}  # Chromium's


@functools.cache
def help_of(module: str, command: str = "") -> str:
    """What ``python -m MODULE [COMMAND] --help`` says."""
    before, sys.argv = sys.argv, [module, *filter(None, [command]), "--help"]
    said = io.StringIO()
    try:
        with contextlib.redirect_stdout(said), warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # of a module that is imported already
            runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as ended:
        assert not ended.code, f"python -m {module} {command} --help"
    finally:
        sys.argv = before
    return said.getvalue()


def known(module: str, command: str = "") -> set[str]:
    return set(re.findall(r"(?<![\w-])--[a-z][\w-]*", help_of(module, command)))


def options_of(call: Call) -> set[str]:
    """What its program takes, its subcommand and what it hands on with ``--``."""
    found = known(call.module)
    first = next((w for w in call.words if not w.startswith("-")), "")
    listed = rf"[{{,]{re.escape(first)}[,}}]|^    {re.escape(first)}  "
    if first and re.search(listed, help_of(call.module), re.MULTILINE):
        found = found | known(call.module, first)
    return found | (known("training.train") if "--" in call.words else set())


@pytest.mark.parametrize("path", documents(), ids=lambda p: str(p.relative_to(ROOT)))
def test_the_commands_and_options_exist(path: Path) -> None:
    for call in calls(path):
        if call.module.split(".")[0] in OURS:
            missing = [o for o in call.options if o not in options_of(call)]
            assert not missing, f"{call.place}: python -m {call.module} has no {missing}"
        elif call.module == "pytest":
            assert [w for w in call.words if (ROOT / w.partition("::")[0]).is_file()], call
    every = {o for name in ("server", "client") for o in known(name)}
    for command in ("file", "mic", "say", "replay", "loadtest", "identity"):
        every |= known("client", command)
    for name in ("prepare", "train", "evaluate", "ablate", "trial", "phones", "label"):
        every |= known(f"training.{name}")
    for code in [] if path.name == "CHANGELOG.md" else spans(path):  # it names removed options
        if re.match(r"--[a-z]", code):
            assert code.split()[0].partition("=")[0] in every | OTHERS, f"{path}: `{code}`"


def test_the_targets_of_make_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    named = [c for path in documents() for c in spans(path)]
    named += [c for path in documents() for block in blocks(path) for c in block.commands()]
    made = {code.split()[1] for code in named if re.match(r"make [a-z]", code)}
    assert {"run", "test"} <= made <= targets


@pytest.mark.parametrize("path", documents(), ids=lambda p: str(p.relative_to(ROOT)))
def test_the_links_lead_somewhere(path: Path) -> None:
    for link in links(path):
        if re.match(r"https?:", link):
            continue
        name, _, anchor = link.partition("#")
        target = (path.parent / name).resolve() if name else path
        assert target.exists(), f"{path.relative_to(ROOT)}: {link}"
        assert not anchor or anchor in anchors(target), f"{path.relative_to(ROOT)}: {link}"


def test_every_document_is_in_the_list_of_them() -> None:
    docs = ROOT / "docs"
    listed = {name.partition("#")[0] for name in links(docs / "README.md")}
    assert {p.name for p in docs.glob("*.md")} - {"README.md"} <= listed


def _source() -> str:
    """All that our programs may say, strings over several lines joined."""
    places = [*(ROOT / "client" / "viewer").rglob("*.js")]
    places += [p for name in OURS for p in (ROOT / name).rglob("*.py")]
    text = "\n".join(p.read_text("utf-8") for p in places if "vendor" not in p.parts)
    return re.sub(r"[\"']\s*\+?\s*\n\s*f?[\"']", "", text)


def test_what_troubleshooting_quotes_is_said_somewhere() -> None:
    text = (ROOT / "docs" / "troubleshooting.md").read_text("utf-8")
    quoted = re.findall(r"\"([^\"]{8,}?)\"", re.sub(r"\n    .*", "", text))
    source, theirs = _source(), {"certificate verify failed"}  # OpenSSL's
    assert len(quoted) > 25
    for words in quoted:
        for part in filter(None, re.split(r"\s*…\s*", re.sub(r"\s+", " ", words))):
            assert part in source or part in theirs, words


def test_the_names_of_the_environment_exist() -> None:
    texts = (path.read_text("utf-8") for path in documents())
    named = {name for text in texts for name in re.findall(r"\bKFUSION_[A-Z_]+\b", text)}
    source = _source()
    assert "KFUSION_TOKEN" in named and all(f'"{name}"' in source for name in named)
