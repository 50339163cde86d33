"""The old way to count. Nothing uses it any more."""


def count_all(items):
    total = 0
    for item in items:
        total = total + item.count
    return total
