"""Finding items."""


def cheaper_than(stock, cents):
    """The items that cost less."""
    return [item for item in stock.items.values() if item.price < cents]
