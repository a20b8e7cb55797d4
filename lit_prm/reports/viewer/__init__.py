"""One self-contained HTML page that shows step rewards."""
