"""Tables as CSV: what is written is read again as it was."""

from affpipe.system.sheets import rows, table_text

HEAD = ["stream_id", "what", "value"]
CELLS = [["ann", 'a "word", and another', "0.5"], ["bob_left", "two\nlines", ""], ["č", " blanks ", "1"]]


def test_a_table_is_read_as_it_was_written():
    head, found = rows(table_text(HEAD, CELLS))
    assert head == HEAD
    assert [list(cells.values()) for _, cells in found] == CELLS


def test_a_row_ends_in_a_line_feed_and_none_is_an_empty_cell():
    assert table_text(("a", "b"), [(1, None), (0.25, "x")]) == "a,b\n1,\n0.25,x\n"
    assert table_text(["a"], []) == "a\n"
