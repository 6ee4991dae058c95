"""A bounded soak: thousands of callbacks through real processes that are being killed."""
