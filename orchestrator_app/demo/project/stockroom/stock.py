"""What is there, and how much of it."""

from dataclasses import dataclass


@dataclass
class Item:
    """Something in the stock; `price` is in cents."""

    name: str
    price: int
    count: int = 0


class Stock:
    """Items by name."""

    def __init__(self):
        self.items = {}

    def add(self, name, price, count=1):
        """Put `count` pieces in; the newest price counts."""
        item = self.items.setdefault(name, Item(name, price))
        item.price = price
        item.count += count

    def take(self, name, count=1):
        """Take `count` pieces out. Raises KeyError or ValueError if they aren't there."""
        item = self.items[name]
        if item.count < count:
            raise ValueError(f"only {item.count} of {name} left")
        item.count -= count

    def total(self):
        """What everything in the stock is worth, in cents."""
        return sum(item.price * item.count for item in self.items.values())
