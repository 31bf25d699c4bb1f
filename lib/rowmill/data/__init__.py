"""Where labelled rows come from, where they are kept, and how they become arrays."""
