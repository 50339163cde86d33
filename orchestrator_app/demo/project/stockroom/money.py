"""Prices are whole cents."""


def format_price(cents):
    """The price as a text: 1234 is 12.34."""
    return f"{cents // 100}.{cents % 100:02d}"
