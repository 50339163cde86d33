import random
import unittest

from stockroom.stock import Stock


class StockTest(unittest.TestCase):
    def test_more_than_there_is_can_not_be_taken(self):
        stock = Stock()
        stock.add("nail", price=2, count=10)
        with self.assertRaises(ValueError):
            stock.take("nail", 11)

    def test_any_order_of_adding_and_taking_ends_with_the_right_total(self):
        chance = random.Random(1)
        stock, counts = Stock(), {}
        for _ in range(60_000):
            name = f"item {chance.randrange(50)}"
            if chance.random() < 0.6:
                stock.add(name, price=7, count=2)
                counts[name] = counts.get(name, 0) + 2
            elif counts.get(name):
                stock.take(name)
                counts[name] -= 1
        self.assertEqual(stock.total(), 7 * sum(counts.values()))
