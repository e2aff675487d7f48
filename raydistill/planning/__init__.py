"""What a sweep will do and need, known before anything is trained."""
