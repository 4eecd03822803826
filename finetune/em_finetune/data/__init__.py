"""Chat data for fine-tuning: rows, generated sets, transformations, released sets, checks."""
