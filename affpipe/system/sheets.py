"""Tables as CSV: read as spreadsheets save them, written with a line feed after each row.

In a table that is read, rows whose cells are all empty, and empty cells beyond the header, are ignored.
"""

import csv
import io
from collections.abc import Collection, Iterable, Iterator
from typing import Any

Cells = dict[str | None, str | list[str] | None]  # column -> cell, None if missing; the key None -> cells beyond the header


def rows(text: str, known: Collection[str] = ()) -> tuple[list[str], Iterator[tuple[int, Cells]]]:
    """Return the header, and each row with the number of its last line, where the header is line 1.

    Raises csv.Error if the text is no CSV.

    Args:
        known: column names in lower case. The header may write them in any case and with blanks around them.
    """
    table = csv.DictReader(io.StringIO(text, newline=""))
    head = [name if (plain := name.strip().lower()) not in known else plain for name in table.fieldnames or []]
    table.fieldnames = head
    return list(head), _rows(table)


def _rows(table: csv.DictReader) -> Iterator[tuple[int, Cells]]:
    for cells in table:
        beyond = cells.get(None, [])
        if not any(cell.strip() for cell in [*beyond, *(cell or "" for column, cell in cells.items() if column is not None)]):
            continue
        if not any(cell.strip() for cell in beyond):
            cells.pop(None, None)
        yield table.line_num, cells


def table_text(head: Iterable[Any], rows: Iterable[Iterable[Any]]) -> str:
    """Write a table as CSV: the header, then the rows, each with a cell for each column. None is an empty cell."""
    out = io.StringIO()
    table = csv.writer(out, lineterminator="\n")
    table.writerow(head)
    table.writerows(rows)
    return out.getvalue()
