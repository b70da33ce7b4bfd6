"""Plain text for the terminal: numbers of things in words, and tables that are aligned by type and never cut."""

from __future__ import annotations

import numbers
import shutil
import textwrap
from collections.abc import Sequence
from typing import Any

__all__ = ["counted", "format_table", "table_width"]

_NARROWEST = 20
"""Columns that a wrapped last column has at least, whatever the width asked for."""

_GAP = "  "


def counted(number: int, noun: str) -> str:
    """Return `1 case`, `2 cases`, `1,251 cases`: for nouns with a plural in s."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def table_width() -> int:
    """Return the terminal's width in columns; 100 where there is no terminal."""
    return shutil.get_terminal_size((100, 24)).columns


def format_table(
    header: Sequence[str],
    rows: Sequence[Sequence[Any]],
    *,
    digits: int | Sequence[int] = 3,
    width: int | None = None,
) -> str:
    """Return a table as text, without a newline at its end: a header, a rule, a line a row.

    Numbers are right-aligned, floats with `digits` decimals (one number for all, or one a column), None is
    empty. Nothing is ever cut: where a row is wider than `width` (default: the terminal) the last column, if it is
    text, wraps between words; other columns keep their length. No rows give the header alone.
    """
    decimals = [digits] * len(header) if isinstance(digits, int) else digits
    cells = [[_text(value, places) for value, places in zip(row, decimals, strict=True)] for row in rows]
    is_number = [_is_numeric([row[column] for row in rows]) for column in range(len(header))]
    widths = [max(map(len, column)) for column in zip(header, *cells, strict=True)]
    room = (table_width() if width is None else width) - sum(widths[:-1]) - len(_GAP) * (len(header) - 1)
    if not is_number[-1]:
        room = max(room, _NARROWEST, len(header[-1]))
        cells = [[*row[:-1], _wrapped(row[-1], room)] for row in cells]
        widths[-1] = min(widths[-1], room)
    lines = [_line(header, widths, is_number), _GAP.join("-" * size for size in widths)]
    for row in cells:
        first, *more = row[-1].split("\n")
        lines.append(_line([*row[:-1], first], widths, is_number))
        lines += [_line([*[""] * (len(header) - 1), text], widths, is_number) for text in more]
    return "\n".join(lines)


def _text(value: Any, digits: int) -> str:
    if value is None:
        return ""
    if isinstance(value, numbers.Real) and not isinstance(value, numbers.Integral):
        return f"{float(value):.{digits}f}"
    return str(value)


def _is_numeric(values: Sequence[Any]) -> bool:
    known = [value for value in values if value is not None]
    return bool(known) and all(isinstance(value, numbers.Real) and not isinstance(value, bool) for value in known)


def _wrapped(text: str, room: int) -> str:
    lines = text.split("\n")
    return "\n".join(textwrap.fill(line, room, break_long_words=False, break_on_hyphens=False) for line in lines)


def _line(texts: Sequence[str], widths: Sequence[int], is_number: Sequence[bool]) -> str:
    pairs = zip(texts, widths, is_number, strict=True)
    return _GAP.join(text.rjust(size) if right else text.ljust(size) for text, size, right in pairs).rstrip()
