"""Two classes with names, in rows without days: whether a tumour is malignant."""
