"""The other side of each comparison, each in its own idiom: what a user would write without fastnn."""
