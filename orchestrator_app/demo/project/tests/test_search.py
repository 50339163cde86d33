import unittest

from stockroom.search import cheaper_than
from stockroom.stock import Stock


class SearchTest(unittest.TestCase):
    def test_only_cheaper_items_are_found(self):
        stock = Stock()
        stock.add("nail", price=2)
        stock.add("hammer", price=1250)
        self.assertEqual([item.name for item in cheaper_than(stock, 100)], ["nail"])
