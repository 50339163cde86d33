"""The words that users see."""

TITLE = "Stock report"
