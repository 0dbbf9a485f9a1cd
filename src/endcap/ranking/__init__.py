"""The order in which candidates are shown: what an item is, which may be shown, variety, and why it is shown."""
