"""Calibration: how far a judge agrees with labels, as an Inspect task and a command."""
