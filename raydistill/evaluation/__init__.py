"""Quality measures: features, distances, scores and their intervals."""
