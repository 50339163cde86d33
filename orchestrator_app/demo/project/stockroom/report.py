"""A report for people."""

from stockroom.money import format_price
from stockroom.texts import TITLE


def report(stock):
    """The lines of the report."""
    lines = [TITLE]
    for item in stock.items.values():
        lines.append(f"{item.count:5d} {item.name:20} {format_price(item.price)}")
    lines.append(f"total {format_price(stock.total())}")
    return lines
