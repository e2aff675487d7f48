"""One sweep from its first check to its report."""
