"""Quality measures: features of pictures, distances between sets of them, scores and their intervals."""
