"""What each unit of the demo does in IMPLEMENT: one function per unit, in the order of `CHANGES` at the end."""

import os
import sys
import time
import timeit
from datetime import UTC, datetime, timedelta
from pathlib import Path

from tools import (
    ANSWER,
    BASE,
    FEEDBACK,
    append,
    commit,
    finish,
    git,
    replace,
    say,
    status_of,
    step,
    tests_pass,
    think,
    wait_for_answer,
    write,
)

TEST = """import unittest

{imports}


class {name}Test(unittest.TestCase):
    def test_{what}(self):
        {body}
"""


def test_file(name, what, imports, body):
    """Write tests/test_NAME.py with one test."""
    text = TEST.format(name=name.title().replace("_", ""), what=what, imports=imports, body=body)
    write(f"tests/test_{name}.py", text)


# -- a chain: each of these waits for the one before it, and builds on what that one merged


def currency_symbol():
    """format_price gets a currency symbol."""
    step(30, "changing money.py")
    replace("stockroom/money.py", "def format_price(cents):", 'def format_price(cents, symbol=""):')
    replace("stockroom/money.py", '{cents % 100:02d}"', '{cents % 100:02d}{symbol}"')
    step(60, "writing a test")
    imports = "from stockroom.money import format_price"
    test_file("symbol", "the_symbol_comes_last", imports, 'self.assertEqual(format_price(5, "€"), "0.05€")')
    finish("format_price gets a symbol")


def price_report():
    """The report shows the currency."""
    step(50, "changing report.py")
    replace("stockroom/report.py", "format_price(item.price)", "format_price(item.price, '€')")
    replace("stockroom/report.py", "format_price(stock.total())", "format_price(stock.total(), '€')")
    finish("The report shows the currency")


def csv_export():
    """The report as CSV."""
    step(40, "writing export.py")
    write(
        "stockroom/export.py",
        '"""Reports for programs."""\n\nfrom stockroom.money import format_price\n\n\n'
        'def as_csv(stock):\n    """The stock as lines of CSV: name, count, price."""\n'
        "    return [f'{item.name},{item.count},{format_price(item.price, \"€\")}' for item in stock.items.values()]\n",
    )
    step(70, "writing a test")
    test_file(
        "export",
        "each_item_is_a_line",
        "from stockroom.export import as_csv\nfrom stockroom.stock import Stock",
        'stock = Stock()\n        stock.add("nail", 2)\n        self.assertEqual(as_csv(stock), ["nail,1,0.02€"])',
    )
    finish("Export as CSV")


def changelog():
    """A change log, from what was merged so far."""
    merged = git("log", "--merges", "--reverse", "--format=- %s", BASE)
    write("CHANGELOG.md", f"# Changes\n\n{merged}")
    finish("A change log")


# -- people


def date_format():
    """Reports carry a date, in the format that the operator wants."""
    if not ANSWER:
        step(20, "looking for the format that users expect")
        options = ["year first (2026-01-31)", "day first (31.01.2026)"]
        say("ask", question="Which format should dates in reports have?", options=options)
        return  # the phase runs again when there is an answer
    step(60, f"the operator says: {ANSWER}")
    pattern, shown = ("%d.%m.%Y", "31.01.2026") if ANSWER.startswith("day") else ("%Y-%m-%d", "2026-01-31")
    write(
        "stockroom/dates.py",
        f'"""Dates in reports."""\n\nFORMAT = "{pattern}"\n\n\n'
        'def format_date(day):\n    """The date as users see it."""\n    return day.strftime(FORMAT)\n',
    )
    imports = "from datetime import date\n\nfrom stockroom.dates import format_date"
    body = f'self.assertEqual(format_date(date(2026, 1, 31)), "{shown}")'
    test_file("dates", "a_date_is_shown_as_wanted", imports, body)
    finish(f"Dates are shown {ANSWER}")


def drop_legacy():
    """Delete the legacy module, if the operator approves."""
    step(30, "looking for what uses stockroom/legacy.py")
    used = [path for path in git("grep", "-l", "stockroom.legacy", "--", "stockroom", "tests", check=False).split()]
    say("ask", kind="approval", question=f"Delete stockroom/legacy.py? {len(used)} files import it.")
    answer = wait_for_answer()
    if answer != "approve":
        print(f"it stays: {answer}")
        return
    step(70, "deleting it")
    git("rm", "-q", "stockroom/legacy.py")
    finish("Delete the legacy module")


# -- two that edit the same line: the second one to be merged conflicts


def title_formal():
    """The report's title becomes formal."""
    think()
    replace("stockroom/texts.py", '"Stock report"', '"Report on the stock"')
    finish("A formal title")


def title_short():
    """The report's title becomes short."""
    if FEEDBACK:
        return resolve_title()
    step(30, "looking for a short title")
    replace("stockroom/texts.py", '"Stock report"', '"Stock"')
    step(60, "asking around whether it is short enough")
    # A real agent is slow by itself. This one goes on until the other title is merged, so that they conflict.
    deadline = time.monotonic() + 60
    while "Report on" not in git("show", f"{BASE}:stockroom/texts.py") and time.monotonic() < deadline:
        time.sleep(0.2)
    finish("A short title")


def resolve_title():
    """Told of the conflict: merge the base branch and settle it."""
    print(f"feedback: {FEEDBACK}", flush=True)
    if git("merge", "--no-edit", BASE, check=False) and "<<<<<<<" in Path("stockroom/texts.py").read_text():
        step(50, "both titles changed: the formal one, but short")
        write("stockroom/texts.py", '"""The words that users see."""\n\nTITLE = "The stock"\n')
    finish("Merge the formal title and the short one")


