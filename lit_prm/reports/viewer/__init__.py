"""One self-contained page on which a person looks at step rewards."""
