"""Curves as text."""

from __future__ import annotations

from trainer.charts import chart, sparkline


def test_a_sparkline_spans_low_to_high_and_averages_what_does_not_fit() -> None:
    assert sparkline([1.0, 2.0, 3.0], 10) == "▁▅█"
    assert sparkline([0.0, 0.0, 4.0, 4.0], 2) == "▁█"
    assert sparkline([2.0, float("nan"), 2.0], 5) == "▁▁"
    assert sparkline([], 5) == ""


def drawn(rows: list[list[tuple[str, int | None]]]) -> list[str]:
    return ["".join(piece for piece, _ in row) for row in rows]


def test_a_falling_line_runs_from_the_top_left_to_the_bottom_right() -> None:
    rows = drawn(chart([[(float(x), 10.0 - x) for x in range(11)]], width=40, height=8, x_label="tokens"))
    assert len({len(row) for row in rows[:-1]}) == 1
    assert len(rows[0]) == 40
    assert rows[0].startswith("10 ┤⠉") or rows[0].startswith("10 ┤⠑") or rows[0][4] != " "
    body = [row[row.index("┤" if "┤" in row else "│") + 1 :] for row in rows[:-2]]
    columns = [next(at for at, mark in enumerate(row) if mark != " ") for row in body]
    assert columns == sorted(columns)
    assert body[0][0] != " "
    assert body[-1][-1] != " "
    assert rows[-1].rstrip().endswith("10 tokens")


def test_lines_know_whose_cells_are_and_marks_stand_on_the_axis() -> None:
    low, high = [(0.0, 0.0), (100.0, 0.0)], [(0.0, 1.0), (100.0, 1.0)]
    rows = chart([low, high], width=30, height=7, marks=[50.0])
    assert {owner for _, owner in rows[0] if owner is not None} == {1}
    assert {owner for _, owner in rows[-3] if owner is not None} == {0}
    assert drawn(rows)[-2].count("┴") == 1


def test_nothing_to_draw_is_said() -> None:
    assert chart([[], [(0.0, float("nan"))]], width=30, height=7) == [[("no points", None)]]