# -- failures, reviews and limits


def discount():
    """Discounts, rounded to a whole cent. The first version is wrong, and the tests say so."""
    if not Path("stockroom/discount.py").exists():
        step(30, "writing discount.py and its test")
        write(
            "stockroom/discount.py",
            '"""Discounts."""\n\n\ndef discounted(cents, percent):\n'
            '    """The price after a discount, rounded to a whole cent."""\n'
            "    return int(cents * (100 - percent) / 100)\n",
        )
        imports = "from stockroom.discount import discounted"
        test_file("discount", "half_a_cent_is_rounded_up", imports, "self.assertEqual(discounted(999, 50), 500)")
    elif not tests_pass():  # what the attempt before has left is still in the worktree
        step(60, "the test of the attempt before fails: rounding")
        replace("stockroom/discount.py", "int(cents * (100 - percent) / 100)", "(cents * (100 - percent) + 50) // 100")
    finish("Discounts")


def sort_items():
    """Items in order of price. The review finds something."""
    if FEEDBACK:
        step(50, f"the review says: {FEEDBACK}")
        replace("stockroom/sort.py", "    return", '    """The items, the cheapest first."""\n    return')
    else:
        step(40, "writing sort.py")
        write(
            "stockroom/sort.py",
            '"""Order."""\n\n\ndef by_price(stock):\n'
            "    return sorted(stock.items.values(), key=lambda item: item.price)\n",
        )
        test_file(
            "sort",
            "the_cheapest_comes_first",
            "from stockroom.sort import by_price\nfrom stockroom.stock import Stock",
            'stock = Stock()\n        stock.add("b", price=2)\n        stock.add("a", price=1)\n'
            '        self.assertEqual([item.name for item in by_price(stock)], ["a", "b"])',
        )
    finish("Sort by price")


def exchange_rates():
    """Exchange rates. The service that has them is busy at first."""
    busy = Path("build/busy")  # stands for the service's answer; build/ is ignored by git
    if not busy.exists():
        write(busy, "")
        until = datetime.now(UTC) + timedelta(seconds=1 + 10 * float(os.environ.get("DEMO_PACE", "1")))
        say("defer", until=until.isoformat(), reason="the exchange rate service is busy")
        sys.exit(75)  # "try again later": not a failure
    step(50, "the service answers")
    write("stockroom/rates.py", '"""Exchange rates of the euro."""\n\nRATES = {"USD": 1.09, "JPY": 163.2}\n')
    finish("Exchange rates")


def bulk_import():
    """Import a catalogue of 60,000 lines, piece by piece."""
    sys.path.insert(0, ".")
    from stockroom.stock import Stock

    stock, pieces = Stock(), 20
    for piece in range(pieces):
        for number in range(3_000):
            stock.add(f"part {piece * 3_000 + number}", price=number % 500, count=1)
        say("progress", percent=100 * piece // pieces, step=f"{len(stock.items):,} items", iteration=piece + 1)
        print(f"{len(stock.items)} items, worth {stock.total()}", flush=True)
        think()
    write("catalogue.md", f"# Catalogue\n\n{len(stock.items):,} items, worth {stock.total():,} cents.\n")
    finish("The catalogue")


# -- two that declare that they touch the same file: they run one after the other


def search_by_name():
    """Find items by a part of their name."""
    step(40, "changing search.py")
    append(
        "stockroom/search.py",
        '\n\ndef named(stock, part):\n    """The items with this in their name."""\n'
        "    return [item for item in stock.items.values() if part in item.name]\n",
    )
    # A real agent is slow by itself. This one goes on until the other one stands behind it.
    deadline = time.monotonic() + 60
    while status_of("search-by-count") == "READY" and time.monotonic() < deadline:
        time.sleep(0.2)
    finish("Search by name")


def search_by_count():
    """Find items that run out."""
    step(40, "changing search.py")
    append(
        "stockroom/search.py",
        '\n\ndef fewer_than(stock, count):\n    """The items of which fewer are left."""\n'
        "    return [item for item in stock.items.values() if item.count < count]\n",
    )
    finish("Search by count")


# -- two with the label `benchmark`, of which one may run at a time


def benchmark(name, statement):
    step(50, "measuring")
    sys.path.insert(0, ".")
    seconds = min(timeit.repeat(statement, repeat=3, number=20_000)) / 20_000
    write(f"benchmarks/{name}.md", f"`{statement.splitlines()[-1]}` takes {seconds * 1e9:.0f} ns.\n")
    commit(f"Measure {name}")


def benchmark_money():
    """How long format_price takes."""
    benchmark("money", "from stockroom.money import format_price\nformat_price(123456)")


def benchmark_stock():
    """How long Stock.add takes."""
    benchmark("stock", "from stockroom.stock import Stock\nStock().add('nail', 2)")


CHANGES = {
    "currency-symbol": currency_symbol,
    "price-report": price_report,
    "csv-export": csv_export,
    "changelog": changelog,
    "date-format": date_format,
    "drop-legacy": drop_legacy,
    "title-formal": title_formal,
    "title-short": title_short,
    "discount": discount,
    "sort-items": sort_items,
    "exchange-rates": exchange_rates,
    "bulk-import": bulk_import,
    "search-by-name": search_by_name,
    "search-by-count": search_by_count,
    "benchmark-money": benchmark_money,
    "benchmark-stock": benchmark_stock,
}
