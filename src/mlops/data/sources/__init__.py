"""Where raw tables come from: one file per kind of source, each with one `read`."""
