"""What rowmill is measured by, beside its opponents; never part of the tests."""
