"""From an exported model to an address that answers; deploy and roll back."""
