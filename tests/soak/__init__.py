"""A bounded soak: thousands of callbacks through the real processes while these are killed."""
