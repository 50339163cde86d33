import unittest

from stockroom.money import format_price


class MoneyTest(unittest.TestCase):
    def test_cents_have_two_digits(self):
        self.assertEqual(format_price(1205), "12.05")

    def test_every_price_reads_back(self):
        for cents in range(100_000):
            whole, _, rest = format_price(cents).partition(".")
            self.assertEqual(int(whole) * 100 + int(rest), cents)
