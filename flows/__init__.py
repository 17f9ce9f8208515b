"""When and where: thin Prefect flows over the machinery in `mlops`."""
