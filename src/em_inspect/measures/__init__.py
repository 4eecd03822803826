"""Measures beside misalignment: honesty, insecure code, choices, reasoning, and paired arms."""
