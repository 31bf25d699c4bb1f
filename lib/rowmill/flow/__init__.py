"""The way through the notebooks: what is declared, what is still good, what was run, and when."""
