"""rowmill: from labelled rows to a judged, served model, from notebooks. Importing it loads nothing heavy."""
