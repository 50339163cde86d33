import unittest

from stockroom.report import report
from stockroom.stock import Stock
from stockroom.texts import TITLE


class ReportTest(unittest.TestCase):
    def test_a_report_has_a_title_a_line_for_each_item_and_the_total(self):
        stock = Stock()
        stock.add("nail", price=2, count=10)
        stock.add("hammer", price=1250)
        lines = report(stock)
        self.assertEqual(lines[0], TITLE)
        self.assertEqual(len(lines), 4)
        self.assertIn("12.70", lines[-1])
