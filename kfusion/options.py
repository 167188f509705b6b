"""Command-line options made from a dataclass, so that each option is written once.

A field made by :func:`option` is an option. Its type decides how the text is read: ``str``,
``int``, ``float``, ``Path``, any of them ``| None``, ``bool`` (a switch) and tuples.
"""

import argparse
import dataclasses
import types
import typing
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

_KEY: Final = "kfusion.option"

C = TypeVar("C")


def option(
    default: Any = dataclasses.MISSING,
    about: str = "",
    *,
    name: str = "",
    group: str = "",
    choices: Sequence[str] | None = None,
    metavar: str | None = None,
    bounds: tuple[int, int] | None = None,
    repeated: bool = False,
    read: Callable[[str], Any] | None = None,
) -> Any:
    """A dataclass field that is a command-line option too.

    ``default``: without one the option is required; a function of no arguments is called for each
    parser. ``about``: the help text, in which ``%(default)s`` stands for the default. ``name``: the
    option, ``--field-name`` unless given. ``group``: its heading in the help. ``bounds``: least and
    greatest whole number. ``repeated``: a tuple is given as ``--x 1 --x 2`` instead of ``--x 1 2``.
    ``read``: a function of the text, instead of the type's own.
    """
    metadata = {
        _KEY: {
            "about": about, "name": name, "group": group, "choices": choices, "metavar": metavar,
            "bounds": bounds, "repeated": repeated, "read": read,
        }
    }  # fmt: skip
    if callable(default):
        return dataclasses.field(default_factory=default, metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def whole_number(low: int, high: int) -> Callable[[str], int]:
    """An argparse type: a whole number from ``low`` to ``high``."""

    def number(text: str) -> int:
        if not text.isascii() or not text.isdigit() or not low <= int(text) <= high:
            raise argparse.ArgumentTypeError(f"{text!r}: expected a whole number, {low} to {high}")
        return int(text)

    return number


def add_options(parser: argparse.ArgumentParser, config: type[Any]) -> None:
    """Adds an option for each field of ``config`` that was made by :func:`option`."""
    groups: dict[str, Any] = {"": parser}
    hints = typing.get_type_hints(config)
    for field in dataclasses.fields(config):
        settings = field.metadata.get(_KEY)
        if settings is None:
            continue
        group = settings["group"]
        if group not in groups:
            groups[group] = parser.add_argument_group(group)
        name, arguments = _argument(field, settings, hints[field.name])
        groups[group].add_argument(name, dest=field.name, **arguments)


def parsed(config: type[C], namespace: argparse.Namespace, **others: Any) -> C:
    """The dataclass with a parsed command line's values; ``others``: fields without an option."""
    given = {
        field.name: getattr(namespace, field.name)
        for field in dataclasses.fields(config)  # type: ignore[arg-type]
        if _KEY in field.metadata
    }
    values = {
        key: tuple(value) if isinstance(value, list) else value for key, value in given.items()
    }
    return config(**values, **others)


def _argument(
    field: dataclasses.Field[Any], settings: dict[str, Any], hint: Any
) -> tuple[str, dict[str, Any]]:
    """The option's name and the arguments of ``add_argument``."""
    default = field.default
    if field.default_factory is not dataclasses.MISSING:
        default = field.default_factory()
    prefix = "--no-" if hint is bool and default else "--"
    name = settings["name"] or prefix + field.name.replace("_", "-")
    if hint is bool:
        action = "store_false" if default else "store_true"
        return name, {"action": action, "help": settings["about"]}
    kind, many = _value_type(hint)
    arguments: dict[str, Any] = {k: settings[k] for k in ("choices", "metavar")}
    arguments["help"] = settings["about"]
    if settings["bounds"] is not None:
        kind = whole_number(*settings["bounds"])
    arguments["type"] = settings["read"] or kind
    if many:
        arguments |= {"action": "append"} if settings["repeated"] else {"nargs": "*"}
    if default is dataclasses.MISSING:
        arguments["required"] = True
        if many and not settings["repeated"]:
            arguments["nargs"] = "+"
    else:
        arguments["default"] = list(default) if many else default
    return name, arguments


def _value_type(hint: Any) -> tuple[Callable[[str], Any], bool]:
    """The type of one value, and whether the field holds several."""
    if typing.get_origin(hint) is tuple:
        return _value_type(typing.get_args(hint)[0])[0], True
    if typing.get_origin(hint) in (types.UnionType, typing.Union):
        return _value_type(next(a for a in typing.get_args(hint) if a is not type(None)))
    if hint in (int, float, Path):
        return hint, False
    return str, False
