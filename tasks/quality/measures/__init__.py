"""The measures: each a class in a file of its own, found because it stands in this folder."""
