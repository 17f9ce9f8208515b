"""Three classes with names, in rows without days: the species of an iris."""
