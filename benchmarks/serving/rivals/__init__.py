"""The rivals' own servers, each as short as its documentation shows it."""
