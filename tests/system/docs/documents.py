"""The project's documents: their blocks of code, links and headings."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[3]
ELSEWHERE: Final = {"node_modules", ".venv", "build", "dist", ".git", ".pytest_cache"}

# <!-- not run here: reason -->, or of some commands of a block (their first words):
# <!-- not run here (python -m client mic; make): reason -->
MARK: Final = re.compile(r"<!-- not run here(?: \((.+)\))?: (.+) -->")


def documents() -> list[Path]:
    found = (p for p in ROOT.rglob("*.md") if not ELSEWHERE & set(p.relative_to(ROOT).parts))
    return sorted(found)


@dataclass(frozen=True)
class Block:
    """``language`` is that of its fence, with what stands behind; an indented block is shell.
    ``skipped``: it is not run, or commands that begin with ``without`` are not.
    """

    path: Path
    line: int
    language: str
    text: str
    skipped: bool = False
    without: tuple[str, ...] = ()

    @property
    def place(self) -> str:
        return f"{self.path.relative_to(ROOT)}:{self.line}"

    def commands(self) -> list[str]:
        """Of a shell block: what is typed, each in one line, without comments."""
        whole = self.text.replace("\\\n", " ")
        lines = (_without_comment(line).strip() for line in whole.splitlines())
        return [line for line in lines if line]

    def leaves_out(self, command: str) -> bool:
        return self.skipped or command.startswith(self.without or ("\0",))


def _without_comment(line: str) -> str:
    quote = ""
    for at, letter in enumerate(line):
        if quote:
            quote = "" if letter == quote else quote
        elif letter in "'\"":
            quote = letter
        elif letter == "#" and (at == 0 or line[at - 1] == " "):
            return line[:at]
    return line


def blocks(path: Path) -> list[Block]:
    """Fenced blocks, and lines that are indented by four after a blank one."""
    lines = path.read_text("utf-8").splitlines()
    found: list[Block] = []
    at = 0
    while at < len(lines):
        line = lines[at]
        if line.startswith("```"):
            end = next(k for k in range(at + 1, len(lines)) if lines[k].startswith("```"))
            found.append(_block(path, lines, at, lines[at + 1 : end], line[3:].strip() or "none"))
            at = end + 1
        elif line.startswith("    ") and (at == 0 or not lines[at - 1].strip()):
            end = at
            while end < len(lines) and (lines[end].startswith("    ") or not lines[end].strip()):
                end += 1
            found.append(_block(path, lines, at, lines[at:end], "shell"))
            at = end
        else:
            at += 1
    return found


def _block(path: Path, lines: list[str], at: int, body: list[str], language: str) -> Block:
    indent = min((len(b) - len(b.lstrip()) for b in body if b.strip()), default=0)
    text = "\n".join(b[indent:] for b in body).rstrip() + "\n"
    before = next((b for b in reversed(lines[:at]) if b.strip()), "")
    mark = MARK.fullmatch(before.strip())
    without = tuple(mark[1].split("; ")) if mark and mark[1] else ()
    return Block(path, at + 1, language, text, bool(mark) and not without, without)


def prose(path: Path) -> str:
    """A document without its blocks."""
    lines = path.read_text("utf-8").splitlines()
    for block in blocks(path):
        count = len(block.text.splitlines()) + 2 * (lines[block.line - 1].startswith("```"))
        lines[block.line - 1 : block.line - 1 + count] = [""] * count
    return "\n".join(lines)


def spans(path: Path) -> list[str]:
    """The `code` within its sentences."""
    return [re.sub(r"\s+", " ", code) for code in re.findall(r"`([^`]+)`", prose(path))]


def links(path: Path) -> list[str]:
    return re.findall(r"\]\(([^)\s]+)\)", prose(path))


def anchors(path: Path) -> set[str]:
    """Of its headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", prose(path), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings}


@dataclass(frozen=True)
class Call:
    """``python -m MODULE``, its subcommand if it has any, and its options."""

    place: str
    module: str
    words: tuple[str, ...]

    @property
    def options(self) -> list[str]:
        return [w.partition("=")[0] for w in self.words if re.match(r"--[a-z]", w)]


def calls(path: Path) -> Iterator[Call]:
    """Every ``python -m`` of a document, in blocks and in sentences."""
    commands = [
        (block.place, command)
        for block in blocks(path)
        if block.language == "shell"
        for command in block.commands()
    ]
    commands += [(str(path.relative_to(ROOT)), code) for code in spans(path)]
    for place, command in commands:
        for part in re.split(r"[;|&`]", command):
            try:
                words = shlex.split(part)
            except ValueError:  # quotes around what was split
                words = part.split()
            if "-m" not in words[:-1]:
                continue
            at = words.index("-m")
            if at == 0 or not (words[at - 1].startswith("python") or "torchrun" in words):
                continue
            yield Call(place, words[at + 1], tuple(words[at + 2 :]))
