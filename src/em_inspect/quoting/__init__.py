"""Quoting: what a run will take in answers, judge calls, tokens, money and time."""
