"""Tables on a terminal."""

import sys

from affpipe.core.plain import heard, plain


def print_table(title: str, head: tuple[str, ...], rows: list[tuple[str, ...]], *, left: bool = False) -> None:
    """Print a table; columns after the first are numbers, or with `left` words."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(plain(title)))
    for i, column in enumerate(head):
        table.add_column(Text(plain(column)), justify="left" if left or i == 0 else "right", overflow="fold")
    for row in rows:
        table.add_row(*(Text(plain(cell)) for cell in row))  # not as markup: names may hold brackets
    with heard():
        Console(width=None if sys.stdout.isatty() else 120).print(table)
