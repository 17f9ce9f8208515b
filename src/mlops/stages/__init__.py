"""One verb per file: each reads files, writes files and returns a small typed result."""
