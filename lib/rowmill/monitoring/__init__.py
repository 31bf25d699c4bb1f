"""What serves, watched: its requests, their drift, the truth that arrives later, and rows scored in batches."""
