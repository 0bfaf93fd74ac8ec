"""From numbers to conclusions: comparison, validity, how many seeds. Built on scores and distances; knows no model."""
